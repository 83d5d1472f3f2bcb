"""A cell to be read whole goes on below; all others keep to their line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmstrix.reports.table import Column, render, width_of

COLUMNS = (Column(title="WHAT"), Column(title="DETAIL", shrink=True, keep=10, fold=True), Column(title="END"))


def test_a_detail_goes_on_below_its_beginning() -> None:
    rows = [("load", "no memory for the cache of the context", "x"), ("fill", "ok", "y")]
    assert render(COLUMNS, rows, max_width=26).splitlines() == [
        "WHAT  DETAIL           END",
        "load  no memory for    x",
        "      the cache of",
        "      the context",
        "fill  ok               y",
    ]


def test_where_there_is_room_or_no_terminal_a_row_is_one_line() -> None:
    rows = [("load", "no memory for the cache of the context", "x")]
    assert len(render(COLUMNS, rows).splitlines()) == 2
    assert len(render(COLUMNS, rows, max_width=80).splitlines()) == 2


@given(st.text("ab漢/ ", max_size=80), st.integers(22, 60))
def test_nothing_of_a_folded_cell_is_lost_and_no_line_is_too_wide(detail: str, width: int) -> None:
    lines = render(COLUMNS, [("load", detail, "x")], max_width=width, header=False).splitlines()
    assert all(width_of(line) <= width for line in lines)
    shown = "".join(lines).removeprefix("load").replace("x", "", 1)
    assert shown.replace(" ", "") == detail.replace(" ", "")
