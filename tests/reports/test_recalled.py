"""Up to where a model recalls, in one cell."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.reports.recalled import recalled_text


@pytest.mark.parametrize(
    ("recalled", "ends", "text"),
    [
        (None, None, "-"),
        (16384, None, "16,384"),
        (1216, (1216, 1408), "1,216-1,408"),
        (1216, (1216, 1216), "1,216"),
    ],
)
def test_a_range_is_shown_where_two_texts_ended_apart(
    recalled: int | None, ends: tuple[int, int] | None, text: str
) -> None:
    result = ContextResult(
        configuration=Configuration(),
        outcome="ok",
        tested_at=datetime(2026, 1, 2, tzinfo=UTC),
        loadable_context_length=16384,
        effective_context_length=recalled,
        effective_range=ends,
    )
    assert recalled_text(result) == text
