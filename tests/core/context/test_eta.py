"""How long tests will still take: nothing where nothing is known, and near the truth where a machine is regular."""

from __future__ import annotations

import pytest

from lmstrix.core.context.eta import (
    ETA,
    ExpectedTest,
    MachinePace,
    ModelForecast,
    RunForecast,
    Speeds,
    TimeLeft,
    prompt_lengths,
)
from lmstrix.core.context.report import Step, StepKind
from lmstrix.core.context.verdict import Outcome

GIB = 2**30
LENGTH = 16_384


def expected(*, size_gib: int = 4, recall: bool = True, speeds: Speeds | None = None) -> ExpectedTest:
    return ExpectedTest(
        size_bytes=size_gib * GIB,
        context_length=LENGTH,
        cost=lambda length: size_gib * GIB + 2**16 * length,
        recall=recall,
        speeds=speeds or Speeds(),
    )


def step(kind: StepKind, length: int = LENGTH, ratio: float | None = None, outcome: Outcome | None = None) -> Step:
    return Step(model_key="tiny", kind=kind, context_length=length, ratio=ratio, outcome=outcome)


def loaded(forecast: ModelForecast, *, at_s: float = 0.0) -> None:
    """It has loaded in two seconds, and begins to fill."""
    forecast.note(step("load"), at_s)
    forecast.note(step("load", outcome=Outcome.OK), at_s + 2)
    forecast.note(step("prefill"), at_s + 2)


def test_nothing_is_told_where_nothing_is_known() -> None:
    forecast = ModelForecast(expected(), MachinePace())
    assert forecast.left_s(0) is None
    loaded(forecast)
    assert forecast.left_s(5) is None
    forecast.note(step("prefill", ratio=0.5), 5)
    assert forecast.left_s(5) is None  # the first of several prompts, which may be any of them


def test_one_prompt_alone_goes_by_its_own_progress() -> None:
    forecast = ModelForecast(expected(recall=False), MachinePace())
    loaded(forecast)
    forecast.note(step("prefill", ratio=0.01), 3)
    assert forecast.left_s(3) is None  # too little to tell
    forecast.note(step("prefill", ratio=0.25), 12)
    assert forecast.left_s(12) == pytest.approx(30)


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0])
def test_measured_prompts_tell_what_the_longer_ones_take(exponent: float) -> None:
    """Each prompt takes its length to some power: from the second on, the rest is foretold."""
    forecast = ModelForecast(expected(), MachinePace())
    loaded(forecast)
    prompts, now_s = prompt_lengths(LENGTH, recall=True), 2.0
    takes = {target: 4.0 * (target / prompts[0]) ** exponent for target in prompts}
    for target in prompts[:2]:
        now_s += takes[target]
        forecast.note(step("recall", target, outcome=Outcome.OK), now_s)
    assert forecast.left_s(now_s) == pytest.approx(sum(takes[target] for target in prompts[2:]))
    assert forecast.left_s(now_s + 1) == pytest.approx(sum(takes[target] for target in prompts[2:]) - 1)


def test_finding_the_end_of_recall_is_counted_once_it_is_passed() -> None:
    forecast = ModelForecast(expected(), MachinePace())
    loaded(forecast)
    prompts = prompt_lengths(LENGTH, recall=True)
    now_s = 2.0
    for target in prompts:
        now_s += 10
        forecast.note(step("recall", target, outcome=Outcome.OK if target < 5000 else Outcome.RECALL_LOST), now_s)
    narrowing_s = forecast.left_s(now_s)
    assert narrowing_s is not None
    assert narrowing_s > 0
    for target in range(5000, 5000 + ETA.narrowing_prompts):
        forecast.note(step("recall", target, outcome=Outcome.RECALL_LOST), now_s)
    assert forecast.left_s(now_s) == 0


def test_speeds_of_earlier_tests_tell_before_anything_is_measured() -> None:
    pace = MachinePace()
    pace.note_load(4 * GIB, 4.0)
    own = Speeds(prefill_tokens_per_second=1000.0, decode_tokens_per_second=50.0)
    forecast = ModelForecast(expected(speeds=own), pace)
    prompts = prompt_lengths(LENGTH, recall=True)
    answering_s = len(prompts) * ETA.answer_tokens / 50
    assert forecast.left_s(0) == pytest.approx(5.0 + prompts[-1] / 1000 + answering_s)  # 5 GiB with the cache
    # Of another model of half the size: twice as fast.
    pace.note_speeds(2 * GIB, Speeds(prefill_tokens_per_second=2000.0, decode_tokens_per_second=100.0))
    assert ModelForecast(expected(), pace).left_s(0) == pytest.approx(forecast.left_s(0))


def test_a_step_that_takes_far_longer_than_foretold_takes_the_forecast_back() -> None:
    pace = MachinePace()
    pace.note_load(5 * GIB, 5.0)
    own = Speeds(prefill_tokens_per_second=1000.0)
    forecast = ModelForecast(expected(recall=False, speeds=own), pace)
    forecast.note(step("load"), 0)
    assert forecast.left_s(4) is not None
    assert forecast.left_s(11) is None
    forecast.note(step("load", ratio=0.5), 11)  # the server tells how far it is
    assert forecast.left_s(11) == pytest.approx(11 + 16)


def test_a_load_that_fails_says_nothing_about_the_speed_of_loading() -> None:
    pace = MachinePace()
    forecast = ModelForecast(expected(), pace)
    forecast.note(step("load"), 0)
    forecast.note(step("load", outcome=Outcome.OUT_OF_MEMORY), 1)
    assert pace.load_s(GIB) is None
    forecast.note(step("load", 8192), 1)
    forecast.note(step("load", 8192, outcome=Outcome.OK), 3)
    assert pace.load_s(expected().cost(8192)) == pytest.approx(2)


def test_a_run_adds_up_the_models_that_wait() -> None:
    own = Speeds(prefill_tokens_per_second=1000.0)
    tests = {path: expected(recall=False, speeds=own) for path in "abc"}
    run = RunForecast(tests, MachinePace())
    assert run.left(0) == TimeLeft()
    run.begin("a")
    run.note(step("load"), 0)
    run.note(step("load", outcome=Outcome.OK), 2)
    run.note(step("prefill"), 2)
    left = run.left(2)
    assert left.model_s == pytest.approx(16)
    assert left.all_s == pytest.approx(16 + 2 * 18)
    run.end(Speeds())
    run.begin("b")
    assert run.left(20).all_s == pytest.approx(2 * 18)


def test_one_model_of_unknown_speed_leaves_the_sum_unknown() -> None:
    own = Speeds(prefill_tokens_per_second=1000.0)
    pace = MachinePace()
    pace.note_load(GIB, 1.0)
    run = RunForecast({"a": expected(recall=False, speeds=own), "b": expected(recall=False)}, pace)
    run.begin("a")
    left = run.left(0)
    assert left.model_s is not None
    assert left.all_s is None
    run.end(own)  # what a was seen to do tells about b, which has its size
    run.begin("b")
    assert run.left(0).all_s == run.left(0).model_s == pytest.approx(left.model_s)
