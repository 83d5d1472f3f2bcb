"""What a comparison says, row by row: for the terminal and for the page. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.reports.bench.view import DECODE, E2E, ENERGY, LOAD, METRICS, OUTPUT, PREFILL, TTFT, duration
from lmstrix.reports.json_form import json_form

if TYPE_CHECKING:
    from lmstrix.core.benchmark.compare import BenchComparison, Comparison

_MAIN = (*(metric.name for metric in (DECODE, PREFILL, TTFT, E2E, ENERGY)), "cold_load_s", "warm_load_s")
# Shown whatever the figure: a difference that is real must not hide behind --verbose.
_REAL = ("better", "worse")
# A wide interval has room for a difference that nothing was found of.
_VERDICTS = {"no difference": "none found"}
_FIRST_AND_SECOND = {"blocks": ("A", "B"), "sessions": ("first", "second")}
_FIGURES = {metric.name: metric for metric in (*METRICS, OUTPUT)}
_FIGURE_NAMES = {
    "cold_load_s": f"{LOAD.title}, cold",
    "warm_load_s": f"{LOAD.title}, warm",
    "ttft_s": TTFT.title,
    "e2e_s": E2E.title,
    "prefill_tokens_per_second": PREFILL.title,
    "decode_tokens_per_second": DECODE.title,
    "output_tokens_per_second": OUTPUT.title,
    "net_j_per_output_token": ENERGY.title,
    "ttfr_s": "First response",
    "ttfo_s": "First answer token",
    "itl_s": "Between tokens",
    "itl_p99_s": "Between tokens, p99",
}


def both_words(comparison: BenchComparison) -> str:
    """What the two are."""
    return "sides" if comparison.method == "blocks" else "reports"


def is_shown(one: Comparison) -> bool:
    """Whether it is shown without being asked for."""
    # A figure that says the same as another would only repeat its verdict.
    return one.same_as is None and (one.figure in _MAIN or one.verdict in _REAL)


def comparison_columns(comparison: BenchComparison) -> tuple[str, ...]:
    """The titles of what `comparison_row` gives."""
    interval = f"{comparison.confidence_ratio:.0%} interval"
    return ("Cell", "Figure", *_FIRST_AND_SECOND[comparison.method], "Change", interval, "P", "Verdict")


def comparison_json(comparison: BenchComparison) -> dict[str, Any]:
    """A comparison as JSON values."""
    return json_form(comparison) | {"comparisons": [_figure_json(one) for one in comparison.comparisons]}


def _figure_json(one: Comparison) -> dict[str, Any]:
    interval = one.interval_ratio
    return json_form(one) | {"interval_ratio": [interval.low, interval.high] if interval else None}


def comparison_row(one: Comparison) -> tuple[str, ...]:
    """One figure of one cell, in words."""
    metric = _FIGURES.get(one.figure)
    write = metric.write if metric is not None else duration
    interval = one.interval_ratio
    return (
        one.cell,
        _FIGURE_NAMES.get(one.figure, one.figure),
        write(one.first),
        write(one.second),
        f"{one.change_ratio:+.1%}" if one.change_ratio is not None else "-",
        f"{interval.low:+.1%} to {interval.high:+.1%}" if interval is not None else "-",
        f"{one.p_value:.3f}" if one.p_value is not None else "-",
        _VERDICTS.get(one.verdict, one.verdict),
    )
