"""An answer under the names of the earlier LMStrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstrix.ground.types import GenerationStats


def answer_object(*, text: str, model_key: str, stats: GenerationStats) -> dict[str, Any]:
    """What the earlier `infer` gave back, with the keys that its documentation promised beside."""
    return {
        "succeeded": True,  # a failure raises, or ends the command with another exit code; earlier scripts still look
        "response": text,
        "model_id": model_key,
        "tokens_used": stats.total_tokens,
        "prompt_tokens": stats.prompt_tokens,
        "response_tokens": stats.completion_tokens,
        "inference_time": stats.total_s,
        "time_to_first_token": stats.ttft_s,
        "tokens_per_second": stats.best_decode_tokens_per_second,
        "stop_reason": stats.stop_reason,
        "error": None,
    }
