"""What the registry holds, how its models are used, and what is wrong in it, on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lmstrix.ground.units import counted, format_bytes, format_seconds
from lmstrix.reports.json_form import json_form
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmstrix.core.history.trends import Trend
    from lmstrix.core.history.usage import ModelUsage
    from lmstrix.core.registry.checking import Finding
    from lmstrix.core.registry.keeping import RegistryStats
    from lmstrix.reports.console import Console

_USAGE = (
    Column(title="MODEL", shrink=True, keep=18),
    Column(title="CALLS", right=True),
    Column(title="BEFORE", right=True, drop=2),
    Column(title="FAILED", right=True),
    Column(title="FIRST TOKEN p50", right=True, drop=3),
    Column(title="p95", right=True, drop=4),
    Column(title="WHOLE p50", right=True, drop=5),
    Column(title="p95", right=True, drop=6),
    Column(title="DECODE p50", right=True),
    Column(title="BEFORE", right=True, drop=1),
    Column(title="TREND"),
)


def show_stats(console: Console, stats: RegistryStats) -> None:
    """Counts first, then a table of the calls."""
    if console.json:
        usage = [_usage_json(each) for each in stats.usage]
        console.result("registry-stats", {**json_form(stats), "usage": usage})
        return
    missing = f", and {stats.missing:,} missing" if stats.missing else ""
    sized = {f"{name} ({format_bytes(stats.quantization_bytes[name])})": n for name, n in stats.quantizations.items()}
    lines = [
        f"models         {stats.models:,}, {format_bytes(stats.size_bytes)}{missing}",
        f"status         {_tally(stats.status)}",
        f"formats        {_tally(stats.formats)}",
        f"quantization   {_tally(sized)}",
        f"results        {_tally(stats.results)}",
        f"tags           {_tally(stats.tags)}",
    ]
    console.text("\n".join(clean(line) for line in lines) + "\n")
    days = f"{stats.span_s / 86_400:g} days"
    if not stats.usage:
        console.note(f"no calls in the last {days}, nor in the {days} before")
        return
    console.text(f"\nin the last {days} (before: the {days} before)\n")
    console.table(_USAGE, [_usage_row(each) for each in stats.usage])


def _usage_json(usage: ModelUsage) -> dict[str, object]:
    trends = {"ttft_trend": json_form(usage.ttft_trend), "decode_trend": json_form(usage.decode_trend)}
    return {**json_form(usage), **trends}


def _usage_row(usage: ModelUsage) -> tuple[str, ...]:
    return (
        usage.model_key,
        f"{usage.calls:,}",
        f"{usage.calls_before:,}",
        f"{usage.failures:,}",
        format_seconds(usage.ttft_p50_s),
        format_seconds(usage.ttft_p95_s),
        format_seconds(usage.total_p50_s),
        format_seconds(usage.total_p95_s),
        _rate(usage.decode_p50_tokens_per_second),
        _rate(usage.decode_p50_before_tokens_per_second),
        _trend(usage.decode_trend),
    )


def _trend(trend: Trend) -> str:
    """A direction, by how much, and how many calls stand behind each side."""
    sides = f"({trend.calls:,} to {trend.calls_before:,})"
    if trend.change_ratio is None:
        return f"{trend.direction} {sides}"
    return f"{trend.direction} {trend.change_ratio:+.0%} {sides}"


def _rate(tokens_per_second: float | None) -> str:
    return "-" if tokens_per_second is None else f"{tokens_per_second:,.1f}/s"


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in counts.items()) or "none"


def show_findings(console: Console, findings: Sequence[Finding]) -> None:
    """What is wrong, what was mended, what is only worth knowing."""
    if console.json:
        console.result("registry-validate", {"findings": [json_form(finding) for finding in findings]})
        return
    for each in findings:
        state = "fixed" if each.fixed else "note" if each.is_note else "problem"
        console.indented(f"{state:<9}", clean(f"{each.path}: {each.detail}"))
    problems = sum(not each.is_note for each in findings)
    fixed = sum(each.fixed for each in findings)
    sys.stdout.write(f"{counted(problems, 'problem')}, {fixed:,} fixed, {counted(len(findings) - problems, 'note')}\n")
