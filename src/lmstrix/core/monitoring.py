"""What a watcher sees of a server at one moment, and speeds from two such moments. Pure.

A speed is the difference of a counter over the server's own clock. What a server does not tell is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from lmstrix.core.memory.cards import GpuMemory
    from lmstrix.ground.activity import InstanceActivity, RequestActivity, ServerActivity
    from lmstrix.ground.types import InstanceMemory, LoadedModel, ModelKind


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoredModel:
    """A loaded model. `status` is idle, waiting, or what it works on; `running` and `waiting` count its requests.

    Speeds are of all its requests together. `requests` is None where the server does not tell of single ones.
    """

    instance_id: str
    model_key: str
    kind: ModelKind
    context_length: int
    parallel_slots: int | None = None
    status: str | None = None
    running: int | None = None
    waiting: int | None = None
    prompt_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    answered: int | None = None
    idle_s: float | None = None
    ttl_s: float | None = None
    requests: tuple[RequestActivity, ...] | None = None
    memory: InstanceMemory | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReading:
    """What the server told: `tells_work` False where it tells neither counters nor single requests."""

    tells_work: bool
    models: tuple[MonitoredModel, ...] = ()
    loading: tuple[str, ...] = ()
    resident_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanPower:
    """Mean watts of one channel over the last interval; None before there are readings enough."""

    channel: str
    power_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineReading:
    """The server's machine. `engine_bytes` is what the server's processes hold; None where they cannot be seen.

    `power` is empty where this machine has no source that could be read.
    """

    total_bytes: int
    available_bytes: int
    limited_by: Literal["host", "control group"]
    engine_bytes: int | None = None
    cards: tuple[GpuMemory, ...] = ()
    unreadable_cards: tuple[str, ...] = ()
    power: tuple[MeanPower, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSnapshot:
    """One moment of a server. `problem` says why it told nothing just now, for `problem_s` already.

    `machine` is None where the server runs on another machine, or nothing has been read yet.
    """

    at: datetime
    server: str
    is_local: bool
    reading: ServerReading | None = None
    problem: str | None = None
    problem_s: float = 0.0
    machine: MachineReading | None = None


def reading_of_engine(before: ServerActivity | None, now: ServerActivity) -> ServerReading:
    """What an engine told, with the speeds since `before`."""
    resident = [model.memory.resident_bytes for model in now.models if model.memory is not None]
    # Another process has counters of its own, and a clock of its own.
    earlier = before if before is not None and before.pid == now.pid else None
    return ServerReading(
        tells_work=True,
        models=tuple(_of_activity(earlier, now, model) for model in now.models),
        loading=now.loading,
        resident_bytes=now.resident_bytes + sum(resident),
    )


def reading_of_listing(loaded: Sequence[LoadedModel]) -> ServerReading:
    """What a server told that only lists what is loaded and says of each model whether it works."""
    return ServerReading(
        tells_work=False,
        models=tuple(
            MonitoredModel(
                instance_id=model.instance_id,
                model_key=model.model_key,
                kind=model.kind,
                context_length=model.context_length,
                status=model.status,
                ttl_s=model.ttl_s,
                # It counts the running one as well, and does not say how many run at once.
                waiting=None if model.queued is None else max(0, model.queued - (model.status != "idle")),
            )
            for model in loaded
        ),
    )


def _of_activity(before: ServerActivity | None, now: ServerActivity, model: InstanceActivity) -> MonitoredModel:
    waiting = sum(request.status == "waiting" for request in model.requests)
    speeds = _speeds(before, now, model)
    return MonitoredModel(
        instance_id=model.instance_id,
        model_key=model.model_key,
        kind=model.kind,
        context_length=model.context_length,
        parallel_slots=model.parallel_slots,
        status=_status(model),
        running=len(model.requests) - waiting,
        waiting=waiting,
        prompt_tokens_per_second=speeds.get("prompt"),
        decode_tokens_per_second=speeds.get("decode"),
        answered=model.answered,
        idle_s=model.idle_s,
        ttl_s=model.ttl_s,
        requests=model.requests,
        memory=model.memory,
    )


def _status(model: InstanceActivity) -> str:
    """What the model does; with several requests, the furthest."""
    found = {request.status for request in model.requests}
    furthest_first = ("generating", "processingPrompt", "computingEmbedding", "waiting")
    return next((status for status in furthest_first if status in found), "idle")


def _speeds(before: ServerActivity | None, now: ServerActivity, model: InstanceActivity) -> Mapping[str, float]:
    if before is None or now.clock_s <= before.clock_s:
        return {}
    # By the reference: another load of the model may have its name, and counts from 0.
    earlier = next((each for each in before.models if each.instance_reference == model.instance_reference), None)
    if earlier is None:
        return {}
    span_s = now.clock_s - before.clock_s
    return {
        "prompt": (model.prompt_tokens - earlier.prompt_tokens) / span_s,
        "decode": (model.completion_tokens - earlier.completion_tokens) / span_s,
    }
