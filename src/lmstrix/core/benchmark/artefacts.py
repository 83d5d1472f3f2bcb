"""What a model wrote for the html task, and names for its files. Pure.

What a model writes is hostile until proven otherwise. File names are made of a few safe characters and a digest; how a
page is shown without harm is the report's work.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.core.benchmark.records import Cell

_PAGE_START = re.compile(r"<!doctype\s+html|<html[\s>]", re.IGNORECASE)
_PAGE_END = re.compile(r"</html\s*>", re.IGNORECASE)
_FENCES = ("```", "~~~")
_CLOSING_TAG = re.compile(r"</[a-zA-Z]")
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_STEM_CHARS = 60


def page_of(answer: str) -> str | None:
    """The HTML page in a model's answer, without thoughts, fences or talk around it; None when there is none."""
    text = _THOUGHTS.sub("", answer)
    # Thoughts are gone by now: a model that plans a page there would else be judged by its draft.
    begin = _PAGE_START.search(text)
    if begin is None:
        fenced = [block for block in _fenced(text) if _CLOSING_TAG.search(block)]
        return max(fenced, key=len).strip() if fenced else None
    text = text[begin.start() :]
    ends = list(_PAGE_END.finditer(text))
    if ends:  # the last one: a script within the page may hold the same words
        return text[: ends[-1].end()]
    # Cut off before its end: browsers show such a page too, but not the fence that may follow it.
    page, _, last_line = text.rstrip().rpartition("\n")
    return page if last_line.lstrip().startswith(_FENCES) else text.rstrip()


def _fenced(text: str) -> list[str]:
    """What stands between fences; the last one may be open. Line by line: a pattern would never end on some."""
    blocks: list[list[str]] = []
    fence: str | None = None
    for line in text.splitlines():
        start = line.lstrip()[:3]
        if fence is None and start in _FENCES:
            fence = start
            blocks.append([])
        elif start == fence:
            fence = None
        elif fence is not None:
            blocks[-1].append(line)
    return ["\n".join(block) for block in blocks]


def safe_stem(cell: Cell) -> str:
    """A file name for a cell, without ending: harmless on every system, and no two cells share one."""
    digest = hashlib.sha256(cell.name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    words = _UNSAFE.sub("-", cell.name).strip("-.")[:_STEM_CHARS]
    return f"{words or 'model'}-{digest}"
