"""Context searches compared over a fleet of models on simulated machines: loads, failures, overshoot, gap, time.

    python -m bench.context_search [--draws 3] [--seed 0] [--quick] [--write docs]

A draw is 7 machines of 8 to 128 GiB with 77 models each; `--quick` is one draw. `--write` puts the tables into
`optimizer.md` of a folder, and a plot of scenario A beside it. Columns: loads, failing loads and prefills, severe ones
(more than 10 % over the budget), gap (how far the answer stays below the true limit), unsafe (answers above it), time.
simulated_worlds.py says what is assumed.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Literal, NamedTuple

from bench.context_peers import PEERS, ours
from bench.simulated_worlds import RAM_GIB, Bench, machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.simulated_worlds import Scenario, World

    from lmstrix.core.context.machine_belief import MachineBelief
    from lmstrix.ground.choices import Precision

Fits = Literal["all", "part", "none"]
"""How much of the declared context a world has room for."""


class Ours(NamedTuple):
    """A belief search: its precision, whether it carries over what models taught, and whether it reads memory."""

    precision: Precision
    carries: bool = True
    reads_memory: bool = True


OURS = {
    "belief search, safe": Ours("safe"),
    "belief search, balanced": Ours("balanced"),
    "belief search, tight": Ours("tight"),
    "belief search, exhaustive": Ours("exhaustive"),
    "balanced, no other model tested": Ours("balanced", carries=False),
}
WITHOUT_READINGS = "balanced, no memory read"
MISREAD = {
    "belief search, balanced": Ours("balanced"),
    "balanced, no other model tested": Ours("balanced", carries=False),
    WITHOUT_READINGS: Ours("balanced", carries=False, reads_memory=False),
}
ALL_OURS = OURS | MISREAD
MISREAD_RATIOS = (0.7, 0.85, 1.15, 1.3, 2.0, 4.0, 8.0, 30.0)
SHRINKING = "0.4 times after a failure, log bisection"


@dataclass(frozen=True, slots=True)
class Row:
    """One search in one world."""

    algorithm: str
    fits: Fits
    loads: int
    failing: int
    severe: int
    gap_ratio: float
    unsafe: bool
    time_s: float
    decisions_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One machine to run algorithms on."""

    seed: int
    scenario: Scenario
    draw: int
    ram_gib: int
    lazy: bool
    algorithms: tuple[str, ...]
    misread_ratio: float = 1.0


def run(job: Job) -> list[Row]:
    """All models on one machine, by every algorithm. Ours carries over what it learns from model to model."""
    rows = []
    worlds = machine(
        seed=job.seed,
        scenario=job.scenario,
        draw=job.draw,
        ram_gib=job.ram_gib,
        lazy=job.lazy,
        misread_ratio=job.misread_ratio,
    )
    limits = [world.limit() for world in worlds]
    for algorithm in job.algorithms:
        learned: MachineBelief | None = None
        for world, limit in zip(worlds, limits, strict=True):
            if not limit and world.model.shape.file_bytes > world.ram_bytes:
                continue  # nobody would try
            bench = Bench(world)
            if algorithm in ALL_OURS:
                precision, carries, reads_memory = ALL_OURS[algorithm]
                found, taught = ours(bench, learned, precision, reads_memory=reads_memory)
                learned = taught if carries else None
            else:
                found = PEERS[algorithm](bench)
            rows.append(_row(algorithm, bench, world, limit, found))
    return rows


def _row(algorithm: str, bench: Bench, world: World, limit: int, found: int) -> Row:
    return Row(
        algorithm=algorithm,
        fits="none" if not limit else "all" if limit == world.declared else "part",
        loads=bench.loads,
        failing=bench.failing,
        severe=bench.severe,
        gap_ratio=max(0.0, 1 - found / limit) if limit else 0.0,
        unsafe=found > limit,
        time_s=bench.time_s,
        decisions_s=tuple(bench.decisions_s),
    )


def quantile(values: Iterable[float], ratio: float) -> float:
    """The value at `ratio` of the sorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(ratio * len(ordered)))]


MARKERS = ("<!-- figures -->", "<!-- end of figures -->")
HEADER = (
    "| algorithm | loads p50/p95 | failing mean | severe mean | gap p50/p95/mean | unsafe | time p50/p95 |\n"
    "|---|---|---|---|---|---|---|"
)


def line(algorithm: str, rows: Sequence[Row]) -> str:
    """One row of the table."""
    gaps = [100 * row.gap_ratio for row in rows]
    loads = [row.loads for row in rows]
    times = [row.time_s for row in rows]
    return (
        f"| {algorithm} | {median(loads):.0f} / {quantile(loads, 0.95):.0f} | {mean(row.failing for row in rows):.3f} "
        f"| {mean(row.severe for row in rows):.4f} "
        f"| {median(gaps):.1f} / {quantile(gaps, 0.95):.1f} / {mean(gaps):.1f} % "
        f"| {100 * mean(row.unsafe for row in rows):.1f} % | {median(times):,.0f} / {quantile(times, 0.95):,.0f} s |"
    )


MISREAD_HEADER = (
    "| budget read | algorithm | loads p50/p95 | failing mean/most | gap p50/p95 | nothing found | time p50 |\n"
    "|---|---|---|---|---|---|---|"
)


def misread_line(ratio: float, algorithm: str, rows: Sequence[Row]) -> str:
    """One row of the table of misread budgets."""
    gaps = [100 * row.gap_ratio for row in rows]
    loads = [row.loads for row in rows]
    failing = [row.failing for row in rows]
    nothing = sum(gap == 100 for gap in gaps)
    return (
        f"| x {ratio:g} | {algorithm} | {median(loads):.0f} / {quantile(loads, 0.95):.0f} "
        f"| {mean(failing):.2f} / {max(failing)} | {median(gaps):.1f} / {quantile(gaps, 0.95):.1f} % "
        f"| {nothing} of {len(rows)} | {median(row.time_s for row in rows):,.0f} s |"
    )


def table(rows: Sequence[Row], algorithms: Sequence[str], fits: Fits) -> str:
    """The table of the worlds that have room for `fits` of the declared context."""
    chosen = [row for row in rows if row.fits == fits]
    lines = [HEADER]
    for algorithm in algorithms:
        of_algorithm = [row for row in chosen if row.algorithm == algorithm]
        if of_algorithm:
            lines.append(line(algorithm, of_algorithm))
    return "\n".join(lines)


def plot(rows: Sequence[Row], algorithms: Sequence[str]) -> str:
    """Failing probes against the median gap, an SVG: down and left is better."""
    width, height, left, bottom = 760, 460, 70, 380
    biggest_gap, biggest_failing = 80.0, 7.0

    def x(gap_percent: float) -> float:
        return left + (width - left - 20) * min(gap_percent, biggest_gap) / biggest_gap

    def y(failing: float) -> float:
        return bottom - (bottom - 30) * math.sqrt(min(failing, biggest_failing) / biggest_failing)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        "<title>Failing probes against the gap below the true limit</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for failing in (0, 0.1, 0.5, 1, 2, 4, 7):
        parts.append(f'<line x1="{left}" x2="{width - 20}" y1="{y(failing):.1f}" y2="{y(failing):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(failing) + 4:.1f}" text-anchor="end" fill="#555">{failing:g}</text>')
    parts += [
        f'<text x="{x(gap):.1f}" y="{bottom + 44}" text-anchor="middle" fill="#555">{gap} %</text>'
        for gap in range(0, 81, 10)
    ]
    parts.append(f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">median gap below the true limit</text>')
    parts.append(
        f'<text x="18" y="{bottom / 2}" text-anchor="middle" transform="rotate(-90 18 {bottom / 2})">'
        "failing probes per model (root scale)</text>"
    )
    points = []
    for algorithm in algorithms:
        chosen = [row for row in rows if row.algorithm == algorithm and row.fits == "part"]
        gap, failing = 100 * median(row.gap_ratio for row in chosen), mean(row.failing for row in chosen)
        points.append((y(failing), x(gap), algorithm))
    label_y = 0.0
    for point_y, point_x, algorithm in sorted(points):
        label_y = max(label_y + 14, point_y + 4)  # labels side by side would overlap
        colour = "#0a7" if algorithm in OURS else "#c53"
        anchor, shift = ("end", -8) if point_x > 0.6 * width else ("start", 8)
        parts.append(f'<circle cx="{point_x:.1f}" cy="{point_y:.1f}" r="5" fill="{colour}"/>')
        parts.append(
            f'<text x="{point_x + shift:.1f}" y="{label_y:.1f}" text-anchor="{anchor}" fill="{colour}">'
            f"{algorithm}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def write_figures(page: Path, figures: str) -> None:
    """Put the tables between the page's markers."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    page.write_text(f"{before}{MARKERS[0]}\n\n{figures}\n\n{MARKERS[1]}{after}", encoding="utf-8")


def main() -> None:
    """Run every scenario and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    draws = 1 if options.quick else options.draws
    started = time.perf_counter()
    written: list[str] = []

    def say(text: str) -> None:
        print(text, flush=True)
        written.append(text)

    every = (*PEERS, *OURS)
    main_ones = tuple(name for name in every if "balanced" in name or "gallop" in name or "multi-step" in name)
    scenarios: list[tuple[str, Scenario, bool, tuple[str, ...]]] = [
        ("A: the formula is right, noise as assumed", "A", False, every),
        ("B: the formula is wrong by x0.65..x4 for a quarter of the architectures", "B", False, main_ones),
        ("C: more noise than assumed", "C", False, main_ones),
        ("D: an unsteady machine, on which loads that fit are killed", "D", False, (*main_ones, SHRINKING)),
        ("G: a guardrail that refuses what would fit", "G", False, (*main_ones, SHRINKING)),
        ("Lazy backend: the cache is taken as the prompt grows", "A", True, main_ones),
    ]
    decisions: list[float] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for title, scenario, lazy, algorithms in scenarios:
            jobs = [
                Job(options.seed, scenario, draw, ram, lazy, algorithms) for draw in range(draws) for ram in RAM_GIB
            ]
            rows = [row for found in pool.map(run, jobs) for row in found]
            decisions += [second for row in rows for second in row.decisions_s]
            counts = Counter(row.fits for row in rows if row.algorithm == algorithms[0])
            say(f"\n### {title}\n\nMemory limits the context ({counts['part']} worlds, seed {options.seed}):\n")
            say(table(rows, algorithms, "part"))
            if scenario == "A" and not lazy:
                say(f"\nThe declared context fits ({counts['all']} worlds):\n\n{table(rows, algorithms, 'all')}")
                say(f"\nThe model does not fit ({counts['none']} worlds):\n\n{table(rows, algorithms, 'none')}")
                if options.write:
                    (options.write / "optimizer.svg").write_text(plot(rows, every), encoding="utf-8")
        say(f"\n### The budget is misread\n\nMemory limits the context (seed {options.seed}):\n\n{MISREAD_HEADER}")
        for ratio in MISREAD_RATIOS:
            names = (SHRINKING, *MISREAD)
            jobs = [Job(options.seed, "A", draw, ram, False, names, ratio) for draw in range(draws) for ram in RAM_GIB]
            rows = [row for found in pool.map(run, jobs) for row in found if row.fits == "part"]
            decisions += [second for row in rows for second in row.decisions_s]
            for name in names:
                say(misread_line(ratio, name, [row for row in rows if row.algorithm == name]))
    milliseconds = [1000 * second for second in decisions]
    say(
        f"\n{len(decisions):,} decisions, CPU time median {median(milliseconds):.1f} ms, p99 "
        f"{quantile(milliseconds, 0.99):.1f} ms, maximum {max(milliseconds):.1f} ms."
    )
    print(f"{time.perf_counter() - started:.0f} s in all")
    if options.write:
        write_figures(options.write / "optimizer.md", "\n".join(written).strip())


if __name__ == "__main__":
    main()
