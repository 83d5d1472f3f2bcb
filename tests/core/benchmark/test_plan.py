"""Which cells are measured, in which order, and how a time budget is shared."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.benchmark.plan import has_time_for_another, plan_cells, plan_visits, visit_share_s
from lmstrix.core.benchmark.records import BenchRequest, BenchTarget
from lmstrix.ground.errors import UsageError


def target(tested: int | None, declared: int | None = 131072, key: str = "m") -> BenchTarget:
    return BenchTarget(model_key=key, path=f"{key}.gguf", tested_context_length=tested, max_context_length=declared)


def test_a_tier_holds_prompt_and_answer() -> None:
    (cell,) = plan_cells([target(16384)], BenchRequest(tiers=(16384,), max_tokens=256))
    assert cell.skipped is None
    assert cell.context_length == 16384
    assert cell.prompt_tokens is not None
    assert 15500 < cell.prompt_tokens < 16384 - 256


def test_tiers_beyond_the_tested_limit_are_skipped_and_said() -> None:
    request = BenchRequest(tiers=(0, 4096, 16384), concurrency=(1, 4))
    cells = plan_cells([target(8192)], request)
    assert {cell.name: cell.skipped for cell in cells} == {
        "m": None,
        "m, 4 at a time": None,  # no tier was asked for: the context is cut to what there is
        "m, 4096 tokens": None,
        "m, 4096 tokens, 4 at a time": "16,384 tokens (4 at a time) are beyond the tested limit of 8,192",
        "m, 16384 tokens": "16,384 tokens are beyond the tested limit of 8,192",
        "m, 16384 tokens, 4 at a time": "65,536 tokens (4 at a time) are beyond the tested limit of 8,192",
    }
    assert all(cell.context_length is not None and cell.context_length <= 8192 for cell in cells if not cell.skipped)


def test_an_untested_model_is_not_loaded_large() -> None:
    small, large = plan_cells([target(None)], BenchRequest(tiers=(4096, 8192)))
    assert small.skipped is None
    assert large.skipped is not None
    assert "lmstrix test m" in large.skipped


def test_a_server_that_loads_by_itself_has_no_limit() -> None:
    (cell,) = plan_cells([target(None, None)], BenchRequest(tiers=(65536,)), loads=False)
    assert cell.skipped is None
    assert cell.context_length is None


@pytest.mark.parametrize(
    "request_",
    [
        BenchRequest(runs=0),
        BenchRequest(tiers=()),
        BenchRequest(tiers=(64,)),
        BenchRequest(concurrency=(0,)),
        BenchRequest(max_tokens=0),
    ],
)
def test_nonsense_is_refused(request_: BenchRequest) -> None:
    with pytest.raises(UsageError):
        plan_cells([target(4096)], request_)


def test_order_is_there_and_back_again() -> None:
    cells = plan_cells([target(8192, key=key) for key in "abc"], BenchRequest(runs=6))
    assert [(visit.cell, visit.runs) for visit in plan_visits(cells, BenchRequest(runs=6))] == [
        (0, 3),
        (1, 3),
        (2, 3),
        (2, 3),
        (1, 3),
        (0, 3),
    ]


def test_one_cell_is_visited_once() -> None:
    cells = plan_cells([target(8192)], BenchRequest(runs=6))
    assert [tuple(visit) for visit in plan_visits(cells, BenchRequest(runs=6))] == [(0, 6)]


@settings(max_examples=60)
@given(
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(1, 4) | st.none(),
    st.lists(st.integers(0, 12), min_size=5, max_size=5),
)
def test_every_cell_gets_the_runs_it_lacks(runs: int, models: int, passes: int | None, done: list[int]) -> None:
    request = BenchRequest(runs=runs, passes=passes)
    cells = plan_cells([target(8192, key=f"m{number}") for number in range(models)], request)
    made = Counter[int]()
    for visit in plan_visits(cells, request, done=done):
        assert visit.runs > 0
        made[visit.cell] += visit.runs
    assert [made[cell] for cell in range(models)] == [max(0, runs - done[cell]) for cell in range(models)]


def test_a_budget_is_shared_equally_among_what_is_left() -> None:
    assert visit_share_s(None, 3) is None
    assert visit_share_s(60.0, 3) == 20.0
    assert visit_share_s(-5.0, 3) == 0.0
    assert has_time_for_another(-1.0, [])  # a cell without any measurement gets one
    assert has_time_for_another(10.0, [4.0, 9.0])
    assert not has_time_for_another(8.0, [4.0, 9.0])
