"""Registry budgets: whole `lmstrix list` and `lmstrix scan` processes at 10, 1,000 and 10,000 models.

    python -m bench.registry [runs]

Prints one table: median wall and processor time of a process, and its peak memory. `scan (known)` finds every file in
the registry with its size and time, and must write nothing; `scan (new)` reads headers with a 151,936-token vocabulary.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from tests.support.tiny_gguf_bytes import HeaderBytes

from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.core.registry.store import RegistryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.registry.registry import ModelRegistry

SIZES = (10, 1_000, 10_000)
NEW_MODELS = 20
VOCABULARY_SIZE = 151_936


class Cost(NamedTuple):
    """What one process took: wall time, processor time, peak resident memory."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def run(home: Path, *words: str) -> Cost:
    """Run one lmstrix command to its end."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LMSTRIX_HOME": str(home),
        "LMSTRIX_SERVER": "embedded",
    }
    command = [sys.executable, "-m", "lmstrix", *words]
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed with exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def apart(work: Callable[..., None], *arguments: object) -> None:
    """Do work in another process: a measured process starts as a copy of this one, which must therefore stay small."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()


def path_of(number: int) -> str:
    return f"publisher-{number % 50}/model-{number}-GGUF/model-{number}-Q4_K_M.gguf"


def fill_registry(home: Path, count: int) -> None:
    """A registry of `count` models, each tested in two configurations."""

    def change(registry: ModelRegistry) -> None:
        registry.merge_scan(
            ModelFacts(
                path=path_of(number),
                model_key=f"model-{number}",
                size_bytes=4_000_000_000 + number,
                max_context_length=131_072,
                architecture="llama",
                quantization="Q4_K_M",
                params="7B",
                publisher=f"publisher-{number % 50}",
                mtime_ns=number,
                content_hash=f"{number:032x}",
            )
            for number in range(count)
        )
        for number in range(count):
            for engine in ("lmstudio", "embedded"):
                result = ContextResult(
                    configuration=Configuration(engine=engine),
                    outcome="ok",
                    tested_at=datetime.now(UTC),
                    loadable_context_length=32_768,
                    effective_context_length=30_000,
                    ttft_s=0.2,
                    decode_tokens_per_second=40.0,
                )
                registry.record_outcome(path_of(number), result)

    RegistryStore(home / "lmstrix.json").update(change)


def header(vocabulary_size: int) -> bytes:
    """A llama header with this many tokens."""
    tokens = [f"token-{number}" for number in range(vocabulary_size)]
    built = HeaderBytes().start(metadata=3).scalar("general.architecture", "string", "llama")
    built.scalar("llama.context_length", "uint32", 131_072).array("tokenizer.ggml.tokens", "string", tokens)
    return bytes(built.data)


def fill_models(home: Path, count: int, vocabulary_size: int) -> None:
    content = header(vocabulary_size)
    for number in range(count):
        file = home / "models" / path_of(number)
        file.parent.mkdir(parents=True)
        file.write_bytes(content)


def row(name: str, count: int, costs: list[Cost], per: int = 1) -> None:
    wall_ms = median(cost.wall_s for cost in costs) * 1000 / per
    cpu_ms = median(cost.cpu_s for cost in costs) * 1000 / per
    peak_mib = max(cost.peak_bytes for cost in costs) / 2**20
    print(f"{name:<22}{count:>8,}{wall_ms:>12.1f}{cpu_ms:>12.1f}{peak_mib:>12.1f}")


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print(f"{'command':<22}{'models':>8}{'wall ms':>12}{'cpu ms':>12}{'peak MiB':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for count in SIZES:
            home = Path(folder) / f"list-{count}"
            apart(fill_registry, home, count)
            row("list", count, [run(home, "list") for _ in range(runs)])
        for count in SIZES:
            home = Path(folder) / f"scan-{count}"
            apart(fill_models, home, count, 10)
            run(home, "scan")
            registry = home / "lmstrix.json"
            before = registry.stat().st_mtime_ns
            row("scan (known)", count, [run(home, "scan") for _ in range(runs)])
            if registry.stat().st_mtime_ns != before:
                raise SystemExit("scan wrote the registry though nothing had changed")
            shutil.rmtree(home)
        home = Path(folder) / "new"
        apart(fill_models, home, NEW_MODELS, VOCABULARY_SIZE)
        costs = []
        for _ in range(runs):
            (home / "lmstrix.json").unlink(missing_ok=True)
            costs.append(run(home, "scan"))
        row("scan (new), per model", NEW_MODELS, costs, per=NEW_MODELS)


if __name__ == "__main__":
    main()
