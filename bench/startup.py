"""Startup budgets: whole processes of `lmstrix --version`, `--help`, and `list` with 10 and 10,000 models.

    python -m bench.startup [runs] [the `lmstrix` of version 1]

Prints one table: median wall time, median processor time and peak memory of a process, beside the budget and the
earlier LMStrix 1.0.84 on the machine where the budgets were set. Given that program, its `--help` is measured in the
same run, and budgets in time are scaled by what it takes here, as machines differ. Wall time is judged where the
machine is quiet; where it is not, processor time is, which neighbours inflate less. The first row is the interpreter
alone, the floor that no command can go below; a `lmstrix` script that an older pip wrote adds 5 ms of its own to all
others, by importing `re`.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.registry import Cost, apart, fill_registry

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNS = 20
EARLIER_HELP_MS = 325.0
"""What `--help` of the earlier LMStrix took where the budgets were set."""


class Budget(NamedTuple):
    """A row: the command, its budget in wall time and peak memory, and what the earlier LMStrix took."""

    name: str
    words: tuple[str, ...]
    models: int
    wall_ms: float | None
    peak_mib: float | None
    earlier: str


BUDGETS = (
    Budget("python -c pass", (), 0, None, None, ""),
    Budget("lmstrix --version", ("--version",), 0, 15, None, "none"),
    Budget("lmstrix --help", ("--help",), 0, 80, None, "325 ms"),
    Budget("lmstrix test --help", ("test", "--help"), 0, 80, None, "314 ms"),
    Budget("lmstrix list (10)", ("list",), 10, 120, 35, "426 ms, 54 MB"),
    Budget("lmstrix list (10,000)", ("list",), 10_000, 1000, None, "7,048 ms, 135 MB"),
)


def launch(command: Sequence[str], home: Path) -> Cost:
    """One process from start to end, as lean as a shell starts it."""
    import time

    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LMSTRIX_HOME": str(home)}
    begin = time.perf_counter()
    with Path(os.devnull).open("wb") as nowhere:
        actions = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1), (os.POSIX_SPAWN_DUP2, nowhere.fileno(), 2)]
        child = os.posix_spawn(command[0], list(command), environment, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    wall_s = time.perf_counter() - begin
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    script = Path(sysconfig.get_path("scripts")) / "lmstrix"
    lmstrix = [str(script)] if script.exists() else [sys.executable, "-m", "lmstrix"]
    earlier = sys.argv[2] if len(sys.argv) > 2 else None
    earlier_help: list[float] = []
    print(f"{'process':<24}{'wall ms':>9}{'cpu ms':>9}{'peak MiB':>10}{'budget':>18}{'':>9}  earlier LMStrix")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        homes = {count: Path(folder) / str(count) for count in sorted({budget.models for budget in BUDGETS})}
        for count, home in homes.items():
            home.mkdir()
            if count:
                apart(fill_registry, home, count)
        commands = {
            budget: [*lmstrix, *budget.words] if budget.words else [sys.executable, "-c", "pass"] for budget in BUDGETS
        }
        costs: dict[Budget, list[Cost]] = {budget: [] for budget in BUDGETS}
        for _ in range(runs):  # interleaved, so that a noisy moment falls on all alike
            for budget, command in commands.items():
                costs[budget].append(launch(command, homes[budget.models]))
            if earlier is not None:
                earlier_help.append(launch([earlier, "--help"], homes[0]).wall_s * 1000)
        shutil.rmtree(folder, ignore_errors=True)
    scale = median(earlier_help) / EARLIER_HELP_MS if earlier_help else 1.0
    for budget in BUDGETS:
        failed += _row(budget, costs[budget], scale)
    if earlier_help:
        took_ms = median(earlier_help)
        print(f"--help of the earlier LMStrix took {took_ms:.0f} ms in this run: budgets in time are x {scale:.2f}")
    return 1 if failed else 0


def _row(budget: Budget, costs: list[Cost], scale: float) -> bool:
    """Print one row; whether its budget, in time times `scale`, is broken by the better of both clocks."""
    budget_ms = None if budget.wall_ms is None else budget.wall_ms * scale
    wall_ms = median(cost.wall_s for cost in costs) * 1000
    cpu_ms = median(cost.cpu_s for cost in costs) * 1000
    peak_mib = median(cost.peak_bytes for cost in costs) / 2**20
    wanted = [f"{budget_ms:,.0f} ms"] if budget_ms else []
    wanted += [f"{budget.peak_mib:g} MiB"] if budget.peak_mib else []
    over = budget_ms is not None and min(wall_ms, cpu_ms) > budget_ms
    over = over or (budget.peak_mib is not None and peak_mib > budget.peak_mib)
    verdict = "" if not wanted else "over" if over else "ok"
    print(
        f"{budget.name:<24}{wall_ms:>9.1f}{cpu_ms:>9.1f}{peak_mib:>10.1f}{', '.join(wanted):>18}{verdict:>9}"
        f"  {budget.earlier}"
    )
    return over


if __name__ == "__main__":
    sys.exit(main())
