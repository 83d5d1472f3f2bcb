# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands that measure: benchmarks, their reports and history, and the power this machine uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.kinds import AllModels, Counts, Percent, Seconds, TokenCounts, Tokens
from lmstrix.cli.options import LOAD_FLAGS, AgainstLoadOptions, LoadOptions, TrafficOptions, prompt_text
from lmstrix.ground.choices import BenchTask, ReportFormat
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.ranges import COUNT, RANGES, SEED, TEMPERATURE
from lmstrix.ground.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.compare import BenchComparison
    from lmstrix.core.benchmark.records import BenchRequest


def bench(
    cli: CommandLine,
    /,
    *models: str,
    all_models: AllModels = False,
    runs: Annotated[int, RANGES["runs"]] = 6,
    context_tiers: TokenCounts = (0,),
    max_tokens: Tokens = 256,
    task: BenchTask = "story",
    prompt: str | None = None,
    file_prompt: str | None = None,
    concurrency: Counts | None = None,
    power: bool = True,
    power_interval: Seconds = 0.1,
    cold: bool = False,
    budget: Seconds | None = None,
    temperature: Annotated[float, TEMPERATURE] = 0.0,
    seed: Annotated[int, SEED] = 0,
    resume: bool = False,
    out: str | None = None,
    save: bool = True,
    against: str | None = None,
    blocks: Annotated[int, RANGES["blocks"]] = 12,
    fail_on: Percent | None = None,
    targets: str | None = None,
    traffic: TrafficOptions,
    load: Annotated[LoadOptions, LOAD_FLAGS],
    against_load: AgainstLoadOptions,
) -> None:
    """Measure models: load time, first token, speeds, memory, energy; writes a report with a page.

    Also: bench compare A B, bench report NAME, bench history. A server that speaks OpenAI's interface is measured
    with --server openai:http://127.0.0.1:8080/v1.

    Whether B is really slower than A: bench A --against B measures both in turns, so that what slows the machine down
    for a while hits both. B may be A with other load settings: --against A --against-k-cache-type q8_0.

    How much traffic a model can serve: --rate 0.5,1,2 sends that many requests per second, --sweep finds the rate at
    which the server no longer keeps up. Each model is then loaded once and asked one request at a time first.

    Args:
        models: The models to measure; tag:NAME for all that have this tag.
        all_models: Measure every model that generates text.
        runs: Most runs of a cell (a model at one context and concurrency); an interval needs six. With --against at
            least one per block.
        context_tiers: Context lengths to fill, such as 0,4k,16k; 0 is the prompt alone.
        max_tokens: Most tokens of an answer.
        task: What to ask for; html makes a gallery of pages.
        prompt: Ask this instead.
        file_prompt: The same, read from a file.
        concurrency: Requests at a time, such as 1,4; of --rate and --sweep how many the model is loaded to answer at
            the same time (4).
        power: Measure energy, where a source can be read (--no-power: do not look for one).
        power_interval: How often to read power between the moments of a run, such as 100ms.
        cold: Drop a model's files from the file cache before loading it, where the system can.
        budget: Limit of the whole benchmark; a run that goes on at its end is cut off, what is not reached is told.
        temperature: Sampling temperature.
        seed: Seed of the prompts' texts, and of when requests of a --rate arrive.
        resume: Go on with the last benchmark that asked the same and was interrupted, or ended by its --budget.
        out: Folder of the report; without it a new one in the LMStrix home.
        save: Write the report and the history (--no-save: only show what was found).
        against: Measure this model, or the same one again, in turns with the first, and compare both.
        blocks: Times both sides of a comparison are loaded and measured; ten at least find anything.
        fail_on: With --against, exit with 1 if a figure is really worse by more than this, such as 5%.
        targets: Measure the servers of this TOML file side by side, in one report. For each a [[target]] with name and
            address, and where needed key_variable (the environment variable with its token), models and leave_out.
    """
    from lmstrix.core.benchmark.against import compare_sides
    from lmstrix.core.benchmark.records import BenchRequest
    from lmstrix.reports.bench.terminal import BenchProgressLine, show_bench
    from lmstrix.service.benching import BenchOptions

    if targets is None and bool(models) == all_models:
        raise UsageError("bench needs MODELS or --all (lmstrix list shows the models)")
    if against is None and (fail_on is not None or against_load != AgainstLoadOptions()):
        raise UsageError("--fail-on and the options of side B compare two sides: name the second with --against")
    side_a = load.config()
    prompt = prompt_text(prompt, file_prompt)
    sends_traffic = traffic.rate is not None or traffic.sweep
    request = BenchRequest(
        runs=runs,
        tiers=context_tiers,
        # LM Studio's own number of slots, where traffic is to be served.
        concurrency=concurrency or ((4,) if sends_traffic else (1,)),
        # A prompt of the user's own makes its report comparable with no other task's.
        task=task if prompt is None else "custom",
        prompt=prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        budget_s=budget,
        cold=cold,
        load=side_a,
        against=against,
        against_load=against_load.over(side_a),
        blocks=blocks,
    )
    folder = Path(out).expanduser() if out is not None else None
    if targets is not None:
        named = models or all_models or cli.common.server is not None or against is not None
        if named or sends_traffic or resume or not save:
            raise UsageError(
                "--targets names servers and models itself: no MODELS, --all, --server, --against, --resume, --no-save "
                "or --rate"
            )
        _measure_targets(cli, Path(targets).expanduser(), request, folder)
        return
    if sends_traffic:
        if resume or cold or not save or against is not None:
            raise UsageError("--rate and --sweep know no --resume, --cold, --no-save and --against; leave them out")
        _send_traffic(cli, models, request, traffic, folder)
        return
    if traffic.span is not None or traffic.goodput is not None:
        raise UsageError("--span and --goodput are about traffic; give --rate 0.5,1,2 or --sweep too")
    options = BenchOptions(
        models=models,
        request=request,
        out=folder,
        power=power,
        power_interval_s=power_interval,
        resume=resume,
        save=save,
    )
    with BenchProgressLine(cli.console) as progress:
        outcome = cli.service.bench(options, on_event=progress.show).measure(cli.run)
    comparison = compare_sides(outcome.report) if against is not None else None
    show_bench(cli.console, outcome.report, outcome.index, comparison)
    _end(outcome.failed, len(outcome.report.cells), interrupted=outcome.report.interrupted)
    if comparison is not None:
        _fail_on(comparison, fail_on)


def _end(failed: Sequence[str], measured: int, *, interrupted: bool) -> None:
    if interrupted:
        raise KeyboardInterrupt  # what was measured is reported, and the process still ends as one interrupted: 130
    if failed:
        raise LMStrixError(f"{len(failed)} of {measured} failed; {failed[0]}")


def _measure_targets(cli: CommandLine, file: Path, request: BenchRequest, out: Path | None) -> None:
    from lmstrix.reports.bench.servers import TargetsProgressLine, show_servers
    from lmstrix.reports.bench.terminal import show_bench
    from lmstrix.service.bench_targets import BenchTargetsOptions

    options = BenchTargetsOptions(file=file, request=request, out=out)
    with TargetsProgressLine(cli.console) as progress:
        outcome = cli.service.bench_targets(options, on_event=progress.show).measure(cli.run)
    show_bench(cli.console, outcome.report, outcome.index)
    if not cli.console.json:
        show_servers(cli.console, outcome.report)
    _end(outcome.failed, len(outcome.report.cells), interrupted=outcome.report.interrupted)


def _send_traffic(
    cli: CommandLine, models: tuple[str, ...], request: BenchRequest, traffic: TrafficOptions, out: Path | None
) -> None:
    from lmstrix.core.benchmark.goodput import LatencyTargets
    from lmstrix.core.benchmark.traffic_records import TrafficRequest
    from lmstrix.reports.traffic.terminal import TrafficProgressLine, show_traffic
    from lmstrix.service.traffic_testing import TrafficTestOptions

    limits = traffic.goodput or {}
    asked = TrafficRequest(
        rates_per_s=traffic.rate or (),
        sweep=traffic.sweep,
        span_s=traffic.span,
        targets=LatencyTargets(ttft_s=limits.get("ttft"), itl_s=limits.get("itl"), e2e_s=limits.get("e2e")),
        bench=request,
    )
    options = TrafficTestOptions(models=models, request=asked, out=out)
    with TrafficProgressLine(cli.console) as progress:
        outcome = cli.service.bench_traffic(options, on_event=progress.show).measure(cli.run)
    show_traffic(cli.console, outcome.report, outcome.index)
    _end(outcome.failed, len(outcome.report.results), interrupted=outcome.report.interrupted)


def compare(cli: CommandLine, /, first: str, second: str | None = None, *, fail_on: Percent | None = None) -> None:
    """Compare two benchmarks: differences with intervals, and whether they are real.

    Two sessions differ by what the machine did meanwhile: only what lies beyond the differences of earlier sessions of
    the same thing is real. Small differences are found by measuring both in turns: bench A --against B.

    Args:
        first: A report's folder, its report.json, its session (or the beginning of it), or last.
        second: The one to hold against it; without it, the two sides of a report of bench --against.
        fail_on: Exit with 1 if a figure is really worse by more than this, such as 5%.
    """
    from lmstrix.reports.bench.terminal import show_comparison

    comparison = cli.service.compare_benches(first, second)
    show_comparison(cli.console, comparison)
    _fail_on(comparison, fail_on)


def _fail_on(comparison: BenchComparison, limit_ratio: float | None) -> None:
    """Raise if something is worse by more than the limit, at the near end of its interval."""
    worse = comparison.regressions(limit_ratio) if limit_ratio is not None else ()
    if limit_ratio is None or not worse:
        return
    worst = max(worse, key=lambda one: one.least_worsening_ratio)
    raise LMStrixError(
        f"{counted(len(worse), 'figure')} worse by more than {limit_ratio * 100:g}%: {worst.figure} of {worst.cell} by "
        f"at least {worst.least_worsening_ratio:.1%}"
    )


def report(cli: CommandLine, /, name: str, *, format: ReportFormat = "html", out: str | None = None) -> None:  # noqa: A002 - the option is --format
    """Write a benchmark's page again, or print it in another format.

    Args:
        name: A report's folder, its report.json, its session (or the beginning of it), or last.
        format: html writes the whole folder; the others go to stdout.
        out: Folder to write the page to, or file for the other formats.
    """
    from lmstrix.reports.bench.formats import show_format

    place = Path(out).expanduser() if out is not None else None
    found_traffic = cli.service.find_traffic(name)
    if found_traffic is not None:
        from lmstrix.reports.traffic.formats import show_traffic_format

        show_traffic_format(cli.console, found_traffic, format=format, out=place, folder=Path(name).expanduser())
        return
    # A page is a folder of files; it cannot go to stdout as the other formats do.
    if format == "html" and not cli.common.json:
        index = cli.service.rewrite_bench(name, place)
        cli.console.note(f"report: {index}")
        return
    found = cli.service.find_bench(name)
    show_format(cli.console, found, format=format, out=place)


def history(cli: CommandLine, /, model: str | None = None, *, last: Annotated[int, COUNT] = 20) -> None:
    """List the benchmarks made here, newest first.

    Args:
        model: Only those of this model.
        last: How many lines.
    """
    from lmstrix.reports.bench.terminal import show_history

    runs = cli.service.bench_history(model=model, last=last)
    show_history(cli.console, runs)


def power(cli: CommandLine, /, *, watch: Seconds = 2.0) -> None:
    """Show what this machine tells of its power, for so long, and what would make it tell more.

    Args:
        watch: How long to measure.
    """
    from lmstrix.reports.machine import show_power

    report = cli.run(cli.service.power(watch))
    show_power(cli.console, report.states, report.channels, report.span_s)
