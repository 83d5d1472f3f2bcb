"""Whether `lmstrix bench A --against B` cries wolf, and whether it finds a slowdown of about 10 %.

    python -m bench.ab_comparison [pairs]

Real runs on the embedded engine. A/A: one model on both sides, on the machine as it is and beside a busy loop on every
core; a false alarm is any figure called better or worse, and a false failure any that `--fail-on 5%` fails. Apart:
two sessions one after the other, held against each other by `bench compare` without a history. Slowdown: side B has
wider feed-forward layers; it is found when its decode speed is called worse. Budgets, of 20 pairs: at most 1 false
alarm each; at least 19 slowdowns found. The quiet half wants a quiet machine; the load is told beside each row. A row
takes seven minutes. On two quiet cores 20 of 20 slowdowns were found and none of 20 A/A pairs was called different.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.tiny_gguf_scripted import scripted_model

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.core.benchmark.against import compare_sides
from lmstrix.core.benchmark.compare import compare
from lmstrix.core.benchmark.measuring import BenchServer
from lmstrix.core.benchmark.records import DEFAULT_BLOCKS, BenchReport, BenchRequest, BenchTarget
from lmstrix.core.benchmark.runner import Bench
from lmstrix.engine import EmbeddedEngine
from lmstrix.ground.types import ServerInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lmstrix.core.benchmark.compare import BenchComparison

PAIRS = 20
MOST_FALSE_ALARMS = 1
LEAST_FOUND = 19
FAIL_ON_RATIO = 0.05
DECODE = "decode_tokens_per_second"
CONTEXT_LENGTH = 1024
# Large enough that visits scatter by 2 to 3 %, as those of real models do; half as large, they scatter by 13 %.
LAYERS = 5
FEED_FORWARD = {"base": 2048, "slow": 2304}
RUNS_PER_VISIT = 2
REQUEST = BenchRequest(
    runs=RUNS_PER_VISIT * DEFAULT_BLOCKS, task="custom", prompt="Tell a story.", max_tokens=64, idle_s=0.0
)


@dataclass(slots=True)
class Tally:
    """What the pairs of one situation came to."""

    name: str
    pairs: int = 0
    real: int = 0
    failed: int = 0
    found: int = 0
    changes: list[float] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, comparison: BenchComparison) -> None:
        """Count one comparison."""
        decode = next(one for one in comparison.comparisons if one.figure == DECODE)
        self.pairs += 1
        self.real += any(one.verdict in ("better", "worse") for one in comparison.comparisons)
        self.failed += bool(comparison.regressions(FAIL_ON_RATIO))
        self.found += decode.verdict == "worse"
        self.changes.append(decode.change_ratio or 0.0)
        if decode.interval_ratio is not None:
            self.widths.append((decode.interval_ratio.high - decode.interval_ratio.low) / 2)

    @property
    def row(self) -> str:
        widths = f"{median(self.widths):.1%}" if self.widths else "-"
        return (
            f"{self.name:<18}{self.pairs:>6}{self.real:>12}{self.failed:>12}{self.found:>14}"
            f"{median(self.changes):>+14.1%}{widths:>10}{self.seconds / self.pairs:>12.1f}"
            f"{load_of_machine():>8}"
        )


HEAD = (
    f"{'situation':<18}{'pairs':>6}{'real':>12}{'fail at 5%':>12}{'decode worse':>14}{'decode change':>14}"
    f"{'+- about':>10}{'s per pair':>12}{'load':>8}"
)


class Rig:
    """An engine with both models, and benchmarks of pairs on it."""

    def __init__(self, folder: Path, engine: EmbeddedEngine) -> None:
        self._folder = folder
        self._engine = engine

    def in_turns(self, second: str, request: BenchRequest = REQUEST) -> BenchComparison:
        """The base model against `second`, in one session."""
        sides = [replace(self._target("base"), side="A"), replace(self._target(second), side="B")]
        return compare_sides(self._measure(sides, replace(request, against=second)))

    def apart(self, second: str) -> BenchComparison:
        """The base model and `second`, each in a session of six runs as `lmstrix bench` makes them."""
        request = replace(REQUEST, runs=6)
        first, other = (self._measure([self._target(name)], request) for name in ("base", second))
        return compare(first, other)

    def _measure(self, targets: Sequence[BenchTarget], request: BenchRequest) -> BenchReport:
        async def run() -> BenchReport:
            backend = AsyncLMStudioBackend(ServerInfo(address=self._engine.address, engine="embedded"))
            try:
                return await Bench(BenchServer.of(backend), targets, request, power_sources=()).run()
            finally:
                await backend.close()

        report = asyncio.run(run())
        if any(cell.outcome != "ok" for cell in report.cells):
            raise SystemExit(f"a benchmark failed: {[cell.reason for cell in report.cells]}")
        return report

    def _target(self, name: str) -> BenchTarget:
        path = path_of(name)
        return BenchTarget(
            model_key=name, path=path, tested_context_length=CONTEXT_LENGTH, files=(str(self._folder / path),)
        )


def path_of(name: str) -> str:
    return f"acme/{name}-GGUF/{name}-f16.gguf"


@contextmanager
def rig() -> Iterator[Rig]:
    """A running engine that serves both models."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model, width in FEED_FORWARD.items():
            file = folder / path_of(model)
            file.parent.mkdir(parents=True)
            shutil.copy(scripted_model(n_layers=LAYERS, feed_forward=width, context_length=CONTEXT_LENGTH), file)
        with EmbeddedEngine(folder, memory_limit=2**30) as engine:
            yield Rig(folder, engine)


def _spin() -> None:
    while True:
        pass


@contextmanager
def busy_cores() -> Iterator[None]:
    """A busy loop on every core."""
    loops = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(os.cpu_count() or 1)]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.join()


def measure(name: str, one_pair: Callable[[str], BenchComparison], second: str, pairs: int) -> Tally:
    """So many pairs."""
    tally = Tally(name)
    began = time.perf_counter()
    for _ in range(pairs):
        tally.add(one_pair(second))
    tally.seconds = time.perf_counter() - began
    print(tally.row, flush=True)
    return tally


def load_of_machine() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?"


def main(pairs: int) -> int:
    """Measure all situations, print one table; 1 if one is over its budget."""
    print(f"{os.cpu_count()} cores, load before: {load_of_machine()}\n{HEAD}", flush=True)
    with rig() as bench:
        bench.in_turns("base", replace(REQUEST, runs=1, blocks=1))  # files and libraries are read once
        slow = measure("10 % slower", bench.in_turns, "slow", pairs)
        equal = [measure("A/A", bench.in_turns, "base", pairs), measure("A/A, apart", bench.apart, "base", pairs)]
        with busy_cores():
            equal.append(measure("A/A, busy", bench.in_turns, "base", pairs))
            equal.append(measure("A/A, apart, busy", bench.apart, "base", pairs))
    over = [f"{one.name}: {one.real} false alarms" for one in equal if one.real > MOST_FALSE_ALARMS * pairs / PAIRS]
    if slow.found < LEAST_FOUND * pairs / PAIRS:
        over.append(f"only {slow.found} of {pairs} slowdowns found")
    print("; ".join(over) or "ok", f"(budget: {MOST_FALSE_ALARMS} false alarm, {LEAST_FOUND} found, of {PAIRS})")
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS))
