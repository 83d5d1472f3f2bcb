"""Every capability of the earlier LMStrix is in a test that exists, or in the migration page with its reason."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

from lmstrix.earlier.migration import ROWS
from tests.support.sources import parsed

TESTS = Path(__file__).parents[1]
CAPABILITIES = tomllib.loads((TESTS / "data" / "earlier_capabilities.toml").read_text(encoding="utf-8"))
ROW = "row: "
WHERE = [(f"{part}: {what}", where) for part, rows in CAPABILITIES.items() for what, where in rows.items()]
_BY_OLD = {row.old: row for row in ROWS}


@cache
def shown_in(file: str) -> set[str]:
    """The names of its test functions."""
    tree = parsed(TESTS / file)
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


@pytest.mark.parametrize(("what", "where"), WHERE, ids=[what for what, _ in WHERE])
def test_a_capability_is_shown_or_its_reason_is_given(what: str, where: str) -> None:
    if where.startswith(ROW):
        row = _BY_OLD[where.removeprefix(ROW)]
        assert row.note
        return
    file, _, name = where.partition("::")
    assert name in shown_in(file), where


def test_no_test_of_capabilities_is_about_nothing() -> None:
    named = {where for _, where in WHERE}
    files = sorted(file for file in TESTS.glob("earlier/test_capabilities_*.py"))
    told = {f"earlier/{file.name}::{name}" for file in files for name in shown_in(f"earlier/{file.name}")}
    assert told - named == set()


def test_every_reason_of_the_page_is_about_a_capability() -> None:
    named = {where.removeprefix(ROW) for _, where in WHERE if where.startswith(ROW)}
    assert {row.old for row in ROWS if row.kind == "behaviour"} <= named
