"""Which reading is the budget, on every engine and platform."""

from __future__ import annotations

import pytest

from lmstrix.core.memory.budgets import BudgetSource, Readings, assumed_budget, choose_budget
from lmstrix.core.memory.cards import GpuMemory
from lmstrix.core.memory.host import HostMemory
from lmstrix.core.memory.runtime import EMBEDDED, EMBEDDED_ADDRESS_SPACE, LM_STUDIO, Runtime
from lmstrix.ground.types import HardwareSurvey, ServerMemory, SurveyedGraphics

GIB = 2**30


def card(free: int, total: int = 24) -> GpuMemory:
    return GpuMemory(name="card", total_bytes=total * GIB, free_bytes=free * GIB)


def host(*cards: GpuMemory, unreadable: tuple[str, ...] = (), working_set: int | None = None) -> HostMemory:
    return HostMemory(
        total_bytes=64 * GIB,
        available_bytes=50 * GIB,
        gpus=cards,
        unreadable_gpus=unreadable,
        working_set_bytes=None if working_set is None else working_set * GIB,
    )


def survey(*graphics: tuple[int, str]) -> HardwareSurvey:
    return HardwareSurvey(
        graphics=tuple(
            SurveyedGraphics(
                name=kind, memory_bytes=size * GIB, integrated=kind in ("Metal", "integrated"), found_by=kind
            )
            for size, kind in graphics
        ),
        main_memory_bytes=64 * GIB,
    )


TOLD = ServerMemory(
    available_bytes=GIB,
    limited_by="memory limit",
    machine_bytes=3 * GIB,
    machine_limited_by="graphics card",
    boot_id="b",
)
NVIDIA_HERE, RADEON_HERE = host(card(20)), host(unreadable=("AMD card0",))
MAC_HERE, PLAIN_HERE = host(working_set=48), host()


@pytest.mark.parametrize(
    ("readings", "gib", "source"),
    [
        # Our engine: its own word, whatever this machine has.
        (Readings(engine="embedded", told=TOLD, host=NVIDIA_HERE), 3, "server"),
        (Readings(engine="embedded", host=PLAIN_HERE), 50, "main memory"),
        (Readings(engine="embedded", host=MAC_HERE), 48, "working set"),
        (Readings(engine="embedded", host=NVIDIA_HERE), None, "unknown"),
        (Readings(engine="embedded", host=RADEON_HERE), None, "unknown"),
        (Readings(engine="embedded"), None, "unknown"),
        # LM Studio here.
        (Readings(engine="lmstudio", host=PLAIN_HERE), 50, "main memory"),
        (Readings(engine="lmstudio", host=NVIDIA_HERE), 20, "cards"),
        (Readings(engine="lmstudio", host=NVIDIA_HERE, survey=survey((24, "CUDA"))), 20, "cards"),
        (Readings(engine="lmstudio", host=host(card(20), card(22)), survey=survey((24, "CUDA"))), 24, "survey"),
        (Readings(engine="lmstudio", host=NVIDIA_HERE, survey=survey()), 50, "main memory"),
        (Readings(engine="lmstudio", host=RADEON_HERE), None, "unknown"),
        (
            Readings(engine="lmstudio", host=RADEON_HERE, survey=survey((32, "Vulkan"), (22, "integrated"))),
            32,
            "survey",
        ),
        (Readings(engine="lmstudio", host=RADEON_HERE, survey=survey()), 50, "main memory"),
        (Readings(engine="lmstudio", host=PLAIN_HERE, survey=survey((32, "Vulkan"))), 32, "survey"),
        (Readings(engine="lmstudio", host=PLAIN_HERE, survey=survey((8, "integrated"))), 50, "main memory"),
        (Readings(engine="lmstudio", host=MAC_HERE, survey=survey((40, "Metal"))), 48, "working set"),
        (Readings(engine="lmstudio", host=PLAIN_HERE, survey=survey((40, "Metal"))), 40, "working set"),
        (Readings(engine="lmstudio", host=PLAIN_HERE, survey=survey((60, "Metal"))), 50, "working set"),
        # LM Studio elsewhere.
        (Readings(engine="lmstudio"), None, "unknown"),
        (Readings(engine="lmstudio", survey=survey((24, "CUDA"), (24, "CUDA"))), 48, "survey"),
        (Readings(engine="lmstudio", survey=survey((48, "Metal"))), 48, "working set"),
        (Readings(engine="lmstudio", survey=survey((8, "integrated"))), None, "unknown"),
        (Readings(engine="lmstudio", survey=survey()), None, "unknown"),
    ],
)
def test_the_budget_is_the_truest_reading(readings: Readings, gib: int | None, source: BudgetSource) -> None:
    budget = choose_budget(readings)
    assert (budget.available_bytes, budget.source) == (None if gib is None else gib * GIB, source)
    assert budget.why
    assert budget.beside_checkpoints is (source not in ("cards", "survey"))
    # Only a server's own word is so sure that the search takes it as it is.
    assert (budget.limited_by is not None) is (source == "server")
    assert budget.runtime is (LM_STUDIO if readings.engine == "lmstudio" else EMBEDDED)


def test_the_engines_own_limit_is_for_those_who_do_not_ask_its_guardrail() -> None:
    own = choose_budget(Readings(engine="embedded", told=TOLD), with_own_limit=True)
    assert (own.available_bytes, own.limited_by, own.why) == (GIB, "memory limit", "told by the engine: its own limit")
    space = ServerMemory(
        available_bytes=GIB, limited_by="host", machine_bytes=GIB, machine_limited_by="address space", boot_id="b"
    )
    assert choose_budget(Readings(engine="embedded", told=space)).runtime is EMBEDDED_ADDRESS_SPACE


@pytest.mark.parametrize(
    ("platform", "runtime", "gib"),
    [
        ("win32", EMBEDDED, 50),
        ("win32", LM_STUDIO, 20),
        ("linux", EMBEDDED, 20),
        ("darwin", EMBEDDED, 20),
    ],
)
def test_before_a_server_is_asked_the_engines_build_for_windows_uses_no_card(
    platform: str, runtime: Runtime, gib: int
) -> None:
    assert assumed_budget(NVIDIA_HERE, runtime, platform=platform).available_bytes == gib * GIB
