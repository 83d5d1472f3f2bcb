"""The files of a benchmark: one JSON object a cell, and beside it the page that a model wrote for the html task.

What a model writes is hostile until proven otherwise. File names are made of a few safe characters and a digest. A
page starts with a content security policy that allows no network, and its name ends in ".html" only because it is meant
to be looked at; the report shows it inside a sandbox.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.records import SCHEMA, to_json

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.benchmark.records import BenchReport, Cell, CellResult

PAGE_POLICY = (
    '<!doctype html><meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "script-src 'unsafe-inline'\">"
)
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
    begin = _PAGE_START.search(text)
    if begin is None:
        fenced = [block for block in _fenced(text) if _CLOSING_TAG.search(block)]
        return max(fenced, key=len).strip() if fenced else None
    text = text[begin.start() :]
    ends = list(_PAGE_END.finditer(text))
    if ends:
        return text[: ends[-1].end()]
    page, _, last_line = text.rstrip().rpartition("\n")
    return page if last_line.lstrip().startswith(_FENCES) else text.rstrip()


def _fenced(text: str) -> list[str]:
    """What stands between fences; the last one may be open. Line by line: a pattern would take for ever on some."""
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


def save_cell(folder: Path, result: CellResult, *, task: str) -> list[Path]:
    """Write a cell's JSON, and its page if the task was to write one. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = safe_stem(result.cell)
    record = folder / f"{stem}.json"
    record.write_text(json.dumps({"schema": SCHEMA, **to_json(result)}, indent=1), encoding="ascii")
    page = _page_of_cell(result) if task == "html" else None
    if page is None:
        return [record]
    html = folder / f"{stem}.html"
    html.write_text(PAGE_POLICY + "\n" + page, encoding="utf-8", errors="replace")
    return [record, html]


def save_report(folder: Path, report: BenchReport) -> list[Path]:
    """Write report.json and the files of every cell that was measured. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "report.json"
    whole.write_text(json.dumps(report.to_json()), encoding="ascii")
    cells = [result for result in report.cells if result.runs or result.warmups]
    return [whole, *(file for result in cells for file in save_cell(folder, result, task=report.request.task))]


def _page_of_cell(result: CellResult) -> str | None:
    """The first page any run wrote."""
    answers = (request.answer for run in (*result.runs, *result.warmups) for request in run.requests)
    return next((page for answer in answers if (page := page_of(answer)) is not None), None)
