"""All readings of power as rows of CSV: when, of which source and channel, and what was read."""

from __future__ import annotations

import csv
import time
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lmstrix.core.benchmark.power import PowerReadings

POWER_FILE = "power.csv"
COLUMNS = ("read_at", "since_start_s", "source", "channel", "part", "unit", "value")


def write_power(readings: Sequence[PowerReadings], folder: Path) -> None:
    """Write the readings of one benchmark to its folder; nothing where nothing was read."""
    if not any(one.at for one in readings):
        return
    with (folder / POWER_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_rows(readings))


def _rows(readings: Sequence[PowerReadings]) -> Iterator[tuple[str, str, str, str, str, str, str]]:
    # The sampler's clock counts from anywhere: what it says now belongs to what the calendar says now.
    now, now_s = datetime.now(UTC), time.perf_counter()
    start_s = min(chain.from_iterable(one.at[:1] for one in readings))
    for one in readings:
        channel = one.channel
        for at_s, value in zip(one.at, one.values, strict=True):
            moment = now - timedelta(seconds=now_s - at_s)
            since_start = f"{at_s - start_s:.6f}"
            yield (
                moment.isoformat(), since_start, one.source, channel.name, channel.part, channel.unit, f"{value:.6f}"
            )  # fmt: skip
