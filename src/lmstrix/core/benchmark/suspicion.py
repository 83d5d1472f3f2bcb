"""Measurements to be doubted, marked and kept. Pure.

A figure can be wrong without any failure: everything arrived in one piece, a cache answered for the prompt, the server
cut it, the answer was much shorter than asked for, or the tokens came faster than memory could have delivered the
weights that each of them reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.records import Mark

if TYPE_CHECKING:
    from lmstrix.core.benchmark.records import Cell, RequestFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspicionLimits:
    """From where on a figure is doubted."""

    cached_tokens: int = 16  # what a chat template puts before the first word is cached by right
    cached_ratio: float = 0.02  # of the prompt: less than this does not show in a prefill rate
    length_ratio: float = 0.10  # of the tokens asked for: rates of much shorter answers are of another thing
    prompt_ratio: float = 0.05  # of the prompt meant: prompts are made to 2 %, so the server cut or added something
    one_piece_tokens: int = 2  # a single token has no decode rate to lose
    in_caches_bytes: int = 512 * 2**20  # smaller weights may stay in the processor's caches


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
