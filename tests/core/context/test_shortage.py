"""A model that was seen to run out of memory says what fits: the search goes on from there, whatever it had read."""

from __future__ import annotations

import pytest

from lmstrix.core.context.machine_belief import MachineBelief
from lmstrix.core.context.search import ContextSearch
from lmstrix.ground.types import MemoryShortage

GIB = 2**30
WEIGHTS = 5 * GIB
PER_TOKEN = 128 * 1024
DECLARED = 131_072


def cost(n: int) -> int:
    return WEIGHTS + PER_TOKEN * n


class Machine:
    """An engine that takes memory when a context is filled, and tells what it took and what it held at the end."""

    def __init__(self, budget_bytes: float, *, late_bytes: int = 0) -> None:
        self._budget_bytes = int(budget_bytes)
        self._late_bytes = late_bytes
        self.loads = self.failing = 0

    @property
    def limit(self) -> int:
        return (self._budget_bytes - WEIGHTS) // PER_TOKEN

    def find(self, read_bytes: float, *, learned: MachineBelief | None = None) -> ContextSearch:
        search = ContextSearch(
            cost=cost, declared=DECLARED, budget_bytes=int(read_bytes), architecture="llama", told=True, learned=learned
        )
        while (n := search.next_load()) is not None:
            self.loads += 1
            left = max(0, int(read_bytes) - cost(n))
            search.observe_loaded(n, memory_bytes=cost(n), exact=True, free_bytes=left)
        while (n := search.next_prefill()) is not None:
            held = cost(n) <= self._budget_bytes
            self.failing += not held
            shortage = MemoryShortage(held_bytes=self._budget_bytes - self._late_bytes, grew_bytes=2 * self._late_bytes)
            search.observe_prefilled(
                n,
                ok=held,
                memory_bytes=cost(n) if held else None,
                exact=True,
                shortage=None if held else shortage,
            )
        return search


@pytest.mark.parametrize("misread", [1.1, 1.3, 3.0, 10.0])
def test_one_failure_tells_the_limit_however_the_budget_was_misread(misread: float) -> None:
    machine = Machine(9 * GIB)
    search = machine.find(misread * 9 * GIB)
    assert machine.failing == 1
    assert machine.loads <= 4
    assert 0.9 * machine.limit < search.best <= machine.limit


def test_what_was_seen_late_is_taken_with_doubt() -> None:
    machine = Machine(9 * GIB, late_bytes=GIB // 2)
    search = machine.find(3 * 9 * GIB)
    assert machine.failing <= 2
    assert 0.8 * machine.limit < search.best <= machine.limit


def test_less_than_what_was_filled_before_was_not_the_end_of_memory() -> None:
    search = ContextSearch(cost=cost, declared=DECLARED, budget_bytes=12 * GIB, architecture="llama", told=True)
    search.observe_loaded(32_768, memory_bytes=cost(32_768), exact=True, free_bytes=3 * GIB)
    search.observe_prefilled(32_768, ok=True, memory_bytes=cost(32_768), exact=True)
    before = search.risk(36_864)
    search.observe_failed(65_536, shortage=MemoryShortage(held_bytes=3 * GIB, grew_bytes=0))
    assert search.risk(36_864) == pytest.approx(before, abs=0.2)


def test_the_next_model_starts_from_what_was_seen_and_nothing_is_kept_beyond_the_run() -> None:
    machine = Machine(9 * GIB)
    learned = machine.find(3 * 9 * GIB).learned()
    assert learned.budget_ratio is not None
    assert learned.budget_ratio.mean == pytest.approx(1 / 3, rel=0.03)
    assert MachineBelief.from_json(learned.to_json()).budget_ratio is None
    second = Machine(9 * GIB)
    search = second.find(3 * 9 * GIB, learned=learned)
    assert second.failing <= 1
    assert search.best > 0.9 * second.limit


def test_a_budget_read_right_is_kept_as_it_is() -> None:
    machine = Machine(9 * GIB)
    learned = machine.find(1.005 * 9 * GIB).learned()
    assert not learned.is_misread
