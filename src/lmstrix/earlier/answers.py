"""An answer under the names of the earlier LMStrix."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lmstrix.python import results

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Self

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


def failed_answer(*, model_key: str, prompt: str, error: str) -> dict[str, Any]:
    """What the earlier `InferenceManager.infer` gave back where it failed."""
    counts = {"tokens_used": 0, "inference_time": 0.0}
    return {"succeeded": False, "response": "", "prompt": prompt, "model_id": model_key, **counts, "error": error}


class InferenceResult(results.InferenceResult):
    """An answer whose earlier keys are attributes too, and that may be awaited though it is there."""

    __slots__ = ("prompt",)
    prompt: str

    @classmethod
    def asked(cls, answer: results.InferenceResult, prompt: str) -> Self:
        """The same answer."""
        result = cls(**{field.name: getattr(answer, field.name) for field in fields(answer)})
        object.__setattr__(result, "prompt", prompt)
        return result

    @property
    def response(self) -> str:
        """The text."""
        return self.text

    content = response

    @property
    def tokens_used(self) -> int | None:
        """Tokens of prompt and answer."""
        return self.stats.total_tokens

    @property
    def inference_time(self) -> float | None:
        """Seconds."""
        return self.stats.total_s

    @property
    def succeeded(self) -> bool:
        """A failure raises; earlier scripts still look."""
        return True

    @property
    def error(self) -> None:
        """Nothing went wrong."""
        return

    def __await__(self) -> Generator[None, None, Self]:
        return self
        yield

    def _as_mapping(self) -> dict[str, Any]:
        return answer_object(text=self.text, model_key=self.model_key, stats=self.stats) | {"prompt": self.prompt}
