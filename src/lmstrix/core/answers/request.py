"""What is asked of a model, and what a dry run and an embedding give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from lmstrix.ground.choices import ReasoningEffort
from lmstrix.ground.errors import UsageError
from lmstrix.ground.loads import DEFAULT_LOAD
from lmstrix.ground.ranges import CONTEXT_OR_SHARE, TOKENS_OR_SHARE, check_numbers, in_range
from lmstrix.ground.sampling import Sampling
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.core.answers.acting import Tool
    from lmstrix.core.answers.tokens import TokenCount
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest(Sampling):
    """One call of `infer`: a `prompt`, or a whole chat in `messages`.

    `context_length` and `max_tokens` are tokens, or a share as a float: of the tested context, of the loaded one.
    A `context_length` of 0 is the server's default. `timeout_s` covers the whole call, connecting and loading included.
    `images` are files shown with the prompt. `tools` are called as the model asks, for at most `max_rounds` rounds.
    `enable_thinking` and `reasoning_effort` are refused where the server says that the model does not take them.
    `mirostat` 1 or 2 is another way of sampling, of the
    embedded engine's alone.
    `load` is how an instance is loaded, its context length aside; one that is not as usual is loaded for this call.
    `cache` takes the answer from an earlier call that was exactly the same, and keeps this one.
    """

    prompt: str
    messages: tuple[Message, ...] = ()
    model: str | None = None
    system_prompt: str | None = None
    context_length: int | float | None = field(default=None, metadata=in_range(CONTEXT_OR_SHARE))
    max_tokens: int | float | None = field(default=None, metadata=in_range(TOKENS_OR_SHARE))
    stop: tuple[str, ...] = ()
    enable_thinking: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    images: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[Tool, ...] = ()
    max_rounds: int = 10
    load: LoadConfig = DEFAULT_LOAD
    cache: bool = False
    reload: bool = False
    raw: bool = False
    ttl_s: float | None = 300.0
    first_token_s: float | None = None
    between_tokens_s: float | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no server can honour, and what would be left out without a word."""
        check_numbers(self)
        if "" in self.stop:
            raise UsageError("stop: the text is empty, and every answer would end before it begins; leave it out")
        if self.enable_thinking is not None and self.reasoning_effort is not None:
            raise UsageError(f"give {parameter('enable_thinking')} or {parameter('reasoning_effort')}, not both")
        if self.reasoning_effort is not None and self.reasoning_effort not in get_args(ReasoningEffort):
            raise UsageError(
                f"{parameter('reasoning_effort')}: {self.reasoning_effort!r} is not one of "
                f"{', '.join(get_args(ReasoningEffort))}"
            )
        if not self.mirostat and (self.mirostat_tau is not None or self.mirostat_eta is not None):
            raise UsageError(
                f"{parameter('mirostat_tau')} and {parameter('mirostat_eta')} tune mirostat: switch it on with "
                f"{parameter('mirostat', 2)}"
            )
        if not self.raw:
            return
        if self.reasoning_effort is not None or self.enable_thinking is not None:
            name = "reasoning_effort" if self.reasoning_effort is not None else "enable_thinking"
            raise UsageError(f"a raw prompt asks for no reasoning; leave out {parameter(name)}")
        if self.system_prompt is not None:
            raise UsageError(
                f"a raw prompt has no system prompt; leave out {parameter('raw')} or {parameter('system_prompt')}"
            )
        if self.messages:
            raise UsageError(
                f"a raw prompt continues no conversation; leave out {parameter('raw')}, or ask without messages"
            )


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
