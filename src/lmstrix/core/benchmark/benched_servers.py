"""The servers of a benchmark that measures several at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchedServer:
    """One server. `round_trip_s` is the network's own round trip, None where it could not be measured; `left_out` are
    the parameters that requests to it did not carry.
    """

    name: str
    address: str
    engine: str
    version: str | None = None
    round_trip_s: float | None = None
    left_out: tuple[str, ...] = ()
