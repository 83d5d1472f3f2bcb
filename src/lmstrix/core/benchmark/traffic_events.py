"""The events of a running test of traffic, for progress displays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lmstrix.core.benchmark.traffic_records import TrafficStage


EventKind = Literal["load", "warmup", "sending", "waiting", "stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficEvent:
    """One thing that happened to a model. `number` counts models from 1 up to `models`.

    "load" and "sending" carry how far it is, "sending" and "waiting" also the requests sent and open so far, "stage"
    the finished stage.
    """

    kind: EventKind
    model_key: str
    number: int
    models: int
    ratio: float | None = None
    rate_per_s: float | None = None
    sent: int = 0
    open: int = 0
    stage: TrafficStage | None = None
