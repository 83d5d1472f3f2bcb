"""Places for the names of marks in a chart, so that no name covers another, a mark, or the frame. Pure.

A name stands beside its mark if it can; else it moves up or down, and a thin line leads back. Lines that cross a name
are avoided while there is room. A name without any free place is left out: a legend and tooltips still have it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ASCENT, _DESCENT = 12.5, 4.0  # of the chart's 13 px letters, accents included
_MARK = 8.0  # half the width of the widest mark, its edge included
_GAP = 11.0
_STEP = 3.0
_WIDE, _NARROW, _LETTER = "mwMW@%—", "fijlrtI.,:;|'!()[] -1", 8.2  # px at 13 px in the widest of the fonts in use


class Box(NamedTuple):
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Where a name is written. `leader` is where the line back to its mark begins, None where it stands beside it."""

    x: float
    baseline: float
    anchor: Literal["start", "end"]
    leader: tuple[float, float] | None = None


def text_width(text: str) -> float:
    """About how wide a text is, in px of the chart; rather too much than too little."""
    widths = (
        0.0
        if unicodedata.combining(letter)
        else 14.0
        if unicodedata.east_asian_width(letter) in "WF"
        else 12.5
        if letter in _WIDE
        else 5.6
        if letter in _NARROW
        else 9.4
        if letter.isupper()
        else _LETTER
        for letter in text
    )
    return sum(widths)


def place_labels(
    marks: Sequence[tuple[float, float, str]],
    frame: Box,
    *,
    around: Sequence[tuple[float, float]] = (),
    line: Sequence[tuple[float, float]] = (),
) -> list[Label | None]:
    """A place for each named mark, in their order; `around` are marks without a name, `line` the corners of a line."""
    taken = [_mark_box(x, y) for x, y, _ in marks] + [_mark_box(x, y) for x, y in around]
    crossed = [part for begin, end in pairwise(line) for part in _pieces(begin, end)]
    placed: list[Label | None] = [None] * len(marks)
    # From the top down, so that names which give way move away from those already placed.
    for index in sorted(range(len(marks)), key=lambda i: marks[i][1]):
        x, y, name = marks[index]
        free = [
            (label, box)
            for label, box in _candidates(x, y, text_width(name), frame)
            if not any(box.meets(other) for other in taken)
        ]
        if not free:
            continue
        # A line through a name is better than a name far from its mark, but only just.
        clear = [one for one in free if not any(one[1].meets(part) for part in crossed)]
        label, box = clear[0] if clear and abs(clear[0][0].baseline - y) <= 10 * _STEP else free[0]
        taken.append(box)
        placed[index] = label
    return placed


def _candidates(x: float, y: float, width: float, frame: Box) -> Iterator[tuple[Label, Box]]:
    """Places within the frame, the nearest first, right of the mark before left of it."""
    middle = y + 4.0
    steps = int((frame.bottom - frame.top) / _STEP) + 1
    for shift in sorted((sign * step * _STEP for step in range(steps) for sign in (1, -1)), key=abs):
        for right in (True, False):
            start = x + _GAP if right else x - _GAP - width
            baseline = middle + shift
            box = Box(start, baseline - _ASCENT, start + width, baseline + _DESCENT)
            if box.left < frame.left or box.right > frame.right or box.top < frame.top or box.bottom > frame.bottom:
                continue
            edge = start if right else start + width
            leader = (edge, baseline - 4.0) if abs(shift) > _ASCENT else None
            yield Label(x=edge, baseline=baseline, anchor="start" if right else "end", leader=leader), box


def _mark_box(x: float, y: float) -> Box:
    return Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK)


def _pieces(begin: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """A line as small boxes along it."""
    count = max(1, int(max(abs(end[0] - begin[0]), abs(end[1] - begin[1])) / 4))
    places = [
        (begin[0] + (end[0] - begin[0]) * i / count, begin[1] + (end[1] - begin[1]) * i / count)
        for i in range(count + 1)
    ]
    return [Box(x - 1, y - 1, x + 1, y + 1) for x, y in places]
