"""What cut an answer short, whoever says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.core.answers.truncation import truncated_by
from lmstrix.ground.types import GenerationStats

if TYPE_CHECKING:
    from lmstrix.ground.types import StopReason, TruncatedBy


@pytest.mark.parametrize(
    ("stop_reason", "completion_tokens", "limit_asked", "cause"),
    [
        ("eosFound", 3, True, None),
        ("stopStringFound", 3, True, None),
        ("toolCalls", 3, True, None),
        (None, 100, True, None),
        ("maxPredictedTokensReached", 100, True, "max tokens"),
        ("maxPredictedTokensReached", 99, True, "max tokens"),
        ("maxPredictedTokensReached", None, True, "max tokens"),
        ("maxPredictedTokensReached", 100, False, "context full"),
        ("maxPredictedTokensReached", 40, True, "server limit"),
        ("maxPredictedTokensReached", 40, False, "server limit"),
        ("contextLengthReached", 40, True, "context full"),
        ("userStopped", 40, False, "stopped"),
    ],
)
def test_the_cause_is_whose_limit_it_was(
    stop_reason: StopReason | None, completion_tokens: int | None, limit_asked: bool, cause: TruncatedBy | None
) -> None:
    stats = GenerationStats(stop_reason=stop_reason, completion_tokens=completion_tokens)
    assert truncated_by(stats, max_tokens=100, limit_asked=limit_asked) == cause
