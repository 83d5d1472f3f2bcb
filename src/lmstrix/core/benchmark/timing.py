"""The raw moments of one request -> its figures. Pure; definitions hold for every server alike.

    TTFR     the first event of any kind - sending
    TTFT     the first generated token of any kind, reasoning included - sending
    TTFO     the first token of the answer proper - sending
    ITL      (last token - first token) / (output tokens - tokens of the first piece)
    decode   1 / ITL, none when everything came in one piece
    prefill  prompt tokens not cached / (TTFT - idle latency of one token), none where the difference is noise
    E2E      the end of the stream - sending

Tokens are the server's counts. Percentiles of ITL need to know how many tokens each piece carried: where pieces do not
add up to the server's count they are left out rather than guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.latency import prefill_s
from lmstrix.core.benchmark.records import RequestFigures
from lmstrix.core.benchmark.stats import percentile
from lmstrix.ground.text import storable

if TYPE_CHECKING:
    from lmstrix.core.benchmark.latency import Latency
    from lmstrix.ground.types import GenerationResult

MOST_CHUNKS_KEPT = 20_000
MOST_TEXT_KEPT = 256 * 1024
_COUNT_TOLERANCE = 0.05


@dataclass(slots=True)
class Trace:
    """What one request's stream showed, moment by moment, on one monotonic clock."""

    sent_at: float
    first_event_at: float | None = None
    first_answer_at: float | None = None
    ended_at: float | None = None
    chunk_at: list[float] = field(default_factory=list)
    chunk_tokens: list[int] = field(default_factory=list)
    result: GenerationResult | None = None


def figures_of(
    trace: Trace,
    *,
    requested_tokens: int,
    latency: Latency | None = None,
    outcome: str = "ok",
    failure: str | None = None,
) -> RequestFigures:
    """All figures of a request, as far as its stream got."""
    sent = trace.sent_at
    first = trace.chunk_at[0] if trace.chunk_at else None
    figures = RequestFigures(
        requested_tokens=requested_tokens,
        ttfr_s=_since(sent, trace.first_event_at),
        ttft_s=_since(sent, first),
        ttfo_s=_since(sent, trace.first_answer_at),
        e2e_s=_since(sent, trace.ended_at),
        chunks=len(trace.chunk_at),
        chunk_at_s=tuple(round(at - sent, 6) for at in trace.chunk_at[:MOST_CHUNKS_KEPT]),
        chunk_tokens=tuple(trace.chunk_tokens[:MOST_CHUNKS_KEPT]),
        outcome=outcome,
        failure=failure,
    )
    if trace.result is None:
        return figures
    stats = trace.result.stats
    itl_s = _itl_s(trace, stats.completion_tokens)
    gaps = _token_gaps(trace, stats.completion_tokens)
    answer, reasoning = storable(trace.result.text), storable(trace.result.reasoning)
    return replace(
        figures,
        prompt_tokens=stats.prompt_tokens,
        cached_tokens=stats.cached_tokens,
        completion_tokens=stats.completion_tokens,
        stop_reason=stats.stop_reason,
        itl_s=itl_s,
        itl_p50_s=percentile(gaps, 0.50),
        itl_p90_s=percentile(gaps, 0.90),
        itl_p99_s=percentile(gaps, 0.99),
        decode_tokens_per_second=1 / itl_s if itl_s else None,
        prefill_tokens_per_second=_prefill_rate(figures.ttft_s, stats.prompt_tokens, stats.cached_tokens, latency),
        server_ttft_s=stats.server_ttft_s,
        server_total_s=stats.server_total_s,
        server_prefill_tokens_per_second=stats.server_prefill_tokens_per_second,
        server_decode_tokens_per_second=stats.server_decode_tokens_per_second,
        answer=answer[:MOST_TEXT_KEPT],
        reasoning=reasoning[:MOST_TEXT_KEPT],
        answer_cut=max(len(answer), len(reasoning)) > MOST_TEXT_KEPT,
    )


def _since(sent: float, at: float | None) -> float | None:
    return None if at is None else at - sent


def _itl_s(trace: Trace, completion_tokens: int | None) -> float | None:
    if completion_tokens is None or len(trace.chunk_at) < 2:
        return None
    # The first piece's tokens came together at its start, so no time passed for them in the span.
    later_tokens = completion_tokens - max(1, trace.chunk_tokens[0])
    span_s = trace.chunk_at[-1] - trace.chunk_at[0]
    return span_s / later_tokens if later_tokens > 0 and span_s > 0 else None


def _token_gaps(trace: Trace, completion_tokens: int | None) -> list[float]:
    """The time each token after the first piece took; empty where nobody knows which piece carried how many."""
    tokens = trace.chunk_tokens if any(trace.chunk_tokens) else [1] * len(trace.chunk_at)
    if not completion_tokens or abs(sum(tokens) - completion_tokens) > max(2, _COUNT_TOLERANCE * completion_tokens):
        return []
    gaps: list[float] = []
    waited_s = 0.0
    for (before, at), count in zip(pairwise(trace.chunk_at), tokens[1:], strict=True):
        # Pieces without tokens (an empty one that ends the stream) pass their time on to the next that has some.
        waited_s += at - before
        if count:
            gaps += [waited_s / count] * count
            waited_s = 0.0
    return gaps


def _prefill_rate(
    ttft_s: float | None, prompt_tokens: int | None, cached_tokens: int | None, latency: Latency | None
) -> float | None:
    if ttft_s is None or prompt_tokens is None:
        return None
    rest_s = prefill_s(ttft_s, latency)
    fresh = prompt_tokens - (cached_tokens or 0)
    return fresh / rest_s if fresh > 0 and rest_s is not None else None
