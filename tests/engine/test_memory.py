"""What the engine says of memory: the least of what limits it, and readings that the predictions agree with."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Literal

import pytest

from lmstrix.core.memory.fit import load_breakdown
from lmstrix.core.memory.host import HostMemory
from lmstrix.core.memory.runtime import EMBEDDED_ADDRESS_SPACE
from lmstrix.engine import estimate
from lmstrix.engine import memory as engine_memory
from lmstrix.engine.estimate import load_parts
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.buffers import BufferLog
from lmstrix.engine.llama.idle import IdleChild, UsableGraphics, ask_idle_child
from lmstrix.engine.memory import server_memory
from lmstrix.engine.records import LoadSettings
from tests.core.memory.hollow_gguf import write_hollow_gguf
from tests.core.memory.hollow_models import CLASSES, Widths
from tests.engine.pools import running_pool, scripted_models

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.engine.instance import Instance

MIB, GIB = 2**20, 2**30
_WIDTHS = Widths(n_layers=8, n_embd=64, n_head=4, n_head_kv=4, head_dim=96, n_ff=192, context_length=8192)
_LINUX = pytest.mark.needs_linux("reads the children's memory from /proc")


def host_of(
    monkeypatch: pytest.MonkeyPatch,
    *,
    available: int,
    limited_by: Literal["host", "control group"] = "control group",
    address_space: int | None = None,
) -> None:
    memory = HostMemory(total_bytes=64 * GIB, available_bytes=available, limited_by=limited_by)
    monkeypatch.setattr(estimate, "read_host_memory", lambda **_: memory)
    monkeypatch.setattr(engine_memory, "address_space_limit", lambda: address_space)


def test_the_least_room_is_told_with_what_limits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = IdleChild(address_space_bytes=120 * MIB)
    host_of(monkeypatch, available=8 * GIB)
    free = server_memory(idle, limit_bytes=None, in_use_bytes=0)
    # A group is the engine's own; on a machine, other programs keep a part.
    assert (free.available_bytes, free.limited_by) == (8 * GIB, "control group")
    host_of(monkeypatch, available=8 * GIB, limited_by="host")
    shared = server_memory(idle, limit_bytes=None, in_use_bytes=0)
    assert (shared.available_bytes, shared.limited_by) == (8 * GIB - 256 * MIB, "host")
    host_of(monkeypatch, available=8 * GIB)
    limited = server_memory(idle, limit_bytes=6 * GIB, in_use_bytes=GIB)
    assert (limited.available_bytes, limited.limited_by) == (5 * GIB, "memory limit")
    assert (limited.machine_bytes, limited.machine_limited_by) == (8 * GIB, "control group")
    # The engine lets through what its own limit allows, but the control group does not.
    assert server_memory(idle, limit_bytes=60 * GIB, in_use_bytes=GIB).available_bytes == 8 * GIB
    host_of(monkeypatch, available=8 * GIB, address_space=GIB)
    reserved = server_memory(idle, limit_bytes=6 * GIB, in_use_bytes=GIB)
    assert (reserved.available_bytes, reserved.limited_by) == (GIB - 120 * MIB, "address space")
    assert free.boot_id == reserved.boot_id != ""


def test_where_the_gpu_shares_main_memory_its_working_set_is_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = HostMemory(total_bytes=64 * GIB, available_bytes=60 * GIB, working_set_bytes=48 * GIB)
    monkeypatch.setattr(estimate, "read_host_memory", lambda **_: mac)
    assert estimate.host_room_bytes(reserved=False, in_use_bytes=0) == ("graphics card", 48 * GIB)


def test_an_engine_whose_children_cannot_start_has_room_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    host_of(monkeypatch, available=8 * GIB, address_space=10 * MIB)
    assert server_memory(None, limit_bytes=None, in_use_bytes=0).available_bytes == 0


@pytest.mark.parametrize(
    ("available", "in_use", "room", "limited_by"),
    [(40, 0, 24, "graphics card"), (20, 0, 20, "host"), (30, 10, 14, "graphics card")],
    ids=["working set", "main memory", "beside a loaded model"],
)
def test_graphics_that_share_main_memory_may_use_their_part_of_it(
    monkeypatch: pytest.MonkeyPatch, available: int, in_use: int, room: int, limited_by: str
) -> None:
    # A loaded model is missing from what is available already, but not from what graphics may use in all.
    memory = HostMemory(total_bytes=48 * GIB, available_bytes=available * GIB, working_set_bytes=24 * GIB)
    monkeypatch.setattr(estimate, "read_host_memory", lambda **_: memory)
    monkeypatch.setattr(engine_memory, "address_space_limit", lambda: None)
    monkeypatch.setattr(sys, "platform", "darwin")
    metal = UsableGraphics(backend="MTL0", name="Apple M4", integrated=False, total_bytes=24 * GIB, free_bytes=24 * GIB)
    told = server_memory(
        IdleChild(address_space_bytes=0, graphics=(metal,)), limit_bytes=None, in_use_bytes=in_use * GIB
    )
    reserve = 256 * MIB if limited_by == "host" else 0
    assert (told.available_bytes, told.limited_by) == (room * GIB - reserve, limited_by)


def test_cards_that_llama_cpp_can_use_hold_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    host_of(monkeypatch, available=4 * GIB)
    two = tuple(
        UsableGraphics(backend=name, name="card", integrated=False, total_bytes=16 * GIB, free_bytes=free)
        for name, free in (("CUDA0", 10 * GIB), ("CUDA1", 6 * GIB))
    )
    cards = server_memory(IdleChild(address_space_bytes=0, graphics=two), limit_bytes=None, in_use_bytes=0)
    if sys.platform != "darwin":
        assert (cards.available_bytes, cards.limited_by) == (16 * GIB, "graphics card")


@_LINUX
def test_an_idle_child_tells_what_it_takes_by_itself() -> None:
    idle = asyncio.run(ask_idle_child())
    assert idle is not None
    assert 50 * MIB < idle.address_space_bytes < 2 * GIB


def test_buffer_lines_add_up_but_a_new_plan_of_computing_replaces_the_old() -> None:
    log = BufferLog()
    for line in (
        "load_tensors:   CPU_Mapped model buffer size =     2.50 MiB",
        "load_tensors:        CUDA0 model buffer size =  1000.00 MiB",
        "llama_kv_cache:      CUDA0 KV buffer size =    96.00 MiB",
        "llama_kv_cache:      CUDA0 KV buffer size =    32.00 MiB",
        "llama_kv_cache: size =   128.00 MiB (  2048 cells,   1 layers,  1/1 seqs)",
        "sched_reserve:      CUDA0 compute buffer size =    15.00 MiB",
        "sched_reserve:      CUDA0 compute buffer size =    20.00 MiB",
        "sched_reserve:  CUDA_Host compute buffer size =     4.00 MiB",
    ):
        log.read(line)
    assert log.of_kind("model") == 1002.5 * MIB
    assert log.of_kind("KV") == 128 * MIB
    assert log.of_kind("compute") == 24 * MIB
    assert log.on_cards_bytes == (1000 + 128 + 20) * MIB


def test_layers_on_cards_are_counted_with_the_output() -> None:
    log = BufferLog()
    assert (log.gpu_layers, log.all_layers) == (None, None)
    log.read("print_info: n_layer               = 32")
    log.read("print_info: n_layer_all           = 32")
    assert (log.gpu_layers, log.all_layers) == (0, 33)
    log.read("load_tensors: offloading 16 repeating layers to GPU")
    log.read("load_tensors: offloaded 17/33 layers to GPU")
    assert (log.gpu_layers, log.all_layers) == (17, 33)


async def _filled(instance: Instance) -> None:
    tokens = [300 + i % 200 for i in range(instance.context_length - 8)]
    await instance.process.client.post("/completion", {"prompt": tokens, "n_predict": 1})


@pytest.mark.slow
@_LINUX
@pytest.mark.parametrize("name", ["dense", "sliding", "latent", "linear_hybrid", "mamba_hybrid", "mixture"])
def test_readings_are_what_was_predicted_before_and_after_the_context_is_filled(tmp_path: Path, name: str) -> None:
    model = CLASSES[name](_WIDTHS)
    file = tmp_path / "models" / "acme" / f"{name}-GGUF" / f"{name}-f16.gguf"
    file.parent.mkdir(parents=True)
    write_hollow_gguf(file, model.metadata, model.tensors)

    async def scenario() -> None:
        async with running_pool(tmp_path / "models", memory_limit_bytes=4 * GIB) as pool:
            await pool.memory()
            instance = await pool.load(name, LoadSettings(context_length=2048))
            parts = load_parts(pool.catalog.shape(instance.entry), instance.settings)
            loaded = pool.instance_memory(name)
            for exact, predicted in (
                (loaded.weights_bytes, parts.weights_bytes),
                (loaded.kv_cache_bytes, parts.kv_cache_bytes),
                (loaded.recurrent_state_bytes, parts.recurrent_state_bytes),
            ):
                assert exact == pytest.approx(predicted, abs=0.1 * MIB)
            assert loaded.compute_buffer_bytes == pytest.approx(parts.compute_buffer_bytes, rel=0.06)
            assert loaded.memory_bytes == pytest.approx(parts.loaded_bytes, rel=0.06)
            await _filled(instance)
            filled = pool.instance_memory(name)
            assert filled.memory_bytes == pytest.approx(parts.loaded_bytes, rel=0.05)
            assert filled.memory_bytes >= loaded.memory_bytes
            assert filled.peak_resident_bytes >= filled.resident_bytes > 0

    asyncio.run(scenario())


@_LINUX
@pytest.mark.parametrize("name", ["dense", "linear_hybrid"])
def test_under_a_limit_of_the_address_space_readings_count_what_is_reserved(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CLASSES[name](_WIDTHS)
    file = tmp_path / "models" / "acme" / f"{name}-GGUF" / f"{name}-f16.gguf"
    file.parent.mkdir(parents=True)
    write_hollow_gguf(file, model.metadata, model.tensors)
    host_of(monkeypatch, available=8 * GIB, address_space=GIB)

    async def scenario() -> None:
        async with running_pool(tmp_path / "models") as pool:
            assert (await pool.memory()).limited_by == "address space"
            instance = await pool.load(name, LoadSettings(context_length=2048))
            shape = pool.catalog.shape(instance.entry)
            predicted = load_breakdown(shape, 2048, runtime=EMBEDDED_ADDRESS_SPACE).loaded_bytes
            read = pool.instance_memory(name)
            assert read.limited_by == "address space"
            assert read.memory_bytes == pytest.approx(predicted, rel=0.06)

    asyncio.run(scenario())


def test_nobody_has_memory_who_is_not_loaded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_pool(scripted_models(tmp_path / "models")) as pool:
            with pytest.raises(EngineFault) as caught:
                pool.instance_memory("scripted")
            assert caught.value.kind == "not_found"

    asyncio.run(scenario())
