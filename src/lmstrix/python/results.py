"""What the Python API answers with: an answer that is a record and, for earlier scripts, a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.core.answers.acting import Transcript
    from lmstrix.ground.types import GenerationResult, GenerationStats, Message, TruncatedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult(Mapping[str, Any]):
    """One answer. Attributes, or the keys of the earlier LMStrix: `result["response"]`, `["tokens_used"]`, ….

    Attributes:
        text: the answer, without reasoning.
        reasoning: the model's reasoning before the answer, empty if there was none.
        stats: token counts, times in seconds, stop reason.
        model_key: which model answered.
        context_length: tokens of context of the instance that answered.
        truncated_by: what cut the answer short; None for a whole one.
    """

    text: str
    reasoning: str
    stats: GenerationStats
    model_key: str
    context_length: int | None
    truncated_by: TruncatedBy | None = None

    @classmethod
    def of(cls, result: GenerationResult) -> Self:
        """The answer of a finished prediction."""
        return cls(
            text=result.text,
            reasoning=result.reasoning,
            stats=result.stats,
            model_key=result.model_key,
            context_length=result.context_length,
            truncated_by=result.truncated_by,
        )

    def __getitem__(self, key: str) -> Any:
        return self._as_mapping()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._as_mapping())

    def __len__(self) -> int:
        return len(self._as_mapping())

    def _as_mapping(self) -> dict[str, Any]:
        return {
            "succeeded": True,  # a failure raises; earlier scripts still look
            "response": self.text,
            "tokens_used": self.stats.total_tokens,
            "inference_time": self.stats.total_s,
            "model_id": self.model_key,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ActResult(InferenceResult):
    """The answer of a call with tools. `stats` are those of the last round.

    Attributes:
        messages: the turns after the prompt: the model's calls, what the tools answered, the answer.
        rounds: how often the model was asked.
    """

    messages: tuple[Message, ...] = ()
    rounds: int = 0

    @classmethod
    def acted(cls, result: GenerationResult, transcript: Transcript) -> Self:
        """The answer of the last round, with the turns on the way to it."""
        return cls(
            text=result.text,
            reasoning=result.reasoning,
            stats=result.stats,
            model_key=result.model_key,
            context_length=result.context_length,
            truncated_by=result.truncated_by,
            messages=tuple(transcript.messages),
            rounds=transcript.rounds,
        )
