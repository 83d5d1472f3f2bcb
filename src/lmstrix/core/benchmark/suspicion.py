"""Measurements to be doubted, marked and kept. Pure.

A figure can be wrong without any failure: everything arrived in one piece, a cache answered for the prompt, the server
cut it, the answer was much shorter than asked for, or the tokens came faster than memory could have delivered the
weights that each of them reads. Over all runs of a cell: other programs kept the machine busy, or the server's own
clock says something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.records import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.records import Agreement, Cell, RequestFigures, RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspicionLimits:
    """From where on a figure is doubted."""

    cached_tokens: int = 16  # what a chat template puts before the first word is cached by right
    cached_ratio: float = 0.02  # of the prompt: less than this does not show in a prefill rate
    length_ratio: float = 0.10  # of the tokens asked for: rates of much shorter answers are of another thing
    prompt_ratio: float = 0.05  # of the prompt meant: prompts are made to 2 %, so the server cut or added something
    one_piece_tokens: int = 2  # a single token has no decode rate to lose
    in_caches_bytes: int = 512 * 2**20  # smaller weights may stay in the processor's caches
    others_cores: float = 0.25  # an idle desktop takes a tenth of a core; a quarter is some 10 % of two


LIMITS = SuspicionLimits()


def marks_of(figures: RequestFigures, cell: Cell, *, bandwidth_bytes_per_s: float | None) -> tuple[Mark, ...]:
    """Why this request's figures are to be doubted; nothing for one that failed, which says so itself."""
    if figures.failure is not None:
        return ()
    found = (
        _one_piece(figures),
        _cache_hit(figures),
        _answer_length(figures),
        _prompt_length(figures, cell),
        _too_fast(figures, cell, bandwidth_bytes_per_s),
    )
    return tuple(mark for mark in found if mark is not None)


def marks_of_cell(runs: Sequence[RunRecord], agreements: Sequence[Agreement]) -> tuple[Mark, ...]:
    """Why the figures of a whole cell are to be doubted."""
    found = (_busy_machine(runs), *(_disagreement(one) for one in agreements if not one.agrees))
    return tuple(mark for mark in found if mark is not None)


def others_cores(runs: Sequence[RunRecord]) -> float | None:
    """How many cores others kept busy during the runs; None where nobody could see."""
    # By the time they took: a short run has a coarse figure of its own.
    seen = [(run.cpu.others_cores, run.span_s) for run in runs if run.cpu is not None and run.span_s > 0]
    span_s = sum(span for _, span in seen)
    return sum(cores * span for cores, span in seen) / span_s if span_s else None


def _busy_machine(runs: Sequence[RunRecord]) -> Mark | None:
    cores = others_cores(runs)
    if cores is None or cores <= LIMITS.others_cores:
        return None
    text = f"other programs kept {cores:.2f} processor cores busy during the runs (more than {LIMITS.others_cores:g})"
    return Mark(kind="busy machine", text=text)


def _disagreement(one: Agreement) -> Mark:
    ours, server = one.worst_ours, one.worst_server
    if one.figure == "ttft_s":
        text = f"the first token came after {ours * 1e3:,.1f} ms, by the server's own clock {server * 1e3:,.1f} ms"
    else:
        what = "decode" if one.figure == "decode_tokens_per_second" else "prefill"
        text = f"{what} ran at {ours:,.1f} tokens/s, by the server's own clock at {server:,.1f}"
    return Mark(kind="server's clock", text=f"{text} ({one.apart} of {one.requests} requests are apart)")


def _one_piece(figures: RequestFigures) -> Mark | None:
    if figures.chunks != 1 or (figures.completion_tokens or 0) < LIMITS.one_piece_tokens:
        return None
    return Mark(kind="one piece", text="the whole answer came in one piece: no decode rate can be told")


def _cache_hit(figures: RequestFigures) -> Mark | None:
    cached, prompt = figures.cached_tokens, figures.prompt_tokens
    if not cached or not prompt or cached <= max(LIMITS.cached_tokens, LIMITS.cached_ratio * prompt):
        return None
    return Mark(kind="cache hit", text=f"{cached:,} of {prompt:,} prompt tokens came from the server's cache")


def _answer_length(figures: RequestFigures) -> Mark | None:
    asked, got = figures.requested_tokens, figures.completion_tokens
    if got is None:
        return Mark(kind="not counted", text="the server did not say how many tokens it generated")
    if abs(got - asked) <= LIMITS.length_ratio * asked:
        return None
    why = f" ({figures.stop_reason})" if figures.stop_reason else ""
    return Mark(kind="length mismatch", text=f"{asked:,} tokens were asked for, {got:,} were generated{why}")


def _prompt_length(figures: RequestFigures, cell: Cell) -> Mark | None:
    wanted, read = cell.prompt_tokens, figures.prompt_tokens
    if not wanted or read is None or abs(read - wanted) <= LIMITS.prompt_ratio * wanted:
        return None
    return Mark(kind="prompt mismatch", text=f"a prompt of {wanted:,} tokens was meant, the server read {read:,}")


def _too_fast(figures: RequestFigures, cell: Cell, bandwidth_bytes_per_s: float | None) -> Mark | None:
    rate, read = figures.decode_tokens_per_second, cell.target.bytes_per_token
    if rate is None or read is None or read < LIMITS.in_caches_bytes or not bandwidth_bytes_per_s:
        return None
    bound = bandwidth_bytes_per_s / read
    if rate <= bound:
        return None
    return Mark(
        kind="above bandwidth",
        text=f"{rate:,.0f} tokens/s would read {rate * read / 1e9:,.0f} GB/s of weights, memory gives at most "
        f"{bandwidth_bytes_per_s / 1e9:,.0f} GB/s: speculative decoding, or a wrong count",
    )
