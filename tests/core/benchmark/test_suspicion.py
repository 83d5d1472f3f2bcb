"""Each way a measurement can lie is marked, and honest ones are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lmstrix.core.benchmark.records import BenchTarget, Cell, RequestFigures
from lmstrix.core.benchmark.suspicion import marks_of

GIB = 2**30
CELL = Cell(
    target=BenchTarget(model_key="m", path="p", bytes_per_token=4 * GIB),
    tier_tokens=4096,
    concurrency=1,
    max_tokens=100,
    prompt_tokens=3900,
)
HONEST = RequestFigures(
    requested_tokens=100,
    prompt_tokens=3890,
    cached_tokens=3,
    completion_tokens=100,
    chunks=98,
    decode_tokens_per_second=20.0,
)


def kinds(figures: RequestFigures, cell: Cell = CELL) -> list[str]:
    return [mark.kind for mark in marks_of(figures, cell, bandwidth_bytes_per_s=100e9)]


def test_an_honest_measurement_has_no_mark() -> None:
    assert kinds(HONEST) == []


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"chunks": 1}, "one piece"),
        ({"cached_tokens": 400}, "cache hit"),
        ({"completion_tokens": 60}, "length mismatch"),
        ({"completion_tokens": 130}, "length mismatch"),
        ({"completion_tokens": None}, "not counted"),
        ({"prompt_tokens": 2048}, "prompt mismatch"),
        ({"decode_tokens_per_second": 30.0}, "above bandwidth"),
    ],
)
def test_each_doubt_has_its_mark(changes: dict[str, float | None], kind: str) -> None:
    assert kinds(replace(HONEST, **changes)) == [kind]  # type: ignore[arg-type]


def test_what_cannot_be_judged_is_not_marked() -> None:
    unknown = replace(CELL, target=replace(CELL.target, bytes_per_token=None), prompt_tokens=None)
    fast = replace(HONEST, decode_tokens_per_second=1e6, cached_tokens=None)
    assert kinds(fast, unknown) == []
    small = replace(CELL, target=replace(CELL.target, bytes_per_token=2**20))
    assert kinds(fast, small) == []


def test_a_failure_speaks_for_itself() -> None:
    assert kinds(replace(HONEST, chunks=1, completion_tokens=None, failure="it died")) == []
