"""What a failed attempt depended on, and whether it still stands: under other conditions the size is tried again. Pure.

A failure is remembered to spare its repetition where the outcome is certain, near the edge of a memory that is seen.
Where the free memory was not known, or was plenty, it says nothing of a later attempt: what ran out was not what was
read (another card, a container, a limit of the process), and whether it has come back cannot be read either. The next
test then meets it anew, at the price of a failing load.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Of the machine a model runs on, before an attempt; None where not known.

    `boot_id` is `machine.boot_id` of that machine; `guardrail` the mode of the server's own limit.
    """

    free_bytes: int | None = None
    engine_version: str | None = None
    guardrail: str | None = None
    boot_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembering:
    """Tuned constants."""

    more_ratio: float = 0.1
    """Of the predicted load. Less would often be the error of the reading (1.5 %) and of the prediction."""

    more_bytes: int = 256 * 2**20
    """What other programs take and free within minutes on an idle desktop."""

    plenty_ratio: float = 1.25
    """Of the predicted load: over the errors of formulas seen (up to 10 %) and what a prefill takes beside (10 %)."""

    plenty_bytes: int = 2**30
    """What runtime and driver take beside the model: 0.1 to 1 GiB."""


REMEMBERING = _Remembering()
UNKNOWN = Conditions()


def still_stands(then: Conditions, now: Conditions, predicted_bytes: int | None) -> bool:
    """Whether a failure of so large a load, in the conditions of then, would come again now."""
    if then.free_bytes is None or now.free_bytes is None or _was_plenty(then.free_bytes, predicted_bytes):
        return False
    if _differ(then.boot_id, now.boot_id):
        return False
    return not have_changed(then, now, predicted_bytes)


def have_changed(then: Conditions, now: Conditions, predicted_bytes: int | None) -> bool:
    """Whether there is clearly more memory, another engine or another guardrail. Another boot alone does not count."""
    if _differ(then.engine_version, now.engine_version) or _differ(then.guardrail, now.guardrail):
        return True
    if then.free_bytes is None or now.free_bytes is None:
        return False
    load_bytes = then.free_bytes if predicted_bytes is None else predicted_bytes
    # Beside a tiny model little is much: so much more as it takes in all is more, whatever programs do.
    clearly = max(REMEMBERING.more_ratio * load_bytes, min(REMEMBERING.more_bytes, load_bytes))
    return now.free_bytes - then.free_bytes > clearly


def _was_plenty(free_bytes: int, predicted_bytes: int | None) -> bool:
    if predicted_bytes is None:
        return False
    return free_bytes > REMEMBERING.plenty_ratio * predicted_bytes + REMEMBERING.plenty_bytes


def _differ(then: str | None, now: str | None) -> bool:
    return then is not None and now is not None and then != now
