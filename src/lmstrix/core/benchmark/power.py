"""PowerSampler: reads power sources on a thread of its own, and keeps the readings for whoever asks about a span later.

    with PowerSampler(open_power_sources()) as power:
        …
        series = power.series()         readings so far; `energy_of_run` makes joules of them

A reading costs microseconds and the thread sleeps between them, by the clock, so a slow reading does not shift the next
ones. Moments that matter are read at once (`sample`) or by the thread as soon as it can (`sample_soon`), with a few
readings after them, because that is where power changes. A source that fails is read no more: its series ends there,
and spans after it have no figure.
"""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from lmstrix.core.benchmark.energy import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from lmstrix.core.benchmark.energy import PowerChannel

PERIOD_S = 0.1
LEAST_PERIOD_S = 0.001  # reading more often would itself be what is measured
MOST_PERIOD_S = 1.0  # short answers would never be measured
_AFTER_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
"""When to read again after a moment: watts of single moments would else be of before it for half a period."""
_SETTLING_READINGS = 3
Values = tuple[float | None, ...]


class PowerSource(Protocol):
    """Something that can be read for energy (J, counting up) or power (W), channel by channel."""

    @property
    def name(self) -> str: ...

    @property
    def channels(self) -> tuple[PowerChannel, ...]: ...

    @property
    def taken_at(self) -> float | None:
        """When the values were taken, by `time.perf_counter`, where a source has them from earlier; None: just now."""

    def read(self) -> Values:
        """The present value of every channel, in their order. Quick: called ten times per second."""

    def close(self) -> None: ...


class ReplaySource:
    """Plays readings back, one per call, then the last of them always: recorded elsewhere, or made by a test."""

    taken_at: float | None = None

    def __init__(self, channels: Sequence[PowerChannel], readings: Iterable[Values], *, name: str = "replay") -> None:
        self.name = name
        self.channels = tuple(channels)
        self._readings = iter(readings)
        self._last: Values = (None,) * len(self.channels)

    def read(self) -> Values:
        self._last = next(self._readings, self._last)
        return self._last

    def close(self) -> None:
        """Nothing is held."""


def scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


class PowerReadings(NamedTuple):
    """All readings of one channel: moments of the sampler's clock, and what was read."""

    source: str
    channel: PowerChannel
    at: Sequence[float]
    values: Sequence[float]


class _Log:
    """The readings of one channel."""

    def __init__(self, source: str, channel: PowerChannel) -> None:
        self.source = source
        self.channel = channel
        self.at = array("d")
        self.values = array("d")


class PowerSampler:
    """Samples all of `sources` every `period_s`; closes them in the end. Times are those of `clock`."""

    def __init__(
        self,
        sources: Sequence[PowerSource],
        *,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.period_s = period_s
        self._sources = list(sources)
        self._clock = clock
        self._logs = [[_Log(source.name, channel) for channel in source.channels] for source in self._sources]
        self._failed: dict[str, str] = {}
        self._guard = threading.Lock()
        self._reading = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._extra: list[float] = []
        self._thread: threading.Thread | None = None

    @property
    def measures(self) -> bool:
        """Whether there is anything to measure by."""
        return any(source.channels for source in self._sources)

    @property
    def settling_s(self) -> float:
        """After so long a moment has readings on both sides, of sources that are renewed rarely or come late too."""
        renewals = [channel.renewed_every_s for source in self._sources for channel in source.channels]
        return _SETTLING_READINGS * (self.period_s + max(renewals, default=0.0))

    @property
    def source_names(self) -> tuple[str, ...]:
        return tuple(source.name for source in self._sources)

    @property
    def failed(self) -> dict[str, str]:
        """Sources that could not be read any more, and why."""
        with self._guard:
            return dict(self._failed)

    def __enter__(self) -> Self:
        # A machine without sources gets no thread that wakes ten times per second for nothing.
        if self.measures:
            self._thread = threading.Thread(target=self._run, name="lmstrix-power", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        for source in self._sources:
            source.close()

    def _run(self) -> None:
        due = self._clock()
        while True:
            self._wake.wait(max(0.0, min([due, *self._extra[:1]]) - self._clock()))
            if self._stopped:
                return
            self._wake.clear()
            if self._clock() < min([due, *self._extra[:1]]):
                continue  # woken to look at what is due anew
            self._read()
            now = self._clock()
            with self._guard:
                self._extra = [moment for moment in self._extra if moment > now]
            # By the clock, so that a slow reading does not shift the next ones; missed ones are not made up for.
            if now >= due:
                due = max(due + self.period_s, now)

    def sample(self) -> None:
        """Read every source now, and a few times soon after."""
        self._read()
        self._expect(_AFTER_S)

    def sample_soon(self) -> None:
        """The same by the sampler's thread, for who cannot wait for a reading."""
        self._expect((0.0, *_AFTER_S))

    def _expect(self, delays_s: tuple[float, ...]) -> None:
        if self._thread is None:
            return
        now = self._clock()
        with self._guard:
            # What is due already is kept: it would else never be read.
            self._extra = sorted({*(at for at in self._extra if at <= now), *(now + delay for delay in delays_s)})
        self._wake.set()

    def _read(self) -> None:
        with self._reading:
            self._read_sources()

    def _read_sources(self) -> None:
        for source, logs in zip(self._sources, self._logs, strict=True):
            if source.name in self._failed:
                continue
            try:
                values = source.read()
            except Exception as exc:  # noqa: BLE001 - a driver's any failure ends that source, not the benchmark
                with self._guard:
                    self._failed[source.name] = f"{type(exc).__name__}: {exc}"
                continue
            taken_at = source.taken_at
            at = self._clock() if taken_at is None else taken_at
            with self._guard:
                for log, value in zip(logs, values, strict=True):
                    # Interpolation needs moments that increase, and some clocks tick slower than this loop.
                    if value is not None and not (log.at and at <= log.at[-1]):
                        log.at.append(at)
                        log.values.append(value)

    def series(self, since: float = float("-inf")) -> list[Series]:
        """A copy of the readings from just before `since`, of every channel that gave any."""
        # One reading more than asked for: a span is measured only when readings lie on both sides of it.
        with self._guard:
            return [
                Series(log.channel, log.at[first:], log.values[first:], self.period_s)
                for logs in self._logs
                for log in logs
                if log.at
                for first in (max(0, bisect_left(log.at, since) - 1),)
            ]

    def readings(self) -> tuple[PowerReadings, ...]:
        """A copy of everything that was read."""
        with self._guard:
            return tuple(
                PowerReadings(log.source, log.channel, log.at[:], log.values[:]) for logs in self._logs for log in logs
            )
