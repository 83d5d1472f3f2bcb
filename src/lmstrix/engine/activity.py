"""What the engine is doing now, for whoever watches it. Reads a few numbers, and changes nothing."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from lmstrix.engine.llama.process_memory import process_memory
from lmstrix.engine.records import now_ms
from lmstrix.ground.activity import InstanceActivity, RequestActivity, ServerActivity

if TYPE_CHECKING:
    from lmstrix.engine.instance import Instance
    from lmstrix.engine.llama.tally import Turn
    from lmstrix.engine.pool import InstancePool


def server_activity(pool: InstancePool) -> ServerActivity:
    """All that is loaded, with the requests that wait and run."""
    clock_s = time.perf_counter()
    pid = os.getpid()
    return ServerActivity(
        pid=pid,
        clock_s=clock_s,
        resident_bytes=process_memory(pid).resident_bytes,
        loading=pool.loading,
        models=tuple(_instance(pool, instance, clock_s) for instance in pool.list_loaded()),
    )


def _instance(pool: InstancePool, instance: Instance, clock_s: float) -> InstanceActivity:
    slots = instance.slots
    used_ms = slots.last_used_ms
    return InstanceActivity(
        instance_id=instance.identifier,
        instance_reference=instance.reference,
        model_key=instance.entry.model_key,
        kind=instance.entry.kind,
        context_length=instance.context_length,
        parallel_slots=instance.settings.parallel_slots,
        ttl_s=instance.ttl_s,
        idle_s=None if used_ms is None or slots.queued else max(0, now_ms() - used_ms) / 1000,
        answered=slots.tally.answered,
        prompt_tokens=slots.tally.prompt_tokens,
        completion_tokens=slots.tally.completion_tokens,
        requests=tuple(_request(turn, clock_s) for turn in slots.turns),
        memory=pool.instance_memory(instance.identifier),
    )


def _request(turn: Turn, clock_s: float) -> RequestActivity:
    return RequestActivity(
        status="waiting" if turn.status == "idle" else turn.status,
        age_s=max(0.0, clock_s - turn.began_s),
        prompt_tokens=turn.prompt_tokens,
        prompt_done_tokens=turn.prompt_done_tokens,
        completion_tokens=turn.completion_tokens,
    )
