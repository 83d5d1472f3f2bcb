"""Thousands of comparisons of measurements that are made up: how often a false alarm, how often a slowdown is found.

A world gives seven figures of each visit. All share what the machine does: a drift, a random walk, and noise whose
tails are as heavy as the world says; each has noise of its own beside. Nothing in a world depends on the side.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lmstrix.core.benchmark.against import evidence_of_blocks
from lmstrix.core.benchmark.compare import Comparison, evidence_of_sessions, judge
from lmstrix.core.benchmark.records import DEFAULT_BLOCKS
from lmstrix.core.benchmark.session_spread import spread_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Noise = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]

pytestmark = pytest.mark.slow

FIGURES = (
    "warm_load_s",
    "ttft_s",
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "e2e_s",
    "net_j_per_output_token",
    "itl_p99_s",
)
SLOWED = 4  # the place of e2e_s
SCATTER = 0.03
NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "student 3": lambda rng, shape: rng.standard_t(3, size=shape) / math.sqrt(3),
    "student 2": lambda rng, shape: rng.standard_t(2, size=shape) / 2,
    "lognormal": lambda rng, shape: np.expm1(rng.normal(size=shape)) / 2,
    "spikes": lambda rng, shape: rng.normal(size=shape) + (rng.random(shape) < 0.1) * rng.exponential(10.0, size=shape),
}


def visits(rng: np.random.Generator, noise: Noise, count: int, *, drift: float = 0.01) -> NDArray[np.float64]:
    """The logarithms of seven figures of so many visits, one after the other."""
    shared = noise(rng, (1, count)) * SCATTER * math.sqrt(0.5)
    own = noise(rng, (len(FIGURES), count)) * SCATTER * math.sqrt(0.5)
    walk = np.cumsum(rng.normal(size=count)) * drift
    steady = np.linspace(0, 10 * drift, count) * rng.normal()
    logs: NDArray[np.float64] = shared + own + walk + steady
    return logs


def in_turns(rng: np.random.Generator, noise: Noise, *, slowed: float = 0.0) -> tuple[Comparison, ...]:
    """A comparison in blocks, A B, B A, …; `slowed` is added to one figure of side B."""
    logs = visits(rng, noise, 2 * DEFAULT_BLOCKS)
    a = [2 * block + block % 2 for block in range(DEFAULT_BLOCKS)]
    b = [2 * block + 1 - block % 2 for block in range(DEFAULT_BLOCKS)]
    differences = logs[:, b] - logs[:, a]
    differences[SLOWED] += slowed
    return judge(
        [
            evidence_of_blocks("m", figure, [1.0], [1.0], tuple(map(float, one)))
            for figure, one in zip(FIGURES, differences, strict=True)
        ]
    )


def false_alarm(comparisons: tuple[Comparison, ...]) -> bool:
    return any(one.verdict in ("better", "worse") for one in comparisons)


@pytest.mark.parametrize("world", NOISES)
def test_equal_sides_measured_in_turns_give_few_false_alarms(world: str) -> None:
    rng = np.random.default_rng(11)
    alarms = sum(false_alarm(in_turns(rng, NOISES[world])) for _ in range(1500))
    assert alarms / 1500 <= 0.03


@pytest.mark.parametrize("world", ["normal", "student 3", "lognormal"])
def test_a_tenth_slower_is_found_nineteen_times_in_twenty(world: str) -> None:
    rng = np.random.default_rng(12)
    found = sum(in_turns(rng, NOISES[world], slowed=math.log(1.1))[SLOWED].verdict == "worse" for _ in range(500))
    assert found / 500 >= (0.95 if world != "lognormal" else 0.9)


def test_a_limit_is_held_against_the_near_end() -> None:
    """A figure that is worse by exactly the limit fails it seldom, though its estimate is beyond it half the time."""
    rng = np.random.default_rng(13)
    beyond = failed = 0
    for _ in range(500):
        one = in_turns(rng, NOISES["student 3"], slowed=math.log(1.1))[SLOWED]
        assert one.change_ratio is not None
        beyond += one.change_ratio > 0.1
        failed += one.verdict == "worse" and one.least_worsening_ratio > 0.1
    assert beyond > 200
    assert failed <= 5


def two_sessions(
    rng: np.random.Generator, noise: Noise, *, earlier: int, slowed: float = 0.0, runs: int = 6
) -> tuple[Comparison, ...]:
    """Two sessions of their own beside `earlier` ones. What differs from session to session, all runs of one share."""
    sessions = visits(rng, noise, earlier + 2, drift=0.0)
    sessions[SLOWED, 1] += slowed
    scatter = rng.normal(size=(len(FIGURES), 2, runs)) * 0.01
    evidence = []
    for place, figure in enumerate(FIGURES):
        left, right = ([math.exp(sessions[place, side] + one) for one in scatter[place, side]] for side in (0, 1))
        spread = spread_of([math.exp(one) for one in sessions[place, 2:]])
        evidence += evidence_of_sessions("m", figure, left, right, spread)
    return judge(evidence)


@pytest.mark.parametrize("world", ["normal", "student 3", "student 2", "lognormal"])
@pytest.mark.parametrize("earlier", [7, 12])
def test_separate_sessions_of_the_same_thing_give_few_false_alarms(world: str, earlier: int) -> None:
    rng = np.random.default_rng(14)
    alarms = sum(false_alarm(two_sessions(rng, NOISES[world], earlier=earlier)) for _ in range(800))
    assert alarms / 800 <= 0.05


def test_one_session_each_cannot_tell_whatever_it_saw() -> None:
    rng = np.random.default_rng(15)
    verdicts = [two_sessions(rng, NOISES["normal"], earlier=5, slowed=math.log(1.3))[SLOWED] for _ in range(200)]
    assert {one.verdict for one in verdicts} == {"cannot tell"}


def test_what_lies_far_beyond_earlier_sessions_is_found() -> None:
    rng = np.random.default_rng(16)
    found = sum(
        two_sessions(rng, NOISES["normal"], earlier=10, slowed=math.log(2))[SLOWED].verdict == "worse"
        for _ in range(200)
    )
    assert found >= 190
