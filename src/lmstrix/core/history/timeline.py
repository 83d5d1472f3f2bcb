"""What led to a model's result, in the order it happened: attempts and probes of the journal as one list. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from lmstrix.core.history.journal import Intent, Probe, Proves

_NEVER_ENDED, _UNDER_WAY = "never ended", "under way"
_FOUND_DEAD = ("process_died", "machine_down")  # the outcomes that Journal.settle_unfinished writes


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent:
    """One load, one filling of a context (prefill), or one prompt sent to fill it (probe).

    `at` is when it began, for a probe when it was answered. `tokens` are those of the context for the first two and of
    the prompt for a probe, by the server's count where it gave one. `outcome` says in words how it ended; `proves`
    what that says about the size, as the journal has it.
    """

    kind: Literal["load", "prefill", "probe"]
    at: datetime | None
    elapsed_s: float | None
    configuration: str
    tokens: int
    predicted_bytes: int | None
    score_ratio: float | None
    outcome: str
    proves: Proves | None
    detail: str
    details: Mapping[str, Any] = field(default_factory=dict)


def timeline(
    attempts: Sequence[Intent], probes: Iterable[Probe], *, dead: Collection[int], newest_run_only: bool
) -> list[HistoryEvent]:
    """The events in order. `dead` are the attempts whose process is gone; both lists are oldest first."""
    shown = list(attempts)
    if newest_run_only and attempts:
        shown = [attempt for attempt in attempts if attempt.run_id == attempts[-1].run_id]
        # A probe names no run; those of the newest run are those since it began.
        probes = [probe for probe in probes if probe.measured_at and probe.measured_at >= shown[0].started_at]
    events = [_attempted(attempt, dead=attempt.intent_id in dead) for attempt in shown] + [_probed(p) for p in probes]
    # What has no moment was written by an early version, so it is oldest.
    return sorted(events, key=lambda event: event.at.timestamp() if event.at else 0.0)


def _attempted(attempt: Intent, *, dead: bool) -> HistoryEvent:
    # Where the tester died, the moment on record is that of the next test, which found it dead.
    ended_at = attempt.finished_at if attempt.outcome not in _FOUND_DEAD else None
    return HistoryEvent(
        kind=attempt.kind,
        at=attempt.started_at,
        elapsed_s=(ended_at - attempt.started_at).total_seconds() if ended_at else None,
        configuration=attempt.configuration,
        tokens=attempt.context_length,
        predicted_bytes=attempt.predicted_bytes,
        score_ratio=None,
        outcome=(attempt.outcome or (_NEVER_ENDED if dead else _UNDER_WAY)).replace("_", " "),
        proves=attempt.proves,
        detail=str(attempt.details.get("detail") or ""),
        details=attempt.details,
    )


def _probed(probe: Probe) -> HistoryEvent:
    return HistoryEvent(
        kind="probe",
        at=probe.measured_at,
        elapsed_s=None,
        configuration=probe.configuration,
        tokens=probe.prompt_tokens or probe.context_length,
        predicted_bytes=None,
        score_ratio=probe.score_ratio,
        outcome=str(probe.details.get("outcome") or ("ok" if probe.passed else "failed")),
        proves=None,
        detail=str(probe.details.get("reason") or ""),
        details=probe.details,
    )
