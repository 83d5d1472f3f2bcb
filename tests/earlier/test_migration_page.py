"""The migration page: current, and without a row that is left out or said twice."""

from __future__ import annotations

from tools import write_migration_docs

from lmstrix.earlier.migration import ROWS


def test_the_migration_page_is_current() -> None:
    page = write_migration_docs.PAGE.read_text(encoding="utf-8")
    assert page == write_migration_docs.page(), "run: python -m tools.write_migration_docs"


def test_every_row_is_on_the_page_once() -> None:
    page = write_migration_docs.page()
    for row in ROWS:
        told = row.old if row.kind == "behaviour" else f"`{row.old}`"
        assert page.count(f"| {told} |") == 1, row.old


def test_a_row_without_an_equivalent_says_what_to_use() -> None:
    assert [row.old for row in ROWS if row.new is None and not row.note] == []
