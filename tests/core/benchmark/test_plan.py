"""Which cells are measured, in which order, and how a time budget is shared."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

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


def sides(*, tested: int = 8192) -> list[BenchTarget]:
    return [replace(target(tested, key=key), side=side) for key, side in (("a", "A"), ("b", "B"))]  # type: ignore[arg-type]


def test_two_sides_go_in_blocks_and_change_who_is_first() -> None:
    request = BenchRequest(against="b", blocks=4)
    cells = plan_cells(sides(), request)
    assert [cell.name for cell in cells] == ["a (A)", "b (B)"]
    order = [(visit.cell, visit.runs) for visit in plan_visits(cells, request)]
    assert [cell for cell, _ in order] == [0, 1, 1, 0, 0, 1, 1, 0]
    assert Counter({cell: sum(runs for each, runs in order if each == cell) for cell in (0, 1)}) == {0: 6, 1: 6}


def test_every_visit_of_a_block_has_a_run() -> None:
    request = BenchRequest(runs=6, against="b")
    visits = plan_visits(plan_cells(sides(), request), request)
    assert len(visits) == 24
    assert {visit.runs for visit in visits} == {1}
    assert request.runs_per_cell == 12
    assert request.stops_at_ratio is None


def test_sides_are_paired_at_every_tier() -> None:
    request = BenchRequest(tiers=(0, 1024), against="b", blocks=2)
    cells = plan_cells(sides(), request)
    visits = plan_visits(cells, request)
    assert [cells[visit.cell].name for visit in visits] == [
        "a (A)", "b (B)", "a (A), 1024 tokens", "b (B), 1024 tokens",
        "b (B)", "a (A)", "b (B), 1024 tokens", "a (A), 1024 tokens",
    ]  # fmt: skip


def test_blocks_go_on_where_they_were_cut_off() -> None:
    request = BenchRequest(runs=8, against="b", blocks=4)
    visits = plan_visits(plan_cells(sides(), request), request, done=(5, 4))
    assert [(visit.cell, visit.runs) for visit in visits] == [(0, 1), (1, 2), (1, 2), (0, 2)]


@pytest.mark.parametrize("blocks", [0, 201])
def test_a_comparison_has_a_sensible_number_of_blocks(blocks: int) -> None:
    with pytest.raises(UsageError, match="1 to 200 `blocks`"):
        plan_cells(sides(), BenchRequest(against="b", blocks=blocks))
