"""Time budgets in simulated time: they hold, every cell has its turn, and what was cut short can be continued."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.benchmark.plan import plan_cells, plan_visits
from lmstrix.core.benchmark.records import BenchReport, BenchRequest, BenchTarget
from lmstrix.core.benchmark.runner import Bench
from lmstrix.core.benchmark.saved import find_unfinished
from lmstrix.core.context.attempts import TIME_TO_LIVE_S
from lmstrix.core.history import History
from tests.core.benchmark.fakes import FakeBackend, FakeModel, server_of, target
from tests.core.benchmark.simulated_time import SimulatedLoop, run_simulated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASKED = BenchRequest(runs=6, max_tokens=8, idle_s=0.0, settled_ratio=None)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "lmstrix.db") as opened:
        yield opened


def bench(
    models: dict[str, FakeModel], request: BenchRequest, **options: object
) -> tuple[BenchReport, FakeBackend, float]:
    """A whole session, and how long it took in simulated time."""
    loop = SimulatedLoop()
    backend = FakeBackend(models)
    targets = [target(key) for key in models]
    session = Bench(server_of(backend), targets, request, clock=loop.time, **options)  # type: ignore[arg-type]
    report = run_simulated(loop, session.run())
    return report, backend, loop.time()


seconds = st.floats(0.0, 30.0)
behaviours = st.builds(FakeModel, load_s=seconds, prefill_s=seconds, token_s=st.floats(0.0, 3.0))


@settings(max_examples=30, deadline=None)
@given(st.lists(behaviours, min_size=1, max_size=4), st.floats(0.5, 200.0))
def test_a_budget_holds_whatever_the_models_take(models: list[FakeModel], budget_s: float) -> None:
    request = replace(ASKED, budget_s=budget_s)
    report, backend, took_s = bench({str(place): model for place, model in enumerate(models)}, request)
    assert took_s <= budget_s + 1e-6
    assert backend.loaded == {}
    for cell in report.cells:
        worked = len(cell.runs)
        assert cell.outcome == ("ok" if worked else "not reached")
        assert cell.out_of_time == (worked < 6)
        assert not any(run.failed for run in cell.runs)  # what was cut off is no failure, and not counted


def test_each_has_its_first_run_before_any_has_its_second() -> None:
    """Load, warm-up and first run take 36 s in all: 110 s are enough for three models, and for nothing else."""
    slow = FakeModel(load_s=12.0, prefill_s=12.0)
    report, _, _ = bench(dict.fromkeys("abc", slow), replace(ASKED, budget_s=110.0))
    assert [len(cell.runs) for cell in report.cells] == [1, 1, 1]
    assert all(cell.reason == "1 of 6 runs: the time budget was spent" for cell in report.cells)


def test_a_visit_that_cannot_end_in_a_run_is_not_begun() -> None:
    slow = FakeModel(load_s=20.0, prefill_s=1.0)
    _, backend, took_s = bench({"a": slow, "b": slow}, replace(ASKED, budget_s=60.0))
    assert [key for key, _ in backend.loads] == ["a", "b"]
    assert took_s < 45.0


def test_a_run_at_the_budgets_end_is_cut_off_and_not_counted() -> None:
    report, backend, took_s = bench({"a": FakeModel(prefill_s=40.0)}, replace(ASKED, budget_s=60.0))
    assert took_s == pytest.approx(60.0)
    (cell,) = report.cells
    assert (cell.runs, len(cell.warmups), cell.outcome) == ((), 1, "not reached")
    assert cell.reason == "0 of 6 runs: the time budget was spent"
    assert backend.loaded == {}


def test_small_models_and_first_tiers_have_their_turn_first() -> None:
    sizes = {"large": 70, "small": 1, "middle": 8}
    targets = [BenchTarget(model_key=key, path=key, size_bytes=size) for key, size in sizes.items()]
    request = replace(ASKED, tiers=(0, 512), budget_s=60.0)
    cells = plan_cells(targets, request)
    visits = plan_visits(cells, request)
    turn = [(cells[visit.cell].target.model_key, cells[visit.cell].tier_tokens) for visit in visits[:6]]
    assert turn == [("small", 0), ("middle", 0), ("large", 0), ("small", 512), ("middle", 512), ("large", 512)]
    assert [visit.runs for visit in visits] == [1] * 6 + [5] * 6
    assert [visit.cell for visit in visits[6:]] == [visit.cell for visit in visits[5::-1]]
    # Going on, only those without a run have a first one.
    again = plan_visits(cells, request, done=[0, 1, 1, 1, 1, 6])
    assert again[0] == (0, 1)
    assert sum(visit.runs for visit in again) == 6 + 4 * 5


def test_what_a_budget_cut_short_is_continued_under_another_one(history: History) -> None:
    models = {"a": FakeModel(load_s=5.0, prefill_s=5.0), "b": FakeModel(load_s=5.0, prefill_s=5.0)}
    short, whole = replace(ASKED, budget_s=45.0), replace(ASKED, budget_s=1000.0)
    first, _, _ = bench(models, short, session="s", history=history.benches)
    assert [cell.outcome for cell in first.cells] == ["ok", "ok"]
    paths = [cell.cell.target.path for cell in first.cells]
    assert find_unfinished(history.benches, whole, paths) == "s"
    again, _, _ = bench(models, whole, session="s", history=history.benches)
    assert [len(cell.runs) for cell in again.cells] == [6, 6]
    assert again.cells[0].runs[: len(first.cells[0].runs)] == first.cells[0].runs
    assert find_unfinished(history.benches, whole, paths) is None


def test_an_instance_of_a_killed_benchmark_goes_by_itself() -> None:
    _, backend, _ = bench({"a": FakeModel()}, replace(ASKED, runs=1))
    assert backend.ttls_s == [TIME_TO_LIVE_S]
