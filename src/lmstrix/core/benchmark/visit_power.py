"""The power side of one visit: idle spans before and after the runs, the moments of the runs, and their joules."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.energy import LEAST_PERIODS, energy_of_run, idle_power_w

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.benchmark.power import PowerSampler
    from lmstrix.core.benchmark.records import RunRecord

_SLOWEST_RENEWAL_S = 1.0  # of readings before a span, those of the slowest source are needed too


@dataclass(frozen=True, slots=True)
class Moments:
    """When a run happened, on the clock of the power readings."""

    sent_at: float
    first_token_at: float | None
    ended_at: float


@dataclass(slots=True)
class VisitPower:
    """What a visit needs of a power sampler. `idle_s` is how long the machine rests each time."""

    sampler: PowerSampler
    idle_s: float
    clock: Callable[[], float]
    moments: dict[int, Moments] = field(default_factory=dict)
    _idle: list[tuple[float, float]] = field(default_factory=list)

    @property
    def rest_s(self) -> float:
        """How long one rest keeps the benchmark waiting; 0 where nothing is measured."""
        if not self.sampler.measures:
            return 0.0
        return max(self.idle_s, (LEAST_PERIODS + 1) * self.sampler.period_s) + self.sampler.settling_s

    async def rest(self) -> None:
        """Let the machine be idle, with the model loaded."""
        begin, rest_s = self.clock(), self.rest_s
        await asyncio.sleep(rest_s)
        # Ended a little earlier, so that readings lie on both sides of its end.
        self._idle.append((begin, begin + rest_s - self.sampler.settling_s))

    def with_energy(self, runs: Sequence[RunRecord]) -> list[RunRecord]:
        """The runs, those of this visit with their energy, now that the readings around them are in."""
        if not self.sampler.measures or not self.moments:
            return list(runs)
        since = min([*(begin for begin, _ in self._idle), *(at.sent_at for at in self.moments.values())])
        readings = self.sampler.series(since - _SLOWEST_RENEWAL_S)
        idle_w = idle_power_w(readings, self._idle)
        found: list[RunRecord] = []
        for run in runs:
            at = self.moments.get(run.number)
            energy = None
            if at is not None and not run.failed:
                energy = energy_of_run(
                    readings,
                    sent_at=at.sent_at,
                    first_token_at=at.first_token_at,
                    ended_at=at.ended_at,
                    prompt_tokens=_sum([each.prompt_tokens for each in run.requests]),
                    output_tokens=_sum([each.completion_tokens for each in run.requests]),
                    idle_power_w=idle_w,
                )
            found.append(run if energy is None else replace(run, energy=energy))
        return found


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
