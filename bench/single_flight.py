"""One model that nobody has loaded, and many callers at once: how often it is loaded, and how long all take.

    python -m bench.single_flight [callers] [processes]

An engine serves a model with the speed of a small real one; each row begins with nothing loaded. `alone` is one caller
by itself, so the rest of a row's time is what the others' answers take. Budget: one load per row, everybody answered.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.tiny_gguf_scripted import scripted_model

from lmstrix import AsyncLMStrix, EmbeddedEngine, LMStrix, LMStrixError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine.records import LogEvent

MODEL, QUESTION = "scripted", "2+3="


class Row(NamedTuple):
    """One way to ask, by so many at once."""

    way: str
    callers: int
    answered: int
    loads: int
    total_s: float


async def tasks(address: str, home: Path, callers: int, ttl_s: float) -> int:
    """Callers on one loop; how many were answered."""
    async with AsyncLMStrix(server=address, home=home) as lms:
        asked = (lms.infer(QUESTION, MODEL, ttl_s=ttl_s) for _ in range(callers))
        answers = await asyncio.gather(*asked, return_exceptions=True)
    return sum(not isinstance(answer, BaseException) for answer in answers)


def threads(address: str, home: Path, callers: int) -> int:
    """Callers in threads, each with an LMStrix of its own."""

    def ask(_: int) -> bool:
        with LMStrix(server=address, home=home) as lms:
            try:
                return bool(lms.infer(QUESTION, MODEL).text)
            except LMStrixError:
                return False

    with ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(ask, range(callers)))


def processes(address: str, home: Path, callers: int) -> int:
    """Commands started at once."""
    environment = {**os.environ, "LMSTRIX_HOME": str(home), "LMSTRIX_SERVER": address}
    command = [sys.executable, "-m", "lmstrix", "infer", QUESTION, "-m", MODEL, "--quiet"]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(callers)]
    return sum(process.wait() == 0 for process in started)


def main(callers: int, some: int) -> int:
    """Print the table; 1 where a row took more than one load, or left somebody without an answer."""
    loads: set[str] = set()

    def note(event: LogEvent) -> None:
        # What llama.cpp says while it loads; every load names its instance anew.
        if event.type == "runtime.log" and event.identifier is not None:
            loads.add(event.identifier)

    with tempfile.TemporaryDirectory() as folder:
        models_dir, home = Path(folder) / "models", Path(folder) / "home"
        repository = models_dir / "bench" / MODEL
        repository.mkdir(parents=True)
        shutil.copy(scripted_model(n_layers=16, feed_forward=2048), repository / f"{MODEL}.gguf")
        with EmbeddedEngine(models_dir, on_log=note) as engine:
            address = engine.address
            ways: list[tuple[str, int, Callable[[int], int]]] = [
                ("alone", 1, lambda n: asyncio.run(tasks(address, home, n, 300.0))),
                ("tasks", callers, lambda n: asyncio.run(tasks(address, home, n, 300.0))),
                ("tasks, --ttl 0", callers, lambda n: asyncio.run(tasks(address, home, n, 0.0))),
                ("threads", some, lambda n: threads(address, home, n)),
                ("processes", some, lambda n: processes(address, home, n)),
            ]
            rows = []
            with LMStrix(server=address, home=home) as lms:
                lms.scan()
                for way, count, ask in ways:
                    loads.clear()
                    began_at = time.perf_counter()
                    answered = ask(count)
                    rows.append(Row(way, count, answered, len(loads), time.perf_counter() - began_at))
                    lms.unload()
    print(f"{'way':<16}{'callers':>8}{'answered':>10}{'loads':>7}{'total s':>9}")
    for row in rows:
        print(f"{row.way:<16}{row.callers:>8}{row.answered:>10}{row.loads:>7}{row.total_s:>9.2f}")
    return 0 if all(row.loads == 1 and row.answered == row.callers for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in [*sys.argv[1:], "50", "5"][:2])))
