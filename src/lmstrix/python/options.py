"""The keyword options of the Python API, as types: editors complete them, and a type checker finds a misspelled one.

Each dictionary has the fields of the record it fills, all optional; `tests/python/test_options.py` holds them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lmstrix.core.benchmark.records import Task as BenchTask
    from lmstrix.ground.choices import CacheType, Precision, Preference, ReasoningEffort, WorkKind
    from lmstrix.ground.documents import Value
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import Deadlines, Message


class SamplingKeywords(TypedDict, total=False):
    """How the answer is drawn; what is not given is the server's choice."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repeat_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    stop: str | Sequence[str] | None  # one text or several; the record holds a tuple
    mirostat: int | None  # 1 or 2: mirostat sampling, on the embedded engine
    mirostat_tau: float | None
    mirostat_eta: float | None
    reasoning_effort: ReasoningEffort | None  # refused where the model does not take it
    enable_thinking: bool | None  # for models that can answer with and without
    json_schema: Mapping[str, Any] | type[Any] | str | None  # a class, or a JSON schema, also as the text of --schema


class ChatKeywords(SamplingKeywords, total=False):
    """Fields of InferRequest that hold for every turn of a chat, every question of a batch.

    `context_length` and `max_tokens`: tokens, or a float as share of the context. Times in seconds; `timeout_s` is for
    the whole answer, loading included; `ttl_s` 0 unloads at once.
    """

    context_length: int | float | None
    max_tokens: int | float | None
    load: LoadConfig  # how an instance is loaded; its context length is that of `context_length`
    images: Sequence[str | Path]
    cache: bool
    reload: bool
    raw: bool
    ttl_s: float | None
    first_token_s: float | None
    between_tokens_s: float | None
    timeout_s: float | None


class AnswerKeywords(ChatKeywords, total=False):
    """Fields of InferRequest. `messages` is a whole chat in place of the prompt."""

    messages: Sequence[Message]
    system_prompt: str | None


class PromptKeywords(AnswerKeywords, total=False):
    """What makes the prompt a template. `variables` fill its places, {{name}}; with `prompt_file`, a TOML file of
    prompts, the prompt names one of them, or several joined with commas.
    """

    prompt_file: str | Path | None
    variables: Mapping[str, Value] | None


class LoadKeywords(TypedDict, total=False):
    """Fields of LoadConfig beside the context length. None leaves the choice to the server."""

    gpu_ratio: float | None
    k_cache_type: CacheType | None
    v_cache_type: CacheType | None
    flash_attention: bool | None
    parallel_slots: int
    unified_kv: bool | None
    eval_batch_size: int | None
    offload_kv_cache: bool | None
    rope_frequency_base: float | None
    rope_frequency_scale: float | None
    mmap: bool | None
    keep_in_memory: bool | None  # the weights are locked in memory
    threads: int | None
    seed: int | None


class ContextTestKeywords(TypedDict, total=False):
    """Fields of ContextTestRequest. Lengths in tokens, times in seconds."""

    tag: str | None
    threshold: int | None
    context_length: int | None
    precision: Precision
    fast: bool
    force: bool
    reset: bool
    prompt: str | None
    load_timeout_s: float | None
    budget_s: float | None
    load: LoadConfig
    unload_others: bool
    resume: bool
    ignore_guardrail: bool


class WishKeywords(TypedDict, total=False):
    """Fields of Wish."""

    task: WorkKind
    min_context_length: int | None
    max_memory_bytes: int | None
    budget_bytes: int | None
    prefer: Preference


class BenchKeywords(TypedDict, total=False):
    """Fields of BenchRequest. `tiers` are context lengths in tokens."""

    runs: int
    tiers: int | Sequence[int]
    concurrency: int | Sequence[int]
    task: BenchTask
    prompt: str | None
    max_tokens: int
    temperature: float
    seed: int
    budget_s: float | None
    settled_ratio: float | None
    passes: int | None
    cold: bool
    idle_s: float
    load: LoadConfig
    deadlines: Deadlines
    against: str | None
    against_load: LoadConfig | None
    blocks: int
