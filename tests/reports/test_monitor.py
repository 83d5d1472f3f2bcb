"""A watched server as lines: what is told and what is not, at every width, in ASCII."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lmstrix.core.memory.cards import GpuMemory
from lmstrix.core.monitoring import MachineReading, MeanPower, MonitoredModel, MonitorSnapshot, ServerReading
from lmstrix.ground.activity import RequestActivity
from lmstrix.ground.types import InstanceMemory
from lmstrix.reports.live_screen import fitting
from lmstrix.reports.monitor import snapshot_lines

GIB = 2**30
REQUEST = RequestActivity(
    status="generating", age_s=3.2, prompt_tokens=1200, prompt_done_tokens=1200, completion_tokens=214
)
MODEL = MonitoredModel(
    instance_id="qwen/qwen3-30b-a3b-thinking-2507",
    model_key="qwen/qwen3-30b-a3b-thinking-2507",
    kind="llm",
    context_length=131072,
    parallel_slots=2,
    status="generating",
    running=2,
    waiting=1,
    prompt_tokens_per_second=0.0,
    decode_tokens_per_second=38.2,
    answered=17,
    requests=(
        REQUEST,
        replace(REQUEST, status="processingPrompt", prompt_done_tokens=512, completion_tokens=0),
        replace(REQUEST, status="waiting"),
    ),
)
MACHINE = MachineReading(
    total_bytes=64 * GIB,
    available_bytes=12 * GIB,
    limited_by="host",
    engine_bytes=3 * GIB,
    cards=(GpuMemory(name="NVIDIA RTX 4090", total_bytes=24 * GIB, free_bytes=4 * GIB),),
    unreadable_cards=("AMD card1",),
    power=(MeanPower(channel="NVML: 0 RTX 4090", power_w=312.44), MeanPower(channel="RAPL: package", power_w=None)),
)
SNAPSHOT = MonitorSnapshot(
    at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    server="the embedded engine at 127.0.0.1:4455",
    is_local=True,
    reading=ServerReading(tells_work=True, models=(MODEL,), loading=("tiny",), resident_bytes=3 * GIB),
    machine=MACHINE,
)


def text_of(snapshot: MonitorSnapshot, width: int = 120) -> str:
    return "\n".join(snapshot_lines(snapshot, width))


def test_all_that_is_told() -> None:
    text = text_of(SNAPSHOT)
    for part in (
        "1 model loaded; loading tiny; queue: 1 waiting; tokens per second: 0 prompt, 38.2 decode",
        "answering since 3.20 s: 214 tokens to a prompt of 1,200 tokens",
        "reading a prompt since 3.20 s: 512 of 1,200 tokens",
        "memory    12.0 GiB free of 64.0 GiB",
        "its processes hold 3.00 GiB",
        "NVIDIA RTX 4090: 4.00 GiB free of 24.0 GiB",
        "AMD card1: its memory cannot be read",
        "NVML: 0 RTX 4090: 312.4 W",
        "RAPL: package: not measured yet",
    ):
        assert part in text


def test_layers_on_cards() -> None:
    memory = InstanceMemory(
        memory_bytes=GIB,
        limited_by="graphics card",
        weights_bytes=1,
        kv_cache_bytes=1,
        recurrent_state_bytes=0,
        compute_buffer_bytes=1,
        resident_bytes=1,
        peak_resident_bytes=1,
        gpu_layers=29,
        all_layers=37,
    )
    reading = ServerReading(tells_work=True, models=(replace(MODEL, memory=memory),))
    text = text_of(replace(SNAPSHOT, reading=reading))
    assert "ON GPU" in text
    assert "29/37" in text


def test_no_power_source_is_no_power_of_zero() -> None:
    text = text_of(replace(SNAPSHOT, machine=replace(MACHINE, power=())))
    assert "power     no source here" in text
    assert "0.0 W" not in text


def test_what_a_listing_does_not_tell_is_said_and_not_made_up() -> None:
    model = MonitoredModel(instance_id="m", model_key="m", kind="llm", context_length=4096, status="idle", waiting=0)
    text = text_of(replace(SNAPSHOT, reading=ServerReading(tells_work=False, models=(model,))))
    assert "not told by LM Studio: tokens per second" in text
    assert "decode" not in text
    assert " 0.0" not in text


def test_a_server_that_is_gone() -> None:
    text = text_of(replace(SNAPSHOT, reading=None, problem="no answer within 2 s", problem_s=75.0))
    assert "tells nothing now (for 1 m 15 s): no answer within 2 s; asking again" in text
    assert "12.0 GiB free" in text


def test_another_machines_memory_is_not_ours() -> None:
    text = text_of(replace(SNAPSHOT, is_local=False, machine=None))
    assert "not seen from here" in text
    assert "GiB free" not in text


@pytest.mark.parametrize("width", [1, 24, 40, 60, 80, 200])
def test_every_width_is_kept_in_ascii(width: int) -> None:
    lines = snapshot_lines(SNAPSHOT, width)
    assert all(line.isascii() for line in lines)
    assert max(map(len, lines)) <= max(width, 24)
    # What is wanted most stays where columns are short.
    assert "38.2" in "\n".join(lines)
    assert "generating" in "\n".join(lines) or width < 40


def test_a_terminal_escape_in_a_name_is_harmless() -> None:
    evil = replace(MODEL, instance_id="\x1b[2Jm", model_key="m")
    assert "\x1b" not in text_of(
        replace(SNAPSHOT, server="\x1b]0;x\x07", reading=ServerReading(tells_work=True, models=(evil,)))
    )


def test_lines_that_find_no_room_are_counted() -> None:
    lines = [str(number) for number in range(10)]
    assert fitting(lines, 12)[-1] == "q ends"
    assert fitting(lines, 10) == lines
    assert fitting(lines, 5) == ["0", "1", "2", "3", "and 6 more lines"]
    assert fitting(lines, 1) == ["0"]
