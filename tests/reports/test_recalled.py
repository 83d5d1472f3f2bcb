"""Up to where a model recalls, in one cell."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lmstrix.core.registry.results import Configuration, ContextResult, RecallPoint
from lmstrix.reports.folding import at_words
from lmstrix.reports.recalled import recalled_text
from lmstrix.reports.tests import recall_chart


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


def test_a_narrow_terminal_breaks_no_label_of_the_recall_chart() -> None:
    chart = recall_chart([RecallPoint(length, 1.0) for length in (1024, 2048, 4096, 8192)])
    for columns in range(30, 60):
        assert all(line.count(":") == line.count("%") for line in at_words(chart, columns))
