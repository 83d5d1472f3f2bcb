"""From power readings to joules: per phase, per token, over idle. Pure.

A channel is a counter of joules or a gauge of watts, read at moments of one monotonic clock. Counters are read at the
ends of each span, and interpolated where a reading is not quite there; watts that are means since the reading before
are added up to a counter; watts of one moment are integrated by trapezoids. A span is measured only if readings lie on
both sides of it, close to it and without holes; else it is None, never a guess and never 0. The machine's idle power,
measured before and after with the model loaded, is subtracted for the net figures.

Traded away: what happens between two readings. A phase too short for the readings around it has no figure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Part = Literal["cpu", "gpu", "memory", "accelerator", "system"]

LEAST_PERIODS = 3
"""Sampling periods a span of watts must last to be measured."""
MOST_ERROR_RATIO = 1 / (2 * LEAST_PERIODS)
"""What interpolation at its ends may be wrong by, as a share of a span, for a counter: as much as in three periods."""
_HOLE_PERIODS = 5
"""Sampling periods without a reading that make a hole in watts, if it is not a small part of the span."""
_LEAST_STRETCHES = 2
_MOST_STRETCHES = 600
"""Of an answer that takes minutes: more would not find another peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerChannel:
    """One thing a source measures. A counter wraps to 0 beyond `wraps_at_j`. "system" holds all the other parts.

    `averaged`: watts are the mean since the reading before. `renewed_every_s`: readings in between repeat the last one.
    """

    name: str
    part: Part
    unit: Literal["J", "W"]
    wraps_at_j: float | None = None
    averaged: bool = False
    renewed_every_s: float = 0.0


class _Counter(NamedTuple):
    """Joules at moments, never falling."""

    at: Sequence[float]
    joules: Sequence[float]

    def covers(self, begin: float, end: float) -> bool:
        return len(self.at) > 1 and self.at[0] <= begin and self.at[-1] >= end

    def between(self, begin: float, end: float) -> float:
        return _between(self.at, self.joules, end) - _between(self.at, self.joules, begin)

    def doubt_s(self, moment: float) -> float:
        """How much of the time around a moment interpolation may give to the wrong side of it."""
        place = min(max(1, bisect_left(self.at, moment)), len(self.at) - 1)
        before, after = self.at[place - 1], self.at[place]
        return (moment - before) * (after - moment) / (after - before)


@dataclass(frozen=True, slots=True)
class Series:
    """The readings of one channel: moments, increasing, and values."""

    channel: PowerChannel
    at: Sequence[float]
    values: Sequence[float]
    period_s: float

    def energy_j(self, begin: float, end: float) -> float | None:
        """Joules between two moments."""
        if end <= begin or not self._covers(begin, end):
            return None
        counter = self._counter(begin, end)
        if counter is None:
            return self._integral_j(begin, end) if end - begin >= LEAST_PERIODS * self.period_s else None
        if not counter.covers(begin, end):
            return None
        doubt_s = counter.doubt_s(begin) + counter.doubt_s(end)
        return counter.between(begin, end) if doubt_s <= MOST_ERROR_RATIO * (end - begin) else None

    def power_w(self, begin: float, end: float) -> float | None:
        """Mean watts between two moments."""
        energy = self.energy_j(begin, end)
        return None if energy is None else energy / (end - begin)

    def about_w(self, begin: float, end: float) -> float | None:
        """The same of a stretch within a span that is measured, however short."""
        counter = self._counter(begin, end)
        if counter is not None and not counter.covers(begin, end):
            return None
        energy = self._integral_j(begin, end) if counter is None else counter.between(begin, end)
        return energy / (end - begin)

    def _covers(self, begin: float, end: float) -> bool:
        if not self.at or self.at[0] > begin or self.at[-1] < end:
            return False
        if self.channel.unit == "J":
            return True  # a counter goes on counting while nobody reads it
        first, last = bisect_right(self.at, begin) - 1, bisect_left(self.at, end)
        hole_s = max(_HOLE_PERIODS * self.period_s, MOST_ERROR_RATIO * (end - begin))
        return all(b - a <= hole_s for a, b in pairwise(self.at[first : last + 1]))

    def _around(self, begin: float, end: float) -> tuple[Sequence[float], Sequence[float]]:
        """The readings from the one before the span to the one after it, with those that a slow source repeats."""
        margin_s = 2 * self.channel.renewed_every_s
        first = max(0, bisect_right(self.at, begin - margin_s) - 1)
        last = min(len(self.at) - 1, bisect_left(self.at, end + margin_s))
        return self.at[first : last + 1], self.values[first : last + 1]

    def _counter(self, begin: float, end: float) -> _Counter | None:
        """What counts around a span; None for watts of single moments."""
        at, values = self._around(begin, end)
        if self.channel.unit == "J":
            counter = _Counter(at, _unwrapped(values, self.channel.wraps_at_j))
        elif self.channel.averaged:
            counter = _Counter(at, _added_up(at, values))
        else:
            return None
        return _renewed(counter, self.channel.renewed_every_s)

    def _integral_j(self, begin: float, end: float) -> float:
        at, values = self._around(begin, end)
        moments = [begin, *(moment for moment in at if begin < moment < end), end]
        watts = [_between(at, values, moment) for moment in moments]
        return sum((b - a) * (p + q) / 2 for (a, b), (p, q) in zip(pairwise(moments), pairwise(watts), strict=True))


def _added_up(at: Sequence[float], watts: Sequence[float]) -> list[float]:
    """Joules since the first reading, of watts that are each the mean since the reading before."""
    return list(accumulate((w * (b - a) for (a, b), w in zip(pairwise(at), watts[1:], strict=True)), initial=0.0))


def _renewed(counter: _Counter, every_s: float) -> _Counter:
    """Without readings that repeat the last value because the source had no newer one."""
    if not every_s:
        return counter
    at, joules = [counter.at[0]], [counter.joules[0]]
    for moment, value in zip(counter.at[1:], counter.joules[1:], strict=True):
        # Unchanged for longer than a renewal takes, nothing was used.
        if value != joules[-1] or moment - at[-1] >= 2 * every_s:
            at.append(moment)
            joules.append(value)
    return _Counter(at, joules)


def _unwrapped(values: Sequence[float], wraps_at_j: float | None) -> list[float]:
    """A counter that never falls: after a wrap it goes on; a counter that was reset starts again where it stood."""
    total = values[0]
    unwrapped = [total]
    for before, value in pairwise(values):
        step = value - before
        if step < 0:  # it wrapped, or it was reset
            step = step + wraps_at_j if wraps_at_j is not None else value
        total += step
        unwrapped.append(total)
    return unwrapped


def _between(at: Sequence[float], values: Sequence[float], moment: float) -> float:
    """The value at a moment, on the line between its neighbours."""
    place = min(max(1, bisect_left(at, moment)), len(at) - 1)
    before, after = at[place - 1], at[place]
    return values[place - 1] + (values[place] - values[place - 1]) * (moment - before) / (after - before)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPower:
    """What the chosen channels gave for one span: all of them together, and the whole machine where it is measured."""

    parts: tuple[tuple[Part, float], ...]
    system: float | None = None

    @property
    def total(self) -> float | None:
        """The sum of the parts; the whole machine's where no part is measured."""
        return sum(value for _, value in self.parts) if self.parts else self.system


def measure_parts(series: Sequence[Series], measure: Callable[[Series], float | None]) -> PartPower | None:
    """Apply `measure` to every channel and add up by part; None unless every channel has a figure."""
    if not series:
        return None
    # All or nothing: a sum without one part would look like a saving.
    sums: dict[Part, float] = {}
    for one in series:
        value = measure(one)
        if value is None:
            return None
        sums[one.channel.part] = sums.get(one.channel.part, 0.0) + value
    # Kept apart: the whole machine holds the other parts, so adding it would count them twice.
    system = sums.pop("system", None)
    return PartPower(parts=tuple(sorted(sums.items())), system=system)


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What one run took, in joules. Gross is all that was measured, net is above idle.

    "prefill" is from sending to the first token, "decode" from there to the end. `parts_gross_j` are by part of the
    machine, `system_gross_j` the whole machine's where a source measures it beside its parts. The smallest and largest
    power are those of stretches of at least one sampling period; None for a run shorter than two.
    """

    span_s: float
    gross_j: float
    net_j: float | None = None
    idle_power_w: float | None = None
    average_power_w: float | None = None
    minimum_power_w: float | None = None
    maximum_power_w: float | None = None
    prefill_gross_j: float | None = None
    prefill_net_j: float | None = None
    decode_gross_j: float | None = None
    decode_net_j: float | None = None
    net_j_per_prompt_token: float | None = None
    net_j_per_decode_token: float | None = None
    net_j_per_output_token: float | None = None
    gross_j_per_output_token: float | None = None
    parts_gross_j: tuple[tuple[Part, float], ...] = ()
    system_gross_j: float | None = None

    @property
    def cpu_gross_j(self) -> float | None:
        """The processor packages'."""
        return dict(self.parts_gross_j).get("cpu")

    @property
    def gpu_gross_j(self) -> float | None:
        """The graphics cards'."""
        return dict(self.parts_gross_j).get("gpu")

    @property
    def memory_gross_j(self) -> float | None:
        """The memory modules'."""
        return dict(self.parts_gross_j).get("memory")

    @property
    def accelerator_gross_j(self) -> float | None:
        """The neural engine's."""
        return dict(self.parts_gross_j).get("accelerator")


def energy_of_run(
    series: Sequence[Series],
    *,
    sent_at: float,
    first_token_at: float | None,
    ended_at: float,
    prompt_tokens: int | None,
    output_tokens: int | None,
    idle_power_w: float | None,
) -> Energy | None:
    """The energy of a run, split at its first token where each phase is long enough; None when not measured."""
    whole = measure_parts(series, lambda one: one.energy_j(sent_at, ended_at))
    if whole is None or whole.total is None:
        return None
    span_s = ended_at - sent_at
    # Either phase may be too short to measure while the whole run is not.
    prefill = decode = None
    if first_token_at is not None:
        split = first_token_at
        prefill = _total(measure_parts(series, lambda one: one.energy_j(sent_at, split)))
        decode = _total(measure_parts(series, lambda one: one.energy_j(split, ended_at)))
    powers = _stretches_w(series, sent_at, ended_at)
    net = _net(whole.total, idle_power_w, span_s)
    prefill_net = _net(prefill, idle_power_w, (first_token_at or 0.0) - sent_at)
    decode_net = _net(decode, idle_power_w, ended_at - (first_token_at or 0.0))
    return Energy(
        span_s=span_s,
        gross_j=whole.total,
        net_j=net,
        idle_power_w=idle_power_w,
        average_power_w=whole.total / span_s,
        minimum_power_w=min(powers, default=None),
        maximum_power_w=max(powers, default=None),
        prefill_gross_j=prefill,
        prefill_net_j=prefill_net,
        decode_gross_j=decode,
        decode_net_j=decode_net,
        net_j_per_prompt_token=_per(prefill_net, prompt_tokens),
        net_j_per_decode_token=_per(decode_net, output_tokens),
        net_j_per_output_token=_per(net, output_tokens),
        gross_j_per_output_token=_per(whole.total, output_tokens),
        parts_gross_j=whole.parts,
        system_gross_j=whole.system,
    )


def _stretches_w(series: Sequence[Series], begin: float, end: float) -> list[float]:
    """Mean power of equal stretches of a span, each long enough to tell its power; none for a single one."""
    least_s = max(max(one.period_s, 2 * one.channel.renewed_every_s) for one in series)
    count = min(int((end - begin) / least_s), _MOST_STRETCHES)
    if count < _LEAST_STRETCHES:
        return []
    step = (end - begin) / count
    spans = [(begin + place * step, begin + (place + 1) * step) for place in range(count)]
    powers = [_total(measure_parts(series, partial(Series.about_w, begin=a, end=b))) for a, b in spans]
    return [power for power in powers if power is not None]


def idle_power_w(series: Sequence[Series], spans: Sequence[tuple[float, float]]) -> float | None:
    """Mean power over the idle spans, each weighing the same: before and after, so that a drift cancels."""
    powers = [_total(measure_parts(series, partial(Series.power_w, begin=begin, end=end))) for begin, end in spans]
    known = [power for power in powers if power is not None]
    return sum(known) / len(known) if known else None


def _total(parts: PartPower | None) -> float | None:
    return None if parts is None else parts.total


def _net(gross_j: float | None, idle_w: float | None, span_s: float) -> float | None:
    """Above idle; noise can make a very small one negative, and then it says so."""
    return None if gross_j is None or idle_w is None else gross_j - idle_w * span_s


def _per(energy_j: float | None, tokens: int | None) -> float | None:
    return energy_j / tokens if energy_j is not None and tokens else None
