"""The records between the engine's edges (websocket, REST) and its core (catalog, instances, predictions)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lmstrix.ground.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.engine.faults import EngineFault
    from lmstrix.ground.choices import CacheType
    from lmstrix.ground.types import Confidence, ModelKind, OverflowPolicy, Role, StopReason, ToolChoice

LogType = Literal["llm.prediction.input", "llm.prediction.output", "server.log", "runtime.log"]
LogLevel = Literal["debug", "info", "warn", "error"]
ContextSource = Literal["asked", "tested", "reduced", "default"]
"""Where an instance's context length is from; "reduced": less than the tested one, which did not fit."""
ReasoningType = Literal["none", "reasoning", "reasoningStartTag", "reasoningEndTag"]
"""What a piece of generated text is: "none" is the answer itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One model of the models directory. `path` is relative to it, POSIX; `file` and `mmproj_file` are absolute."""

    model_key: str
    kind: ModelKind
    path: str
    file: str
    shard_files: tuple[str, ...]
    mmproj_file: str | None
    size_bytes: int
    publisher: str
    display_name: str
    architecture: str
    params: str | None
    quantization: str | None
    bits: int | None
    max_context_length: int
    vision: bool
    trained_for_tool_use: bool
    has_chat_template: bool
    reasoning_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """A load as the engine does it: the collapsed `llm.load.*` keys. `context_length` None = the engine's default."""

    context_length: int | None = None
    k_cache_type: CacheType | None = None
    v_cache_type: CacheType | None = None
    flash_attention: bool | None = None
    offload_ratio: float | None = None
    parallel_slots: int = 1
    unified_kv: bool = True
    eval_batch_size: int = 512
    physical_batch_size: int = 512
    threads: int | None = None
    mmap: bool = True
    keep_in_memory: bool = False
    offload_kv_cache: bool = True
    rope_frequency_base: float | None = None
    rope_frequency_scale: float | None = None
    seed: int | None = None
    context_checkpoints: int = 0
    chat_template: str | None = None
    # Off: llama.cpp would drop the oldest tokens by itself and report an answer as if nothing had happened.
    context_shift: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPart:
    """One part of a message: text, an uploaded file (`file_id` + `file_type`), a tool request, or a tool result."""

    type: Literal["text", "file", "toolCallRequest", "toolCallResult"]
    text: str = ""
    file_id: str | None = None
    file_type: str | None = None
    data: bytes | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTurn:
    """One message of a history."""

    role: Role
    parts: tuple[ChatPart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionSettings(Sampling):
    """The collapsed `llm.prediction.*` keys. None leaves llama.cpp's (or the model's) default."""

    max_tokens: int | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    typical_p: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    stop: tuple[str, ...] = ()
    # LM Studio's own default; REST asks for "stopAtLimit" instead.
    overflow_policy: OverflowPolicy = "truncateMiddle"
    json_schema: Mapping[str, Any] | None = None
    json_any: bool = False
    gbnf_grammar: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: ToolChoice = "auto"
    reasoning_start: str | None = "<think>"
    reasoning_end: str | None = "</think>"
    enable_thinking: bool | None = None
    reasoning_effort: str | None = None
    reasoning_budget_tokens: int | None = None
    log_probs: int | None = None
    prompt_template: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionInput:
    """What to predict from: a chat (`turns`) or raw text (`raw_prompt`)."""

    turns: tuple[ChatTurn, ...] = ()
    raw_prompt: str | None = None
    settings: PredictionSettings = field(default_factory=PredictionSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptProgressEvent:
    """Prompt tokens in the cache so far: those found there, and those processed since."""

    total_tokens: int
    cached_tokens: int
    processed_tokens: int

    @property
    def done_tokens(self) -> int:
        """Both together."""
        return self.cached_tokens + self.processed_tokens

    @property
    def ratio(self) -> float:
        """Their share of the prompt, 0..1; an empty prompt is done."""
        return min(1.0, self.done_tokens / self.total_tokens) if self.total_tokens else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentEvent:
    """Generated text. `tokens` items are {"text", "id", "logProb"?, "candidates"?}, sent when log_probs was asked."""

    text: str
    tokens_count: int
    reasoning_type: ReasoningType = "none"
    structural: bool = False
    tokens: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallStartEvent:
    """A tool call begins."""

    call_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallNameEvent:
    """Its name is known."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallArgumentEvent:
    """More of its arguments' JSON text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallEndEvent:
    """It is complete."""

    call_id: str | None
    name: str
    arguments: Mapping[str, Any]
    raw: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallFailedEvent:
    """The model garbled it."""

    fault: EngineFault
    raw: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionStats:
    """How it went, from llama.cpp's own counters and timings."""

    stop_reason: StopReason
    stop_string: str | None = None
    prompt_tokens: int | None = None
    predicted_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    ttft_s: float | None = None
    total_s: float | None = None
    tokens_per_second: float | None = None
    prefill_tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionDone:
    """Always the last event of a prediction that did not raise."""

    stats: PredictionStats


PredictionEvent = (
    PromptProgressEvent
    | FragmentEvent
    | ToolCallStartEvent
    | ToolCallNameEvent
    | ToolCallArgumentEvent
    | ToolCallEndEvent
    | ToolCallFailedEvent
    | PredictionDone
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadEstimate:
    """What a load will take. `limit_bytes` is all that models may take together, `in_use_bytes` what loaded ones do."""

    model_bytes: int
    context_bytes: int
    total_bytes: int
    passes_guardrails: bool
    confidence: Confidence
    context_length: int
    limit_bytes: int | None = None
    in_use_bytes: int = 0


def now_ms() -> int:
    """Unix time in milliseconds, as clients are told times."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """A line for `streamLogs`; the fields are those of its type, the rest stay None. `time_ms` is Unix time."""

    type: LogType
    text: str
    time_ms: int = field(default_factory=now_ms)
    level: LogLevel = "info"
    model_path: str | None = None
    identifier: str | None = None
    instance_reference: str | None = None
    pid: int | None = None
    stats: PredictionStats | None = None
