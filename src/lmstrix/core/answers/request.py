"""What is asked of a model, and what a dry run and an embedding give back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmstrix.ground.errors import UsageError
from lmstrix.ground.ranges import check_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.core.answers.acting import Tool
    from lmstrix.core.answers.tokens import TokenCount
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.types import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """One call of `infer`: a `prompt`, or a whole chat in `messages`. `in_ctx`/`out_ctx` as in InferenceOptions.

    `images` are files shown with the prompt. `tools` are called as the model asks, for at most `max_rounds` rounds.
    `cache` takes the answer from an earlier call that was exactly the same, and keeps this one.
    """

    prompt: str
    messages: tuple[Message, ...] = ()
    model: str | None = None
    system_prompt: str | None = None
    in_ctx: int | float | None = None
    out_ctx: int | float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[Tool, ...] = ()
    max_rounds: int = 10
    cache: bool = False
    reload: bool = False
    raw: bool = False
    ttl_s: float | None = 300.0
    first_token_s: float | None = None
    between_tokens_s: float | None = None
    total_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no server can honour, and what would be left out without a word."""
        check_numbers(self)
        if "" in self.stop:
            raise UsageError("stop: the text is empty, and every answer would end before it begins; leave it out")
        if not self.raw:
            return
        if self.system_prompt is not None:
            raise UsageError("a raw prompt has no system prompt; leave out --raw or --system-prompt")
        if self.messages:
            raise UsageError("a raw prompt continues no conversation; leave out --raw, or ask without messages")


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a dry run would send. `record` and `context_length` are None when no model was named or none is known.

    `count` is of the text alone: no server counts `images` before it is asked. `fits` says whether prompt and answer
    fit the context, as far as the count is right; None where that is not known. `not_counted` is why the count is not
    exact.
    """

    prompt: str
    system_prompt: str | None
    count: TokenCount
    record: ModelRecord | None = None
    context_length: int | None = None
    images: int = 0
    fits: bool | None = None
    not_counted: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """One vector per text, in the order of the texts."""

    vectors: tuple[tuple[float, ...], ...]
    model_key: str

    @property
    def dimensions(self) -> int:
        return len(self.vectors[0]) if self.vectors else 0
