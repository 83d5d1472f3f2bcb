"""Plain aligned tables that fit the terminal: fast for 10,000 rows, safe for hostile names, readable in ASCII.

Rich draws what moves (progress, chat); tables are drawn here because a Rich table of 10,000 rows takes seconds and its
import alone takes a third of the whole budget of `list`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Terminal escapes, and the marks that turn writing round: either can make a name look like another.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column. Numbers align right. A column with `shrink` gives way first; `keep` is the width it keeps.

    A name that is too long loses its middle, since the ends tell models apart; a text of `prose` loses its end; one to
    be read whole, with `fold`, goes on in the lines below.

    Where that is not enough, whole columns go, those with the highest `drop` first: half a number is worse than none.
    """

    title: str
    right: bool = False
    shrink: bool = False
    keep: int = 8
    prose: bool = False
    fold: bool = False
    drop: int = 0


def clean(text: str) -> str:
    """Text without control characters (terminal escapes, line breaks, bidirectional overrides), shown as "?"."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub("?", text)


def harmless(text: str) -> str:
    """Text for a terminal: line breaks and tabs stay, other control characters become "?"."""
    if text.isprintable():
        return text
    return "".join(char if char in "\n\t" or char.isprintable() else clean(char) for char in text)


def width_of(text: str) -> int:
    """Terminal cells the text takes: wide East Asian characters take two, combining marks none."""
    # Nearly all cells are ASCII; the tables of Unicode are imported only for the others.
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def shorten(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in at most `width` cells; its middle gives way, since the ends tell models apart."""
    if width_of(text) <= width:
        return text
    if width <= len(ellipsis):
        return _cut(text, width)
    head = (width - len(ellipsis) + 1) // 2
    tail = width - len(ellipsis) - head
    return _cut(text, head) + ellipsis + _cut(text[::-1], tail)[::-1]


def _begun(text: str, width: int, ellipsis: str) -> str:
    """The text in at most `width` cells, of which the end gives way."""
    return text if width_of(text) <= width else _cut(text, max(width - len(ellipsis), 0)).rstrip() + ellipsis[:width]


def _cut(text: str, width: int) -> str:
    taken: list[str] = []
    room = width
    for char in text:
        room -= width_of(char)
        if room < 0:
            break
        taken.append(char)
    return "".join(taken)


def render(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    max_width: int | None = None,
    header: bool = True,
    ellipsis: str = "…",
    bold: bool = False,
) -> str:
    """The table as text with a final newline; nothing for no rows and no header. `max_width` None is unlimited."""
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [
        max([width_of(row[i]) for row in cells] + ([len(column.title)] if header else [0]))
        for i, column in enumerate(columns)
    ]
    if max_width is not None:
        kept = _kept(columns, widths, max_width)
        columns, widths = [columns[i] for i in kept], [widths[i] for i in kept]
        cells = [[row[i] for i in kept] for row in cells]
        _fit(columns, widths, max_width)
    lines = []
    if header:
        titles = _line([c.title for c in columns], columns, widths, ellipsis)
        lines.append(f"\x1b[1m{titles}\x1b[0m" if bold else titles)
    lines += [_line(part, columns, widths, ellipsis) for row in cells for part in _parts(row, columns, widths)]
    return "".join(line + "\n" for line in lines)


def _kept(columns: Sequence[Column], widths: Sequence[int], max_width: int) -> list[int]:
    """The columns there is room for."""
    least = [min(width, column.keep) if column.shrink else width for column, width in zip(columns, widths, strict=True)]
    kept = list(range(len(columns)))
    # One at a time: a column goes only while the others, at their narrowest, still do not fit.
    for index in sorted((i for i in kept if columns[i].drop), key=lambda i: -columns[i].drop):
        if sum(least[i] for i in kept) + len(GAP) * (len(kept) - 1) > max_width:
            kept.remove(index)
    return kept


def _fit(columns: Sequence[Column], widths: list[int], max_width: int) -> None:
    """Shrink widths in place until they fit: shrinkable columns down to `keep`, then any column, widest first."""

    def excess() -> int:
        return sum(widths) + len(GAP) * (len(widths) - 1) - max_width

    for index in sorted((i for i, c in enumerate(columns) if c.shrink), key=lambda i: -widths[i]):
        if excess() > 0:
            widths[index] = max(columns[index].keep, widths[index] - excess())
    # Last resort, on a terminal too narrow for the columns that must stay: all give way, the widest first.
    while excess() > 0 and max(widths) > 3:
        widest = max(range(len(widths)), key=lambda i: widths[i])
        widths[widest] -= 1


def _parts(row: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> Iterator[Sequence[str]]:
    """The row, or the lines it takes where cells are folded."""
    if not any(c.fold and width_of(cell) > width for cell, c, width in zip(row, columns, widths, strict=True)):
        yield row
        return
    folded = [_folded(cell, w) if c.fold else [cell] for cell, c, w in zip(row, columns, widths, strict=True)]
    yield from zip_longest(*folded, fillvalue="")


def _folded(text: str, width: int) -> list[str]:
    """The text in pieces of at most so many cells, broken between words, and within one that is longer."""
    lines = [""]
    for word in text.split():
        rest = word
        if lines[-1] and width_of(lines[-1]) + 1 + width_of(rest) <= width:
            lines[-1] += f" {rest}"
            continue
        if lines[-1]:
            lines.append("")
        while width_of(rest) > width:
            piece = _cut(rest, width) or rest[:1]  # a wide character alone may be wider
            lines[-1:] = [piece, ""]
            rest = rest[len(piece) :]
        lines[-1] = rest
    return lines


def _line(row: Sequence[str], columns: Sequence[Column], widths: Sequence[int], ellipsis: str) -> str:
    parts = []
    for cell, column, width in zip(row, columns, widths, strict=True):
        shown = _begun(cell, width, ellipsis) if column.prose else shorten(cell, width, ellipsis)
        pad = " " * (width - width_of(shown))
        parts.append(pad + shown if column.right else shown + pad)
    return GAP.join(parts).rstrip()
