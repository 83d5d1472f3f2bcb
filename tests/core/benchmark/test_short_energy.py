"""The energy of short answers, against meters whose truth is known: read as the sampler reads, at its moments."""

from __future__ import annotations

import csv
import sys
import threading
import time
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.benchmark.energy import Energy, PowerChannel, energy_of_run
from lmstrix.core.benchmark.power import PERIOD_S, PowerReadings, PowerSampler, ReplaySource
from lmstrix.core.benchmark.power_apple import MacmonSource
from lmstrix.core.benchmark.records import BenchRequest
from lmstrix.core.benchmark.runner import Bench
from lmstrix.ground.types import Finished
from lmstrix.reports.bench.power_csv import write_power
from tests.core.benchmark.fakes import FakeBackend, FakeModel, run_to_report, server_of, target

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from lmstrix.ground.types import GenerationRequest, StreamEvent

IDLE_W, PREFILL_W, DECODE_W = 20.0, 140.0, 90.0
SENT_S = 3.0


class Meter:
    """A machine that is idle, reads a prompt, answers, and is idle again. It knows what it took."""

    def __init__(self, *, offset_s: float, prefill_s: float, decode_s: float) -> None:
        self.sent = SENT_S + offset_s
        self.first = self.sent + prefill_s
        self.end = self.first + decode_s

    def joules(self, at: float) -> float:
        busy = (min(max(at, self.sent), self.first) - self.sent) * (PREFILL_W - IDLE_W)
        busy += (min(max(at, self.first), self.end) - self.first) * (DECODE_W - IDLE_W)
        return IDLE_W * at + busy

    def between(self, begin: float, end: float) -> float:
        return self.joules(end) - self.joules(begin)


class CountingSource:
    """A counter that is renewed `every_s`, and keeps the rest to itself until then."""

    name = "meter"
    taken_at: float | None = None

    def __init__(self, meter: Meter, clock: Clock, every_s: float) -> None:
        self.channels = (PowerChannel(name="package", part="cpu", unit="J", renewed_every_s=every_s),)
        self._meter, self._clock, self._every_s = meter, clock, every_s

    def read(self) -> tuple[float | None, ...]:
        at = self._clock()
        return (self._meter.joules(at // self._every_s * self._every_s if self._every_s else at),)

    def close(self) -> None:
        """Nothing is held."""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(meter: Meter, *, renewed_every_s: float = 0.0, period_s: float = PERIOD_S) -> Energy | None:
    """What the sampler and the arithmetic make of it: read every period, and at the three moments."""
    clock = Clock()
    sampler = PowerSampler([CountingSource(meter, clock, renewed_every_s)], period_s=period_s, clock=clock)
    regular = [number * period_s for number in range(int((meter.end + 2) / period_s))]
    for clock.now in sorted({*regular, meter.sent, meter.first, meter.end}):
        sampler.sample()
    return energy_of_run(
        sampler.series(),
        sent_at=meter.sent,
        first_token_at=meter.first,
        ended_at=meter.end,
        prompt_tokens=100,
        output_tokens=10,
        idle_power_w=IDLE_W,
    )


@settings(max_examples=100)
@given(st.floats(0.0, 0.1), st.floats(0.05, 2.0), st.floats(0.25, 5.0))
def test_energy_of_answers_from_a_third_of_a_second_is_right_within_a_hundredth(
    offset_s: float, prefill_s: float, decode_s: float
) -> None:
    """The counter of processors is renewed every millisecond."""
    meter = Meter(offset_s=offset_s, prefill_s=prefill_s, decode_s=decode_s)
    energy = measured(meter, renewed_every_s=0.001)
    assert energy is not None
    assert energy.gross_j == pytest.approx(meter.between(meter.sent, meter.end), rel=0.01)
    assert dict(energy.parts_gross_j) == {"cpu": energy.gross_j}
    assert energy.cpu_gross_j == energy.gross_j
    assert energy.prefill_gross_j is not None
    assert energy.decode_gross_j == pytest.approx(DECODE_W * decode_s, rel=0.01)
    assert energy.prefill_gross_j == pytest.approx(PREFILL_W * prefill_s, rel=0.05)


def test_a_slow_counter_says_nothing_of_an_answer_shorter_than_its_renewals() -> None:
    short = Meter(offset_s=0.05, prefill_s=0.05, decode_s=0.15)
    assert measured(short, renewed_every_s=0.1, period_s=0.01) is None
    long = Meter(offset_s=0.05, prefill_s=1.0, decode_s=4.0)
    energy = measured(long, renewed_every_s=0.1, period_s=0.01)
    assert energy is not None
    assert energy.gross_j == pytest.approx(long.between(long.sent, long.end), rel=0.01)


def test_smallest_and_largest_power_are_told() -> None:
    energy = measured(Meter(offset_s=0.0, prefill_s=1.0, decode_s=1.0))
    assert energy is not None
    assert energy.minimum_power_w == pytest.approx(DECODE_W)
    assert energy.average_power_w == pytest.approx((PREFILL_W + DECODE_W) / 2)
    assert energy.maximum_power_w == pytest.approx(PREFILL_W)
    short = measured(Meter(offset_s=0.0, prefill_s=0.05, decode_s=0.1))
    assert short is not None
    assert short.maximum_power_w is None


def test_watts_that_are_means_are_not_taken_for_moments() -> None:
    """A mean of 100 ms that arrives at its end: trapezoids would move power half a period, and blur its edges."""
    meter = Meter(offset_s=0.0, prefill_s=0.2, decode_s=0.2)
    clock = Clock()
    moments = [number * PERIOD_S for number in range(80)]
    means = [meter.between(at - PERIOD_S, at) / PERIOD_S for at in moments]
    channel = PowerChannel(name="cpu_power", part="cpu", unit="W", averaged=True)
    sampler = PowerSampler([ReplaySource([channel], [(watts,) for watts in means])], clock=clock)
    for clock.now in moments:
        sampler.sample()
    (series,) = sampler.series()
    assert series.energy_j(meter.sent, meter.end) == pytest.approx(meter.between(meter.sent, meter.end), rel=0.01)
    assert all(channel.averaged for channel in macmon_channels())


def macmon_channels() -> tuple[PowerChannel, ...]:
    source = MacmonSource([sys.executable, "-c", ""])
    source.close()
    return source.channels


def test_a_reading_has_the_moment_its_source_took_it() -> None:
    """A program that prints now and then: what it said is not read anew, and not later than it was."""
    clock = Clock()
    source = ReplaySource([PowerChannel(name="p", part="cpu", unit="W", averaged=True)], [(1.0,), (1.0,), (2.0,)])
    sampler = PowerSampler([source], clock=clock)
    for clock.now, source.taken_at in ((1.0, 0.9), (1.1, 0.9), (1.2, 1.15)):
        sampler.sample()
    (readings,) = sampler.readings()
    assert list(readings.at) == [0.9, 1.15]


class LiveMeter(FakeBackend):
    """A backend and the counter beside it: the machine takes more while an answer is generated."""

    def __init__(self, model: FakeModel) -> None:
        super().__init__({"a": model})
        self._switched = (time.perf_counter(), 0.0, IDLE_W)
        self.busy_s: list[float] = []

    def joules(self) -> float:
        at, joules, watts = self._switched
        return joules + watts * (time.perf_counter() - at)

    def _switch(self, watts: float) -> float:
        at, joules, before = self._switched
        now = time.perf_counter()
        self._switched = (now, joules + before * (now - at), watts)
        return now

    async def stream(self, instance_id: str, request: GenerationRequest) -> AsyncGenerator[StreamEvent]:
        began = self._switch(DECODE_W)
        async for event in super().stream(instance_id, request):
            if isinstance(event, Finished):
                self.busy_s.append(self._switch(IDLE_W) - began)
            yield event


def test_a_session_reads_at_the_moments_of_its_requests() -> None:
    """The regular readings are half a second apart; the answer takes a third of one."""
    meter = LiveMeter(FakeModel(prefill_s=0.1, token_s=0.01))
    # One reading per call, made at the call.
    source = ReplaySource([PowerChannel(name="package", part="cpu", unit="J")], ((meter.joules(),) for _ in count()))
    session = Bench(
        server_of(meter),
        [target("a")],
        BenchRequest(runs=1, max_tokens=20, idle_s=0.0),
        power_sources=[source],
        power_period_s=0.5,
    )
    (run,) = run_to_report(session).cells[0].runs
    assert run.energy is not None
    truth_j = IDLE_W * run.span_s + (DECODE_W - IDLE_W) * meter.busy_s[-1]
    # Readings lie right at the ends; a busy machine may put a few milliseconds in between.
    assert run.energy.gross_j == pytest.approx(truth_j, rel=0.03)
    assert run.energy.idle_power_w == pytest.approx(IDLE_W, rel=0.01)


def test_moments_are_read_a_few_times_after_them() -> None:
    """Watts of single moments change there; the regular readings are an hour apart."""
    enough = threading.Event()

    class Watched(ReplaySource):
        count = 0

        def read(self) -> tuple[float | None, ...]:
            self.count += 1
            if self.count >= 5:
                enough.set()
            return (1.0,)

    def slowed_clock() -> float:
        return time.perf_counter() / 50  # moments that a busy machine comes too late for are read at once

    source = Watched([PowerChannel(name="card", part="gpu", unit="W")], [])
    with PowerSampler([source], period_s=3600.0, clock=slowed_clock) as sampler:
        sampler.sample_soon()
        assert enough.wait(20)


def test_all_readings_are_written(tmp_path: Path) -> None:
    channel = PowerChannel(name="package, 0", part="cpu", unit="J")
    write_power([PowerReadings("meter", channel, [5.0, 5.1], [1.0, 1.5])], tmp_path)
    with (tmp_path / "power.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["since_start_s"], row["channel"], row["part"], row["unit"], row["value"]) for row in rows] == [
        ("0.000000", "package, 0", "cpu", "J", "1.000000"),
        ("0.100000", "package, 0", "cpu", "J", "1.500000"),
    ]
    write_power([], tmp_path / "none")
    assert not (tmp_path / "none").exists()
