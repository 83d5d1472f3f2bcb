"""Frozen records that cross layers. Units are in the names; None means "not known" or "not measured", never 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lmstrix.ground.choices import ReasoningEffort  # noqa: TC001 - pydantic resolves the annotations at run time
from lmstrix.ground.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

ModelKind = Literal["llm", "embedding"]
Role = Literal["system", "user", "assistant", "tool"]
OverflowPolicy = Literal["stopAtLimit", "truncateMiddle", "rollingWindow"]
ToolChoice = Literal["none", "auto", "required"]
Confidence = Literal["high", "low"]
MemoryLimit = Literal["host", "control group", "address space", "memory limit", "graphics card"]
"""What decides how much one more model may take."""
AttemptKind = Literal["load", "prefill"]
"""What a context test tries at a length: to load a model at it, or to fill the loaded context with a prompt."""
StopReason = Literal[
    "eosFound",
    "stopStringFound",
    "maxPredictedTokensReached",
    "contextLengthReached",
    "toolCalls",
    "userStopped",
    "modelUnloaded",
    "failed",
]

TruncatedBy = Literal["max tokens", "context full", "server limit", "stopped"]
"""What cut an answer short: the limit asked for, the end of the context, a limit of the server's own, or somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """Which server answers. `engine` is "lmstudio" or "embedded"; `address` is host:port, `secure` whether over TLS.

    `runtime` is what runs its models, where it says so: "llama.cpp of xllamacpp 2026.9.1".
    """

    address: str
    engine: Literal["lmstudio", "embedded"]
    version: str | None = None
    package: str | None = None
    runtime: str | None = None
    secure: bool = False

    @property
    def http_url(self) -> str:
        """Where its REST paths begin."""
        return f"{'https' if self.secure else 'http'}://{self.address}"

    @property
    def websocket_url(self) -> str:
        """Where its websockets begin."""
        return f"{'wss' if self.secure else 'ws'}://{self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A downloaded model, as the server lists it. `path` is below the models directory; `size_bytes` sums shards."""

    model_key: str
    kind: ModelKind
    path: str
    size_bytes: int
    max_context_length: int
    display_name: str = ""
    publisher: str = ""
    format: str = "gguf"
    architecture: str | None = None
    params: str | None = None
    quantization: str | None = None
    bits: int | None = None
    vision: bool = False
    trained_for_tool_use: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeVersion:
    """A runtime of LM Studio, as it names it: "mlx-llm-mac-arm64-apple-metal-advsimd", "1.10.1"."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A loaded instance. `context_length` is the effective one, read back from the server after loading.

    `device` is the other machine that it is loaded on (LM Link), None on the server's own.
    """

    instance_id: str
    instance_reference: str
    model_key: str
    kind: ModelKind
    path: str
    context_length: int
    max_context_length: int
    size_bytes: int = 0
    ttl_s: float | None = None
    last_used_at: datetime | None = None
    status: str | None = None
    queued: int | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceEstimate:
    """What a server predicts a load will take, in bytes."""

    model_bytes: int
    context_bytes: int
    total_bytes: int
    gpu_total_bytes: int
    passes_guardrails: bool
    confidence: Confidence


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMemory:
    """What one more model may take now, as its server sees it, whichever machine that is.

    `available_bytes` is the least of all that limits the server, and `limited_by` names that. An engine's own
    `--memory-limit` is upheld by its guardrail, by arithmetic and before a load; `machine_bytes` is what there is
    without it, where a load fails for real, and `machine_limited_by` names what limits that. `boot_id` stays the same
    until the server's machine starts anew. `headroom_bytes` of what is available the server's guardrail keeps free.
    """

    available_bytes: int
    limited_by: MemoryLimit
    machine_bytes: int
    machine_limited_by: MemoryLimit
    boot_id: str
    headroom_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedGraphics:
    """Graphics that a server's runtime has found. `memory_bytes` is all they have, free or not; where they are
    `integrated`, that is a share of main memory. `found_by` is the platform, such as "CUDA" or "Metal".
    """

    name: str
    memory_bytes: int
    integrated: bool
    found_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareSurvey:
    """What a server's runtime has found to compute on; no `graphics` when it uses none."""

    graphics: tuple[SurveyedGraphics, ...] = ()
    main_memory_bytes: int | None = None

    @property
    def cards(self) -> tuple[SurveyedGraphics, ...]:
        """Those with memory of their own."""
        return tuple(device for device in self.graphics if not device.integrated)

    @property
    def working_set_bytes(self) -> int:
        """How much of main memory a Mac's graphics may use; 0 elsewhere, where the rest runs on the processor."""
        return sum(device.memory_bytes for device in self.graphics if device.found_by == "Metal" and device.integrated)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceMemory:
    """What one instance takes, by its server's own figures.

    `memory_bytes` is of one kind with the last `ServerMemory.machine_bytes` asked for before the load. Under a limit of
    the address space it is the most its process has reserved, without what an idle one has. On a graphics card it is
    the buffers there. Else it is the most its process has held, code and interpreter included, and what it has reserved
    for computing and not touched yet: a full context takes no more. `limited_by` says which.

    The buffers are as llama.cpp announced them; `resident_bytes` is what the process holds now.
    `gpu_layers` of `all_layers` are on graphics cards, the output being one; None where it is not known.
    """

    memory_bytes: int
    limited_by: MemoryLimit
    weights_bytes: int
    kv_cache_bytes: int
    recurrent_state_bytes: int
    compute_buffer_bytes: int
    resident_bytes: int
    peak_resident_bytes: int
    gpu_layers: int | None = None
    all_layers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShortage:
    """How an instance ended that its server's system ended for lack of memory.

    It held `held_bytes` when it was last seen, `grew_bytes` more than when it was seen before: as much may have come
    after.
    """

    held_bytes: int
    grew_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call the model asks for. `arguments` is None when the model garbled them (`error` then says how)."""

    name: str
    arguments: Mapping[str, Any] | None
    call_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a chat. `images` are paths of local files, for vision models."""

    role: Role
    text: str = ""
    images: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDefinition:
    """A function the model may call; `parameters` is a JSON schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest(Sampling):
    """One prediction: a chat (`messages`) or, when `raw_prompt` is given, a plain completion. None leaves a default."""

    messages: tuple[Message, ...] = ()
    raw_prompt: str | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    # Not the SDK's default, truncateMiddle, which drops part of a long prompt and does not say so.
    overflow_policy: OverflowPolicy = "stopAtLimit"
    json_schema: Mapping[str, Any] | None = None
    gbnf_grammar: str | None = None
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice | None = None
    enable_thinking: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    reasoning_budget_tokens: int | None = None

    @property
    def image_count(self) -> int:
        """How many images its messages show."""
        return sum(len(message.images) for message in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationStats:
    """What one prediction did. Token counts come from the server; times are ours unless said.

    `ttft_s` is from sending to the first generated token of any kind. `server_*` are the engine's own figures.
    """

    stop_reason: StopReason | None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    ttft_s: float | None = None
    total_s: float | None = None
    server_ttft_s: float | None = None
    server_total_s: float | None = None
    server_prefill_tokens_per_second: float | None = None
    server_decode_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    stop_string: str | None = None

    @property
    def best_decode_tokens_per_second(self) -> float | None:
        """The server's own figure, which knows nothing of the way to us; else what was measured here."""
        return self.server_decode_tokens_per_second or self.decode_tokens_per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationResult:
    """One finished prediction. `text` is the answer without reasoning; `context_length` the instance's, at the end.

    `truncated_by` says what cut it short; None for a whole answer, and where nobody knows.
    """

    text: str
    stats: GenerationStats
    model_key: str
    instance_id: str
    context_length: int | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    truncated_by: TruncatedBy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptProgress:
    """Prompt processing so far; token counts where the server sends them."""

    ratio: float
    processed_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """A piece of generated text. `structural` marks reasoning tags."""

    text: str
    tokens: int = 0
    reasoning: bool = False
    structural: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallEvent:
    """A finished (or garbled) tool call."""

    call: ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswered:
    """What a tool of ours answered the model; `failed` when it could not do what it was asked."""

    call: ToolCall
    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The server goes on without anything to show: a piece of a tool call (`generating`), or a packet we do not know.

    Deadlines go by it; `StreamingManager` keeps it from its callers.
    """

    generating: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The last event of a stream."""

    result: GenerationResult


StreamEvent = PromptProgress | TextDelta | ToolCallEvent | ToolAnswered | Heartbeat | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each stage may take, in seconds; None means without limit.

    `first_token_s` runs from sending; prompt-processing progress does not extend it. `between_tokens_s` restarts with
    every generated piece. `silence_s` restarts whenever anything advances, prompt processing included. `total_s`
    covers the whole call, `load_s` one load.
    """

    connect_s: float | None = 5.0
    request_s: float | None = 30.0
    load_s: float | None = 600.0
    first_token_s: float | None = None
    between_tokens_s: float | None = 60.0
    silence_s: float | None = None
    total_s: float | None = None
