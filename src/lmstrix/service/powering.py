"""`power`: what this machine tells of its power, measured for a while."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from lmstrix.core.benchmark.energy import LEAST_PERIODS
from lmstrix.core.benchmark.power import PERIOD_S, PowerSampler
from lmstrix.core.benchmark.power_sources import SourceState, describe_power, open_power_sources

_LEAST_S = (LEAST_PERIODS + 3) * PERIOD_S  # a little longer than a span must be to be measured at all


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReport:
    """Every source, readable or not, and the mean power of each channel over `span_s`; None where it gave nothing."""

    states: tuple[SourceState, ...]
    span_s: float
    channels: tuple[tuple[str, float | None], ...]


async def measure_power(watch_s: float) -> PowerReport:
    """Read all sources for `watch_s`, or a little longer where that is too short to tell."""
    sources = open_power_sources()
    states = tuple(describe_power(sources))
    if not sources:
        return PowerReport(states=states, span_s=0.0, channels=())
    span_s = max(watch_s, _LEAST_S)
    with PowerSampler(sources) as sampler:
        # The span needs a reading before its beginning and one after its end.
        await asyncio.sleep(sampler.settling_s)
        begin = time.perf_counter()
        await asyncio.sleep(span_s)
        end = time.perf_counter()
        await asyncio.sleep(sampler.settling_s)
        measured = {series.channel: series.power_w(begin, end) for series in sampler.series()}
    channels = tuple(
        (f"{source.name}: {channel.name}", measured.get(channel)) for source in sources for channel in source.channels
    )
    return PowerReport(states=states, span_s=span_s, channels=channels)
