"""How tokens are drawn: the one list of it. What is asked for, what is sent and what the engine reads extend it.

A new field stands here and has its range in `ground/ranges.py`. Beside that it needs its key on the wire
(`api/convert.py`, `engine/protocol/prediction_config.py`), its keyword (`python/options.py`) and its help
(`cli/options.py`); a test names what is missing. Where an answer ends and how a model reasons do not belong here, as
they mean another thing at each of these places.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn; None leaves it to the server. `mirostat_tau` and `mirostat_eta` tune `mirostat` 1 or 2."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    seed: int | None = None


SAMPLING_FIELDS = tuple(each.name for each in fields(Sampling))


def sampling_of(record: Sampling) -> dict[str, Any]:
    """The fields of sampling of a record that has more, by name, for another such record."""
    return {name: getattr(record, name) for name in SAMPLING_FIELDS}
