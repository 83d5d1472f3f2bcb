"""PowerSampler: reads power sources on a thread of its own, and keeps the readings for whoever asks about a span later.

    with PowerSampler(open_power_sources()) as power:
        …
        series = power.series()         readings so far; `energy_of_run` makes joules of them

A reading costs microseconds and the thread sleeps between them, by the clock, so a slow reading does not shift the next
ones. A source that fails is read no more: its series ends there, and spans after it have no figure.
"""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Protocol, Self

from lmstrix.core.benchmark.energy import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from lmstrix.core.benchmark.energy import PowerChannel

PERIOD_S = 0.1
Values = tuple[float | None, ...]


class PowerSource(Protocol):
    """Something that can be read for energy (J, counting up) or power (W), channel by channel."""

    @property
    def name(self) -> str: ...

    @property
    def channels(self) -> tuple[PowerChannel, ...]: ...

    def read(self) -> Values:
        """The present value of every channel, in their order. Quick: called ten times per second."""

    def close(self) -> None: ...


class ReplaySource:
    """Plays readings back, one per call, then the last of them always: recorded elsewhere, or made by a test."""

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


class _Log:
    """The readings of one channel."""

    def __init__(self, channel: PowerChannel) -> None:
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
        self._logs = [[_Log(channel) for channel in source.channels] for source in self._sources]
        self._failed: dict[str, str] = {}
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def measures(self) -> bool:
        """Whether there is anything to measure by."""
        return any(source.channels for source in self._sources)

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
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for source in self._sources:
            source.close()

    def _run(self) -> None:
        due = self._clock()
        while not self._stop.wait(max(0.0, due - self._clock())):
            self.sample()
            # By the clock, so that a slow reading does not shift the next ones; missed ones are not made up for.
            due = max(due + self.period_s, self._clock())

    def sample(self) -> None:
        """Read every source once."""
        for source, logs in zip(self._sources, self._logs, strict=True):
            if source.name in self._failed:
                continue
            try:
                values = source.read()
            except Exception as exc:  # noqa: BLE001 - a driver's any failure ends that source, not the benchmark
                with self._guard:
                    self._failed[source.name] = f"{type(exc).__name__}: {exc}"
                continue
            at = self._clock()
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

    def forget(self, before: float) -> None:
        """Drop readings that nobody will ask about any more."""
        with self._guard:
            for logs in self._logs:
                for log in logs:
                    old = max(0, bisect_left(log.at, before) - 1)
                    del log.at[:old], log.values[:old]
