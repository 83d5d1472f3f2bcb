"""Whose word counts for what models may take: the server's, then this machine's, then nobody's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.core.memory.budgets import Budget
from lmstrix.core.memory.cards import GpuMemory
from lmstrix.core.memory.host import HostMemory
from lmstrix.core.memory.kv_cache import recurrent_state_bytes
from lmstrix.core.memory.runtime import EMBEDDED, EMBEDDED_ADDRESS_SPACE, LM_STUDIO
from lmstrix.core.memory.shape import shape_from_listing
from lmstrix.ground.headroom import NO_HEADROOM
from lmstrix.ground.loads import DEFAULT_LOAD, LoadConfig
from lmstrix.ground.types import HardwareSurvey, ResourceEstimate, ServerInfo, ServerMemory
from lmstrix.service import budgets
from lmstrix.service.budgets import server_budget
from lmstrix.service.told_costs import load_cost
from tests.support.fleet import fleet_shapes

if TYPE_CHECKING:
    from lmstrix.ground.types import MemoryLimit

GIB = 2**30


class TellingBackend(AsyncLMStudioBackend):
    """A server that says this of its memory."""

    surveyed: HardwareSurvey | None = None

    def __init__(self, server: ServerInfo, told: ServerMemory | None = None) -> None:
        super().__init__(server)
        self.told = told

    async def memory(self) -> ServerMemory | None:
        return self.told

    async def survey(self) -> HardwareSurvey | None:
        return self.surveyed


def lm_studio(address: str = "127.0.0.1:1234") -> TellingBackend:
    return TellingBackend(ServerInfo(address=address, engine="lmstudio"))


def engine(limited_by: MemoryLimit) -> TellingBackend:
    told = ServerMemory(
        available_bytes=GIB,
        limited_by="memory limit",
        machine_bytes=3 * GIB,
        machine_limited_by=limited_by,
        boot_id="b",
    )
    return TellingBackend(ServerInfo(address="192.0.2.7:1234", engine="embedded"), told)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> HostMemory:
    memory = HostMemory(total_bytes=64 * GIB, available_bytes=50 * GIB)
    monkeypatch.setattr(budgets, "read_host_memory", lambda: memory)
    return memory


async def test_an_engine_is_believed_wherever_it_runs() -> None:
    told = await server_budget(engine("control group"), NO_HEADROOM)
    assert told == Budget(available_bytes=3 * GIB, runtime=EMBEDDED, limited_by="control group")
    assert (await server_budget(engine("address space"), NO_HEADROOM)).runtime is EMBEDDED_ADDRESS_SPACE
    estimated = await server_budget(engine("control group"), NO_HEADROOM, with_own_limit=True)
    assert (estimated.available_bytes, estimated.limited_by) == (GIB, "memory limit")


async def test_this_machine_stands_for_a_server_on_it_and_for_no_other() -> None:
    assert await server_budget(lm_studio(), NO_HEADROOM) == Budget(available_bytes=50 * GIB, runtime=LM_STUDIO)
    assert (await server_budget(lm_studio("192.0.2.7:1234"), NO_HEADROOM)).available_bytes is None


async def test_a_card_that_does_not_tell_its_memory_leaves_the_budget_open(
    host: HostMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "read_host_memory", lambda: replace(host, unreadable_gpus=("Intel card0",)))
    assert (await server_budget(lm_studio(), NO_HEADROOM)).available_bytes is None


async def test_checkpoints_keep_their_room_in_main_memory_but_not_on_a_card(
    host: HostMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = fleet_shapes()["Qwen3.5 35B-A3B"]
    checkpoints = 32 * recurrent_state_bytes(shape)
    beside = await server_budget(lm_studio(), NO_HEADROOM)
    assert beside.for_loading(shape, DEFAULT_LOAD) == 50 * GIB - checkpoints
    assert beside.use(shape, 8192, DEFAULT_LOAD) - beside.cost(shape, 8192, DEFAULT_LOAD) == checkpoints
    card = GpuMemory(name="card", total_bytes=48 * GIB, free_bytes=40 * GIB)
    monkeypatch.setattr(budgets, "read_host_memory", lambda: replace(host, gpus=(card,)))
    on_card = await server_budget(lm_studio(), NO_HEADROOM)
    assert on_card.for_loading(shape, DEFAULT_LOAD) == 40 * GIB
    assert on_card.limit(shape, 262_144, DEFAULT_LOAD) == 262_144
    assert beside.limit(shape, 262_144, DEFAULT_LOAD) == 262_144


def test_where_nobody_knows_the_ceiling_is_the_limit() -> None:
    shape = fleet_shapes()["Llama 3.1 8B Instruct"]
    nobody = Budget(available_bytes=None, runtime=LM_STUDIO)
    assert nobody.for_loading(shape, DEFAULT_LOAD) is None
    assert nobody.limit(shape, 131_072, DEFAULT_LOAD) == 131_072


class EstimatingBackend(TellingBackend):
    """An engine whose files cannot be read from here, but which estimates."""

    per_token = 1000

    async def estimate(self, model_key: str, config: LoadConfig) -> ResourceEstimate:
        assert config.context_length is not None
        total = GIB + self.per_token * config.context_length
        return ResourceEstimate(
            model_bytes=GIB,
            context_bytes=total - GIB,
            total_bytes=total,
            gpu_total_bytes=0,
            passes_guardrails=True,
            confidence="high",
        )


@pytest.mark.parametrize("ceiling", [1, 300, 8192, 100_000])
async def test_where_the_file_is_out_of_reach_an_engine_tells_what_loads_cost(ceiling: int) -> None:
    told = engine("host")
    far = EstimatingBackend(told.server, told.told)
    budget = await server_budget(far, NO_HEADROOM)
    guess = shape_from_listing(size_bytes=GIB, max_context_length=ceiling)
    cost = await load_cost(far, budget, guess, model_key="m", load=DEFAULT_LOAD, ceiling=ceiling)
    assert not cost.approximate
    for length in (1, 256, 5000, ceiling, 2 * ceiling):
        assert cost.of(length) == GIB + 1000 * length


async def test_of_lm_studio_a_guess_stays_a_guess() -> None:
    server = EstimatingBackend(lm_studio().server)
    budget = await server_budget(server, NO_HEADROOM)
    guess = shape_from_listing(size_bytes=GIB, max_context_length=8192)
    cost = await load_cost(server, budget, guess, model_key="m", load=DEFAULT_LOAD, ceiling=8192)
    assert cost.approximate
    assert cost.of(4096) == budget.cost(guess, 4096, DEFAULT_LOAD)
