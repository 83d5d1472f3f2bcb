"""What cut an answer short, in truth: a server tells which of its limits it met, not who set that limit. Pure.

Every request is sent with a limit, that of the caller or else all that the context has left. A server that met the
latter says "max tokens reached", which is nothing anybody asked for: the context is full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.ground.types import GenerationStats, TruncatedBy

_COUNT_TOLERANCE_TOKENS = 1  # servers disagree on whether the token that ends an answer counts


def truncated_by(stats: GenerationStats, *, max_tokens: int, limit_asked: bool) -> TruncatedBy | None:
    """What ended an answer before its end; None when it ended by itself, or nobody knows.

    `max_tokens` is the limit that was sent; `limit_asked` tells whether the caller set it, or the room that was left.
    """
    match stats.stop_reason:
        case "contextLengthReached":
            return "context full"
        case "userStopped":  # our own cancellations have no result: somebody else stopped it
            return "stopped"
        case "maxPredictedTokensReached":
            sent = stats.completion_tokens
            if sent is not None and sent + _COUNT_TOLERANCE_TOKENS < max_tokens:
                return "server limit"
            return "max tokens" if limit_asked else "context full"
    return None
