"""Speeds from two readings of an engine's counters, and what a listing alone can say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lmstrix.core.monitoring import reading_of_engine, reading_of_listing
from lmstrix.ground.activity import InstanceActivity, RequestActivity, RequestStatus, ServerActivity
from lmstrix.ground.types import InstanceMemory, LoadedModel

MEMORY = InstanceMemory(
    memory_bytes=90,
    limited_by="host",
    weights_bytes=50,
    kv_cache_bytes=20,
    recurrent_state_bytes=0,
    compute_buffer_bytes=5,
    resident_bytes=70,
    peak_resident_bytes=80,
)
MODEL = InstanceActivity(
    instance_id="m",
    instance_reference="i-1",
    model_key="m",
    kind="llm",
    context_length=4096,
    parallel_slots=2,
    ttl_s=None,
    idle_s=None,
    answered=1,
    prompt_tokens=100,
    completion_tokens=10,
    requests=(),
    memory=MEMORY,
)
BEFORE = ServerActivity(pid=7, clock_s=100.0, resident_bytes=30, loading=(), models=(MODEL,))


def request(status: RequestStatus) -> RequestActivity:
    return RequestActivity(status=status, age_s=1.0, prompt_tokens=9, prompt_done_tokens=9, completion_tokens=3)


def later(model: InstanceActivity, *, pid: int = 7, clock_s: float = 104.0) -> ServerActivity:
    return replace(BEFORE, pid=pid, clock_s=clock_s, models=(model,))


def test_speeds_are_differences_over_the_servers_own_clock() -> None:
    now = later(replace(MODEL, prompt_tokens=300, completion_tokens=50))
    (model,) = reading_of_engine(BEFORE, now).models
    assert model.prompt_tokens_per_second == pytest.approx(50.0)
    assert model.decode_tokens_per_second == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, later(MODEL)),
        (BEFORE, later(MODEL, pid=8)),  # another engine
        (BEFORE, later(replace(MODEL, instance_reference="i-2", prompt_tokens=3))),  # another load of that name
        (BEFORE, later(MODEL, clock_s=100.0)),
    ],
)
def test_where_there_is_nothing_to_compare_with_no_speed_is_known(
    before: ServerActivity | None, now: ServerActivity
) -> None:
    (model,) = reading_of_engine(before, now).models
    assert (model.prompt_tokens_per_second, model.decode_tokens_per_second) == (None, None)


def test_an_idle_model_makes_no_tokens_which_is_known() -> None:
    (model,) = reading_of_engine(BEFORE, later(MODEL)).models
    assert (model.status, model.decode_tokens_per_second) == ("idle", 0.0)


def test_requests_are_counted_and_the_furthest_gives_the_state() -> None:
    found = (request("processingPrompt"), request("generating"), request("waiting"), request("waiting"))
    reading = reading_of_engine(None, later(replace(MODEL, requests=found)))
    (model,) = reading.models
    assert (model.status, model.running, model.waiting) == ("generating", 2, 2)
    assert reading.resident_bytes == 100
    assert reading.tells_work
    (model,) = reading_of_engine(None, later(replace(MODEL, requests=(request("waiting"),)))).models
    assert model.status == "waiting"


def test_a_listing_tells_no_more_than_it_does() -> None:
    loaded = LoadedModel(
        instance_id="m",
        instance_reference="r",
        model_key="m",
        kind="llm",
        path="p",
        context_length=4096,
        max_context_length=8192,
        status="generating",
        queued=3,
    )
    reading = reading_of_listing([loaded, replace(loaded, status=None, queued=None)])
    told, silent = reading.models
    assert not reading.tells_work
    assert reading.resident_bytes is None
    assert (told.status, told.waiting, told.decode_tokens_per_second, told.requests) == ("generating", 2, None, None)
    assert (silent.status, silent.waiting) == (None, None)
