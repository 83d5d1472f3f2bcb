"""What a server is doing at one moment: its models, the requests they work on, and counters that only grow.

Speeds are differences of two readings of the counters, over the server's own clock: a reading that came late is no
slower for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lmstrix.ground.types import InstanceMemory, ModelKind

RequestStatus = Literal["waiting", "processingPrompt", "generating", "computingEmbedding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestActivity:
    """A request that is not answered yet. `prompt_tokens` is None before the prompt has been counted.

    `prompt_done_tokens` are those of the prompt that need no more work, the ones kept from an earlier prompt included.
    """

    status: RequestStatus
    age_s: float
    prompt_tokens: int | None
    prompt_done_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceActivity:
    """A loaded model. The three counters run from its load on; prompt tokens kept from earlier are not counted again.

    `idle_s` is None while it works and before its first request; `ttl_s` is after how long without use it is unloaded.
    """

    instance_id: str
    instance_reference: str
    model_key: str
    kind: ModelKind
    context_length: int
    parallel_slots: int
    ttl_s: float | None
    idle_s: float | None
    answered: int
    prompt_tokens: int
    completion_tokens: int
    requests: tuple[RequestActivity, ...]
    memory: InstanceMemory | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerActivity:
    """A whole server: `clock_s` is its own monotonic clock, `resident_bytes` what process `pid` itself holds."""

    pid: int
    clock_s: float
    resident_bytes: int
    loading: tuple[str, ...]
    models: tuple[InstanceActivity, ...]
