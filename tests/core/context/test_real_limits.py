"""The test of one model under a limit that the system sets: a limit is found, and never one that does not hold.

`bench/real_limits.py` measures the same over five classes of models, two limits and six beliefs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.memory.host import read_host_memory
from lmstrix.ground.errors import OutOfMemoryError
from tests.support.limited_engine import LimitedEngine, RealLoads, Truth, backend_of, load_and_fill
from tests.support.limited_models import DECLARED, LimitedModel, put_models
from tests.support.limited_tests import find_limit
from tests.support.memory_limits import NoLimitError, best_limit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRUE_LENGTH = 1536


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrow:
    """An engine whose one model has room for part of its context, and how much of it."""

    engine: LimitedEngine
    model: LimitedModel
    truth: Truth


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Narrow]:
    """A dense model under a limit that leaves it about 1,536 of 8,192 tokens."""
    try:
        limit = best_limit()
    except NoLimitError as exc:
        pytest.skip(str(exc))
    models_dir = tmp_path_factory.mktemp("models")
    model = put_models(models_dir, ["dense"])["dense"]
    with limit, LimitedEngine(models_dir, limit) as engine:
        yield Narrow(engine=engine, model=model, truth=asyncio.run(_truth(engine, model)))


async def _truth(engine: LimitedEngine, model: LimitedModel) -> Truth:
    async with backend_of(engine) as backend:
        await engine.hold_files(backend, model)
        loads = RealLoads(engine, backend, model)
        return await loads.truth(await loads.limit_at(TRUE_LENGTH))


@pytest.mark.needs_linux("control groups")
@pytest.mark.slow
@pytest.mark.parametrize("reads_the_machine", [False, True], ids=["budget right", "budget of the whole machine"])
async def test_a_length_is_found_and_it_holds(narrow: Narrow, tmp_path: Path, reads_the_machine: bool) -> None:
    budget_bytes = read_host_memory().model_budget_bytes if reads_the_machine else narrow.truth.budget_bytes
    async with backend_of(narrow.engine, budget_bytes=budget_bytes) as backend:
        tested = await find_limit(
            backend, narrow.model, budget_bytes=budget_bytes, reading=True, history_file=tmp_path / "history.db"
        )
        assert await backend.list_loaded() == []
    assert 0 < (tested.result.loadable_context_length or 0) <= narrow.truth.length


@pytest.mark.needs_linux("control groups")
@pytest.mark.slow
async def test_what_a_model_held_when_memory_ran_out_is_told(narrow: Narrow) -> None:
    if narrow.engine.limit_kind != "cgroup":
        pytest.skip("no control group may be made here, and nothing else ends a process for what it holds")
    async with backend_of(narrow.engine) as backend:
        with pytest.raises(OutOfMemoryError, match="held"):
            await load_and_fill(backend, narrow.model, DECLARED, instance_id="too much")
        shortage = await backend.memory_shortage("too much")
    assert shortage is not None
    # It may have taken more after it was last seen: on a busy machine by much.
    most = narrow.truth.budget_bytes * 1.05
    assert 0.3 * narrow.truth.budget_bytes < shortage.held_bytes < most
