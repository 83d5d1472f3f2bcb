"""What doctor found of one model: its checks, as those of the machine, and what to change."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lmstrix.reports.json_form import json_form
from lmstrix.reports.machine import show_doctor
from lmstrix.reports.table import clean

if TYPE_CHECKING:
    from lmstrix.core.health import ModelReport
    from lmstrix.reports.console import Console


def show_model_report(console: Console, report: ModelReport) -> None:
    """All checks, and below them what to change."""
    if console.json:
        # The factor orders them, and may be infinite, which JSON cannot say.
        found = [json_form(each, without=("factor",)) for each in report.improvements]
        checks = [json_form(check) for check in report.checks]
        told = {"ok": report.ok, "checks": checks, "model_key": report.model_key}
        console.result("doctor", {**told, "figures": json_form(report.figures), "improvements": found})
        return
    show_doctor(console, report)
    sys.stdout.write("\nwhat to change, the greatest gain first\n" if report.improvements else "\nnothing to change\n")
    for number, each in enumerate(report.improvements, 1):
        sys.stdout.write(f"{number:>2}. {clean(each.gain)}\n    -> {clean(each.how)}\n")
