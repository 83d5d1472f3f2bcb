"""Two sides measured in turns by whole sessions in memory, and two sessions held against each other."""

from __future__ import annotations

import asyncio
import math
import signal
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.benchmark.against import compare_sides
from lmstrix.core.benchmark.compare import compare
from lmstrix.core.benchmark.earlier_sessions import earlier_medians
from lmstrix.core.benchmark.records import BenchReport, BenchRequest, from_json
from lmstrix.core.benchmark.runner import Bench
from lmstrix.core.benchmark.saved import find_unfinished, load_report
from lmstrix.core.benchmark.visit_records import blocks_of, visits_of
from lmstrix.core.history import History
from lmstrix.ground.errors import OutOfMemoryError, UsageError
from lmstrix.ground.loads import LoadConfig
from lmstrix.reports.bench.html import render_page
from tests.core.benchmark.fakes import FakeBackend, FakeModel, SteppedClock, run_to_report, server_of, target
from tests.reports.bench.bench_reports import cell, report, run
from tests.reports.bench.bench_reports import target as reported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lmstrix.core.benchmark.compare import BenchComparison, Comparison

QUICK = BenchRequest(max_tokens=8, idle_s=0.0)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "lmstrix.db") as opened:
        yield opened


class MoodyBackend(FakeBackend):
    """A machine that is half as fast for stretches of time, and never says so."""

    async def pause(self, seconds: float) -> None:
        assert self.clock is not None
        slow = math.sin(self.clock.now / 10.0) > 0
        await super().pause(seconds * (2.0 if slow else 1.0))


def in_turns(
    a: FakeModel,
    b: FakeModel,
    request: BenchRequest = QUICK,
    *,
    kind: type[FakeBackend] = FakeBackend,
    **options: object,
) -> tuple[BenchReport, FakeBackend]:
    """A session of both sides."""
    clock = SteppedClock()
    backend = kind({"a": a, "b": b}, clock=clock)
    targets = [replace(target("a"), side="A"), replace(target("b"), side="B")]
    bench = Bench(server_of(backend), targets, replace(request, against="b"), clock=clock, **options)  # type: ignore[arg-type]
    return asyncio.run(bench.run()), backend


def one_session(model: FakeModel, **options: object) -> BenchReport:
    clock = SteppedClock()
    backend = FakeBackend({"a": model}, clock=clock)
    bench = Bench(server_of(backend), [target("a")], QUICK, clock=clock, **options)  # type: ignore[arg-type]
    return asyncio.run(bench.run())


def figure(comparison: BenchComparison, name: str) -> Comparison:
    return next(one for one in comparison.comparisons if one.figure == name)


def test_sides_are_loaded_in_turns_and_each_visit_is_told() -> None:
    measured, backend = in_turns(FakeModel(), FakeModel())
    assert [key for key, _ in backend.loads] == ["a", "b", "b", "a"] * 6
    for one in measured.cells:
        assert len(visits_of(one)) == len(one.runs) == len(one.loads) == 12
    assert len(blocks_of(*measured.cells)) == 12
    assert from_json(BenchReport, measured.to_json()) == measured


def test_a_slower_side_is_found_on_a_moody_machine_and_an_equal_one_is_not() -> None:
    request = replace(QUICK, max_tokens=64)
    slow, _ = in_turns(FakeModel(token_s=0.01), FakeModel(token_s=0.011), request, kind=MoodyBackend)
    found = compare_sides(slow)
    rate = figure(found, "decode_tokens_per_second")
    assert rate.verdict == "worse"
    assert rate.change_ratio == pytest.approx(1 / 1.1 - 1, abs=0.02)
    assert rate.blocks == 12
    assert rate in found.regressions(0.05)
    assert found.regressions(0.15) == ()
    same, _ = in_turns(FakeModel(token_s=0.01), FakeModel(token_s=0.01), request, kind=MoodyBackend)
    assert {one.verdict for one in compare_sides(same).comparisons} <= {"no difference", "too few blocks"}


def test_figures_that_say_the_same_are_counted_once() -> None:
    measured, _ = in_turns(FakeModel(token_s=0.01), FakeModel(token_s=0.02), replace(QUICK, runs=24))
    found = compare_sides(measured)
    same = {one.figure: one.same_as for one in found.comparisons if one.same_as is not None}
    assert same["ttfo_s"] == "ttft_s"
    assert same["itl_s"] == "decode_tokens_per_second"
    assert same["output_tokens_per_second"] == "e2e_s"
    assert not {one.figure for one in found.regressions(0.05)} & same.keys()
    assert figure(found, "itl_s").verdict == "worse"
    assert figure(found, "itl_s").p_value == figure(found, "decode_tokens_per_second").p_value


def test_the_page_of_two_sides_shows_how_they_differ() -> None:
    measured, _ = in_turns(FakeModel(token_s=0.01), FakeModel(token_s=0.02), QUICK)
    page = render_page(measured)
    assert '<a href="#comparison">Comparison</a>' in page
    section = page.partition('<section id="comparison">')[2].partition("</section>")[0]
    assert "<td>Decode t" in section
    assert '<tr class="worse">' in section
    one_side = replace(measured, request=replace(measured.request, against=None))
    assert 'id="comparison"' not in render_page(one_side)


def test_a_page_of_sides_without_a_common_cell_says_so() -> None:
    measured, _ = in_turns(FakeModel(token_s=0.01), FakeModel(token_s=0.02), QUICK)
    interrupted = replace(measured, cells=measured.cells[:1])
    assert "The two sides have no measured cell in common." in render_page(interrupted)


def test_too_few_blocks_are_said() -> None:
    measured, _ = in_turns(FakeModel(token_s=0.01), FakeModel(token_s=0.02), replace(QUICK, blocks=3))
    assert {one.verdict for one in compare_sides(measured).comparisons} == {"too few blocks"}


def test_a_side_that_cannot_be_loaded_leaves_nothing_to_compare() -> None:
    measured, _ = in_turns(FakeModel(), FakeModel(load_failure=OutOfMemoryError("no room")))
    found = compare_sides(measured)
    assert found.comparisons == ()
    assert found.only_first == ("a (A)",)


def test_a_report_of_one_side_has_no_sides() -> None:
    with pytest.raises(UsageError, match="`against`"):
        compare_sides(one_session(FakeModel()))


def test_side_b_is_loaded_as_asked() -> None:
    other = LoadConfig(context_length=None, k_cache_type="q8_0")
    _, backend = in_turns(FakeModel(), FakeModel(), replace(QUICK, against_load=other, blocks=1))
    assert [(key, config.k_cache_type) for key, config in backend.loads] == [("a", None), ("b", "q8_0")]


def test_a_visit_without_its_partner_is_left_out() -> None:
    measured, _ = in_turns(FakeModel(), FakeModel(), replace(QUICK, blocks=3))
    first, second = measured.cells
    gone = second.loads[1]
    after = second.loads[2].number
    second = replace(
        second,
        loads=tuple(load for load in second.loads if load is not gone),
        runs=tuple(one for one in second.runs if not gone.number < one.number < after),
    )
    pairs = blocks_of(first, second)
    assert len(pairs) == 2
    assert all(abs(left.began_at - right.began_at) < timedelta(minutes=1) for left, right in pairs)


def test_an_interrupted_comparison_goes_on_in_blocks(history: History) -> None:
    clock = SteppedClock()
    backend = FakeBackend({"a": FakeModel(), "b": FakeModel(hangs_at=9)}, clock=clock)
    request = replace(QUICK, against="b", blocks=6)
    targets = [replace(target("a"), side="A"), replace(target("b"), side="B")]
    bench = Bench(server_of(backend), targets, request, history=history.benches, clock=clock)
    backend.on_hang = lambda: signal.raise_signal(signal.SIGINT)
    cut = run_to_report(bench)
    assert cut.interrupted
    session = find_unfinished(history.benches, request, [one.path for one in targets])
    assert session == cut.session
    assert find_unfinished(history.benches, replace(request, against="a"), [one.path for one in targets]) is None
    backend.models["b"].hangs_at = None
    go_on = Bench(server_of(backend), targets, request, session=session, history=history.benches, clock=clock)
    whole = asyncio.run(go_on.run())
    assert [len(one.runs) for one in whole.cells] == [6, 6]
    assert len(blocks_of(*whole.cells)) == 6
    assert load_report(history.benches, cut.session).request == request


def test_one_session_each_cannot_tell_and_says_what_can() -> None:
    found = compare(one_session(FakeModel(token_s=0.01)), one_session(FakeModel(token_s=0.012)))
    rate = figure(found, "decode_tokens_per_second")
    assert rate.verdict == "cannot tell"
    assert rate.change_ratio == pytest.approx(rate.second / rate.first - 1)
    assert any("measure both in one run" in note for note in found.notes)
    assert found.regressions(0.05) == ()


def test_earlier_sessions_tell_how_far_sessions_differ(history: History) -> None:
    speeds = (0.01, 0.0101, 0.0099, 0.01, 0.0102, 0.0098, 0.01)
    earlier = [one_session(FakeModel(token_s=token_s), history=history.benches) for token_s in speeds]
    one_session(FakeModel(token_s=0.05), history=history.benches, host="another machine")
    slow = one_session(FakeModel(token_s=0.016), history=history.benches)
    known = earlier_medians(history.benches, earlier[0], without=(earlier[0].session, slow.session))
    assert len(known["a"]["decode_tokens_per_second"]) == 6
    found = compare(earlier[0], slow, earlier=known)
    assert figure(found, "decode_tokens_per_second").verdict == "worse"
    assert "6 earlier sessions" in found.notes[0]
    unchanged = compare(earlier[0], earlier[4], earlier=known)
    assert {one.verdict for one in unchanged.comparisons} <= {"no difference", "too few runs"}


def test_hostile_numbers_are_compared_without_harm() -> None:
    def of(decode: float) -> BenchReport:
        runs = tuple(run(number, decode=decode, prefill=900.0) for number in range(8))
        return report((cell(reported("m"), runs=runs),))

    for first, second in ((1e-300, 1e300), (1e300, 1e-300), (-5.0, 5.0)):
        assert compare(of(first), of(second)).comparisons
