"""The context search: what it may ask, what it may answer, and how few loads it needs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from statistics import mean, median
from typing import TYPE_CHECKING

import pytest
from bench.context_peers import bisection, ours
from bench.simulated_worlds import Bench, machine
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.context.machine_belief import MachineBelief
from lmstrix.core.context.normal import Normal
from lmstrix.core.context.search import ContextSearch

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.ground.choices import Precision

GIB = 2**30
WEIGHTS = 5 * GIB
PER_TOKEN = 128 * 1024
PRECISIONS: tuple[Precision, ...] = ("safe", "balanced", "tight", "exhaustive")
MOST_QUESTIONS = 60


def formula(n: int) -> int:
    """A dense 8B model."""
    return WEIGHTS + n * PER_TOKEN


@dataclass
class Played:
    """What a search asked and found."""

    loads: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    prefills: list[int] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)
    best: int = 0
    refused: str | None = None


def play(
    search: ContextSearch,
    *,
    load_limit: int,
    prefill_limit: int | None = None,
    memory: Callable[[int], int] | None = None,
    given_length: Callable[[int], int] = lambda n: n,
) -> Played:
    """Answer the search's questions from fixed limits until it has no more."""
    played = Played()
    limit = load_limit if prefill_limit is None else min(load_limit, prefill_limit)
    while (n := search.next_load()) is not None:
        played.loads.append(n)
        actual = given_length(n)
        if actual <= load_limit:
            search.observe_loaded(n, context_length=actual, memory_bytes=memory(actual) if memory else None)
        else:
            played.failed.append(n)
            search.observe_failed(n)
        assert len(played.loads) <= MOST_QUESTIONS
    while (n := search.next_prefill()) is not None:
        played.prefills.append(n)
        search.observe_prefilled(n, ok=n <= limit)
        if n <= limit:
            played.passed.append(n)
        assert len(played.prefills) <= MOST_QUESTIONS
    played.best, played.refused = search.best, search.refused
    return played


def search_for(
    *,
    cost: Callable[[int], int] = formula,
    declared: int = 131_072,
    budget_bytes: int | None = 16 * GIB,
    precision: Precision = "balanced",
    learned: MachineBelief | None = None,
) -> ContextSearch:
    """A search of a dense 8B model on a machine with 16 GiB to give."""
    return ContextSearch(
        cost=cost,
        declared=declared,
        budget_bytes=budget_bytes,
        architecture="llama",
        precision=precision,
        learned=learned,
    )


@given(
    declared=st.integers(1, 2_000_000),
    ceiling=st.none() | st.integers(1, 2_000_000),
    floor=st.integers(1, 20_000),
    budget_gib=st.none() | st.floats(0, 200),
    per_token=st.integers(0, 2**20),
    load_limit=st.integers(0, 2_000_000),
    prefill_limit=st.integers(0, 2_000_000),
    known_bad=st.none() | st.integers(1, 2_000_000),
    known_good=st.none() | st.integers(1, 2_000_000),
    precision=st.sampled_from(PRECISIONS),
    approximate=st.booleans(),
    truth_factor=st.none() | st.floats(0.5, 5),
)
@settings(max_examples=35, deadline=None)
def test_it_keeps_its_bounds_whatever_the_machine_does(
    declared: int,
    ceiling: int | None,
    floor: int,
    budget_gib: float | None,
    per_token: int,
    load_limit: int,
    prefill_limit: int,
    known_bad: int | None,
    known_good: int | None,
    precision: Precision,
    approximate: bool,
    truth_factor: float | None,
) -> None:
    search = ContextSearch(
        cost=lambda n: WEIGHTS + per_token * n,
        declared=declared,
        budget_bytes=None if budget_gib is None else int(budget_gib * GIB),
        architecture="llama",
        floor=floor,
        ceiling=ceiling,
        precision=precision,
        known_good=known_good,
        known_bad=known_bad,
        approximate=approximate,
    )
    read = None if truth_factor is None else lambda n: int(WEIGHTS + truth_factor * per_token * n)
    played = play(search, load_limit=load_limit, prefill_limit=prefill_limit, memory=read)
    top = min(declared, declared if ceiling is None else ceiling)
    for n in played.loads + played.prefills:
        assert 1 <= n <= top
        assert known_bad is None or n < known_bad
        assert n % 256 == 0 or n == top or n < 256
    for index, n in enumerate(played.loads):
        earlier = played.loads[:index]
        assert n not in earlier
        assert all(n < bad for bad in played.failed if bad in earlier)
    assert played.best in {0, *played.passed}
    assert played.best <= min(load_limit, prefill_limit)
    assert (played.refused is not None) == (not played.loads)


@given(answers=st.lists(st.tuples(st.booleans(), st.integers(0, 200_000), st.floats(0, 60)), max_size=40))
@settings(max_examples=25, deadline=None)
def test_contradictions_never_break_it(answers: list[tuple[bool, int, float]]) -> None:
    search = search_for(precision="exhaustive")
    script = iter(answers)
    passed = set()
    for _ in range(MOST_QUESTIONS):
        ok, actual, read_gib = next(script, (False, 0, 0.0))
        if (n := search.next_load()) is not None:
            if ok:
                search.observe_loaded(n, context_length=max(1, actual), memory_bytes=int(read_gib * GIB))
            else:
                search.observe_failed(n)
        elif (n := search.next_prefill()) is not None:
            search.observe_prefilled(n, ok=ok, memory_bytes=int(read_gib * GIB))
            passed |= {n} if ok else set()
        else:
            break
    else:
        pytest.fail("it still asks")
    assert search.best in {0, *passed}


@given(truth=st.integers(0, 140_000), seed=st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_equal_answers_bring_equal_questions(truth: int, seed: int) -> None:
    def once() -> Played:
        search = ContextSearch(cost=formula, declared=131_072, budget_bytes=16 * GIB, architecture="llama", seed=seed)
        return play(search, load_limit=truth, memory=formula)

    assert once() == once()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("declared", [8192, 40_960, 131_072, 128_000, 1_000_001])
def test_a_declared_context_that_fits_takes_one_load(declared: int, precision: Precision) -> None:
    search = search_for(declared=declared, budget_bytes=800 * GIB, precision=precision)
    played = play(search, load_limit=declared)
    assert (played.loads, played.prefills, played.best) == ([declared], [declared], declared)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_cannot_fit_is_refused_by_arithmetic(precision: Precision) -> None:
    played = play(search_for(budget_bytes=4 * GIB, precision=precision), load_limit=0)
    assert (played.loads, played.prefills, played.best) == ([], [], 0)
    assert played.refused is not None
    assert played.refused.startswith("1024 tokens need about 5.")
    assert "4.00 GiB are available: about 1." in played.refused


def test_nothing_is_asked_when_every_length_is_known_to_fail() -> None:
    search = ContextSearch(cost=formula, declared=4096, budget_bytes=64 * GIB, architecture="llama", known_bad=1)
    assert search.next_load() is None
    assert "known to fail" in (search.refused or "")


@pytest.mark.parametrize("ceiling", [100, 1000, 5000, 30_000])
def test_a_ceiling_is_asked_exactly_when_it_fits(ceiling: int) -> None:
    search = ContextSearch(cost=formula, declared=131_072, budget_bytes=64 * GIB, architecture="llama", ceiling=ceiling)
    assert play(search, load_limit=10**9).best == ceiling


def test_no_load_is_expected_over_110_percent_of_the_budget() -> None:
    for gib in (6, 9, 16):
        for precision in PRECISIONS[:-1]:  # exhaustive goes on where loads hold against what is believed
            played = play(
                search_for(budget_bytes=gib * GIB, precision=precision),
                load_limit=10**9,
                memory=lambda n: formula(n) + GIB // 2,
            )
            assert all(formula(n) <= 1.1 * gib * GIB for n in played.loads)


@pytest.mark.parametrize("is_read", [True, False], ids=["memory read", "no reading"])
@pytest.mark.parametrize("limit", [75_000, 60_000, 50_000, 40_000, 30_000, 20_000])
def test_loads_that_take_no_memory_before_they_are_filled_are_found_out(limit: int, is_read: bool) -> None:
    played = play(
        search_for(),
        load_limit=10**9,
        prefill_limit=limit,
        memory=(lambda n: formula(n) + GIB // 3) if is_read else None,
    )
    assert played.prefills[0] == max(played.loads)
    assert 0.8 * limit <= played.best <= limit
    assert sum(length > limit for length in played.prefills) <= 4


def test_precisions_differ_in_what_they_risk() -> None:
    def first_and_best(precision: Precision) -> tuple[int, int]:
        truth = 78_000
        played = play(
            search_for(precision=precision), load_limit=truth, memory=lambda n: formula(n) + 16 * GIB - formula(truth)
        )
        return played.loads[0], played.best

    found = [first_and_best(precision) for precision in PRECISIONS]
    assert found == sorted(found)
    assert found[-1][1] >= 76_000  # exhaustive: nearly all


def test_a_reduced_context_is_the_end_of_the_road() -> None:
    played = play(search_for(budget_bytes=96 * GIB), load_limit=10**9, given_length=lambda n: min(n, 40_192))
    assert played.loads == [131_072]
    assert (played.prefills, played.best) == ([40_192], 40_192)


def test_a_refusal_near_what_a_guardrail_lets_through_is_no_failure() -> None:
    search = search_for(budget_bytes=96 * GIB, declared=40_960)
    assert search.next_load() == 40_960
    search.observe_refused(40_960)
    again = search.next_load()
    assert again == 39_680
    search.observe_loaded(again)
    assert search.next_load() is None
    assert search.next_prefill() == again


def test_a_guardrail_that_goes_on_refusing_is_searched_like_a_limit() -> None:
    search = search_for(budget_bytes=96 * GIB)
    refused = []
    while (n := search.next_load()) is not None:
        if n > 20_000:
            refused.append(n)
            search.observe_refused(n)
        else:
            search.observe_loaded(n)
    assert len(refused) <= 5
    while (n := search.next_prefill()) is not None:
        assert n <= 20_000
        search.observe_prefilled(n, ok=True)
    assert search.best >= 16_000


def test_slow_loads_must_promise_more() -> None:
    loads = []
    for seconds in (0.5, 300.0):
        search = search_for(budget_bytes=64 * GIB)
        asked: list[int] = []
        while (n := search.next_load()) is not None:
            asked.append(n)
            if n <= 70_000:
                search.observe_loaded(n, seconds=seconds)
            else:
                search.observe_failed(n)
        loads.append(len(asked))
    assert loads[1] < loads[0]


def test_a_slow_fill_is_followed_by_one_at_most() -> None:
    fills = []
    for seconds in (1.0, 900.0):
        search = search_for(budget_bytes=64 * GIB)
        while (n := search.next_load()) is not None:
            search.observe_failed(n) if n > 70_000 else search.observe_loaded(n)
        asked = []
        while (n := search.next_prefill()) is not None:
            asked.append(n)
            search.observe_prefilled(n, ok=n <= 40_000, seconds=seconds)
        passed = next(index for index, n in enumerate(asked) if n <= 40_000)
        fills.append(len(asked) - passed - 1)
    assert fills[1] <= 1
    assert fills[1] <= fills[0]


def test_a_raised_context_counts_as_what_it_is() -> None:
    search = search_for()
    asked = search.next_load()
    assert asked is not None
    search.observe_loaded(asked, context_length=asked + 2560)
    again = search.next_load()
    assert again is None or again > asked + 2560
    while (n := search.next_load()) is not None:
        search.observe_failed(n)
    assert search.next_prefill() == asked + 2560


@pytest.mark.parametrize("factor", [0.65, 0.8, 1.3, 2.0, 4.0])
def test_a_wrong_formula_is_found_out_by_one_reading(factor: float) -> None:
    budget = 16 * GIB

    def truth(n: int) -> int:
        return int(WEIGHTS + GIB // 2 + factor * PER_TOKEN * n)

    limit = int((budget - WEIGHTS - GIB // 2) / (factor * PER_TOKEN))
    played = play(search_for(), load_limit=limit, prefill_limit=int(limit * 0.98), memory=truth)
    assert len(played.loads) <= 5
    assert played.best >= 0.75 * limit
    assert all(truth(n) <= 1.1 * budget for n in played.loads[1:])


@pytest.mark.parametrize(
    "cost",
    [
        lambda n: 5 * GIB,
        lambda n: 10**19 + n,
        lambda n: formula(n) + (n // 256 % 2) * 64 * 2**20,
        lambda n: 12 * GIB - n * 1000,
        lambda n: 0,
    ],
    ids=["constant", "huge", "jagged", "falling", "nothing"],
)
def test_odd_costs_are_survived(cost: Callable[[int], int]) -> None:
    for truth in (0, 5000, 70_000, 131_072):
        played = play(search_for(cost=cost), load_limit=truth)
        assert played.best <= truth
        assert len(played.loads) <= 14
        assert len(played.failed) <= 4


@pytest.mark.parametrize("truth", [1024, 5000, 70_000])
def test_a_formula_that_knows_no_difference_between_lengths_finds_the_limit(truth: int) -> None:
    assert play(search_for(cost=lambda n: 5 * GIB), load_limit=truth).best >= 0.8 * truth


def test_a_formula_that_cannot_tell_lengths_apart_costs_few_failures() -> None:
    search = search_for(cost=lambda n: 5 * GIB + (n > 4096) * GIB, declared=131_072, precision="tight")
    played = play(search, load_limit=50_000)
    assert len(played.failed) <= 4
    assert played.best <= 50_000


def test_a_recurrent_model_is_asked_for_everything_at_once() -> None:
    assert play(search_for(cost=lambda n: 5 * GIB), load_limit=10**9).loads == [131_072]


def test_an_unknown_budget_is_searched_for() -> None:
    played = play(search_for(budget_bytes=None), load_limit=50_000, memory=formula)
    assert 42_500 <= played.best <= 50_000
    assert len(played.loads) <= 10
    assert len(played.failed) <= 3


def test_a_reading_that_misses_the_context_stops_the_loads() -> None:
    played = play(search_for(), load_limit=10**9, memory=lambda n: WEIGHTS + GIB // 4)
    assert len(played.loads) == 1
    assert formula(played.loads[0]) < 16 * GIB
    assert played.best == played.loads[0]


def test_a_lazy_backend_is_loaded_once_and_its_prompt_grown() -> None:
    search = ContextSearch(cost=formula, declared=131_072, budget_bytes=16 * GIB, architecture="llama", lazy=True)
    assert search.next_load() == 131_072
    search.observe_loaded(131_072, context_length=131_072, memory_bytes=WEIGHTS)
    assert search.next_load() is None
    limit, asked = 80_000, []
    while (n := search.next_prefill()) is not None:
        asked.append(n)
        search.observe_prefilled(n, ok=n <= limit, memory_bytes=formula(n) + GIB // 2 if n <= limit else None)
    assert asked == sorted(asked)
    assert 70_000 <= search.best <= limit


def test_a_remembered_length_is_trusted_as_a_start() -> None:
    budget = 12 * GIB
    plain = ContextSearch(cost=formula, declared=131_072, budget_bytes=budget, architecture="llama")
    remembering = ContextSearch(
        cost=formula, declared=131_072, budget_bytes=budget, architecture="llama", known_good=51_200
    )
    first, second = plain.next_load(), remembering.next_load()
    assert first is not None
    assert second is not None
    assert first < second


def test_what_is_learnt_survives_storage_and_starts_the_next_search() -> None:
    def truth(n: int) -> int:
        return int(WEIGHTS + 0.8 * GIB + 1.5 * PER_TOKEN * n)

    machine_belief = None
    firsts = []
    for _ in range(4):
        search = search_for(learned=machine_belief)
        firsts.append(play(search, load_limit=55_000, memory=truth).loads[0])
        stored = json.dumps(search.learned().to_json())
        machine_belief = MachineBelief.from_json(json.loads(stored))
        assert machine_belief == search.learned()
    assert machine_belief is not None
    assert machine_belief.models == 4
    assert machine_belief.slopes["llama"].mean == pytest.approx(1.5, rel=0.05)
    assert abs(firsts[-1] - 55_000) < abs(firsts[0] - 55_000)


@pytest.mark.parametrize(
    "stored", [{}, {"models": "x", "overhead_bytes": [1], "slopes": 3}, {"slopes": {"llama": [None, 1]}, "budgets": 7}]
)
def test_damaged_memories_count_as_none(stored: dict[str, object]) -> None:
    assert MachineBelief.from_json(stored) == MachineBelief()


def test_nothing_is_learnt_without_a_reading() -> None:
    before = MachineBelief(models=3, overhead_bytes=Normal(1e9, 1e8))
    search = search_for(learned=before)
    play(search, load_limit=60_000)
    assert search.learned() == before


@pytest.mark.slow
def test_it_needs_a_third_of_the_loads_of_bisection_and_hardly_fails() -> None:
    """Memory-limited models of one simulated fleet; the figures of `bench/context_search.py`, with slack."""
    asked: list[int] = []
    failing, gaps, bisected = [], [], []
    for ram_gib in (16, 64):
        learned = None
        for world in machine(seed=7, ram_gib=ram_gib):
            limit = world.limit()
            bench = Bench(world)
            found, learned = ours(bench, learned)
            assert found <= limit
            assert bench.severe == 0
            if not 0 < limit < world.declared:
                continue
            asked.append(bench.loads)
            failing.append(bench.failing)
            gaps.append(1 - found / limit)
            peer = Bench(world)
            bisection(peer)
            bisected.append(peer.loads)
    assert len(asked) > 25
    assert median(asked) <= 2
    assert sorted(asked)[int(0.95 * len(asked))] <= 4
    assert mean(failing) <= 0.15
    assert median(gaps) <= 0.10
    assert mean(asked) < mean(bisected) / 3
