"""This machine on the terminal: what doctor found, the embedded engine, power sources, the version."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.reports.json_form import json_form
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from _typeshed import DataclassInstance

    from lmstrix.core.benchmark.power_sources import SourceState
    from lmstrix.core.health import DoctorReport
    from lmstrix.reports.console import Console


def show_version(console: Console, version: str) -> None:
    """The version."""
    if console.json:
        console.result("version", {"version": version})
    else:
        sys.stdout.write(f"lmstrix {version}\n")


def show_doctor(console: Console, report: DoctorReport) -> None:
    """All checks, each with its remedy where there is one."""
    if console.json:
        console.result("doctor", {"ok": report.ok, "checks": [json_form(check) for check in report.checks]})
        return
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        console.indented(f"{check.state:<8}{check.name:<{width}}  ", clean(check.found))
        if check.remedy:
            console.indented(f"{'':{8 + width}}  -> ", clean(check.remedy))


_CONTEXT_WORDS = {
    "asked": "as asked for",
    "tested": "tested",
    "reduced": "less than tested: that did not fit",
    "default": "the default",
}


class HeldRow(NamedTuple):
    """A loaded model: its name, its context in tokens, and where that length is from."""

    instance_id: str
    context_length: int
    context_source: str | None


def show_engine(
    console: Console,
    *,
    running: bool,
    address: str | None,
    pid: int | None,
    models_dir: Path | None,
    models: Sequence[HeldRow] | None = None,
) -> None:
    """Whether the embedded engine runs, where, and the `models` it holds, if that is known."""
    # Plain values, not the engine's own record: reports and engine stand on one level, and neither imports the other.
    if console.json:
        folder = str(models_dir) if models_dir else None
        held = None if models is None else [row._asdict() for row in models]
        result = {"running": running, "address": address, "pid": pid, "models_dir": folder, "models": held}
        console.result("engine", result)
    elif running:
        sys.stdout.write(f"the engine runs at {address} (process {pid}, models from {models_dir})\n")
        for row in models or ():
            words = _CONTEXT_WORDS.get(row.context_source or "", "")
            source = f" ({words})" if words else ""
            sys.stdout.write(f"  {clean(row.instance_id)}: context of {row.context_length:,} tokens{source}\n")
    else:
        sys.stdout.write("the engine is not running\n")
    # `engine run` goes on for hours after this; a script that waits for the address must get it now.
    sys.stdout.flush()


def show_engine_log(
    console: Console, lines: Iterable[str], parsed: Callable[[str], DataclassInstance], *, follow: bool
) -> None:
    """Lines of the engine's log, `parsed` for JSON; those of a log that is followed one by one, as they come."""
    if not console.json:
        for line in lines:
            console.text(line)
    elif follow:
        for line in lines:
            console.result_line("engine_log_line", json_form(parsed(line)))
    else:
        console.result("engine_logs", {"lines": [json_form(parsed(line)) for line in lines]})


def show_power(
    console: Console, states: Sequence[SourceState], channels: Sequence[tuple[str, float | None]], span_s: float
) -> None:
    """What the machine reports of its power use, and remedies for what it does not."""
    if console.json:
        measured = [{"channel": name, "power_w": watts} for name, watts in channels]
        sources = [json_form(state) for state in states]
        console.result("power", {"span_s": span_s, "channels": measured, "sources": sources})
        return
    if channels:
        columns = (Column(title="CHANNEL", shrink=True, keep=12), Column(title="POWER", right=True))
        rows = [(name, f"{watts:.2f} W" if watts is not None else "-") for name, watts in channels]
        console.table(columns, rows)
    else:
        console.note("this machine tells nothing of its power here; energy will be said not to be measured")
    # What is missing is told even where something measures: another source may cover more of the machine.
    for state in states:
        if not state.available:
            console.note(f"{state.name}: not available" + (f"; {state.remedy}" if state.remedy else ""))
