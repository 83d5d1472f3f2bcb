"""Benchmarks made before, in the Python API: found, compared, listed, and written in other formats.

A benchmark is named by its report, its report's folder or file, its session (or the beginning of it), or "last".
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, get_args

from lmstrix.core.benchmark.records import BenchReport
from lmstrix.ground.choices import ReportFormat
from lmstrix.ground.ranges import COUNT, check_number
from lmstrix.python.values import check_word, text

if TYPE_CHECKING:
    from lmstrix.api.portal import Portal
    from lmstrix.core.benchmark.compare import BenchComparison
    from lmstrix.core.history import BenchRun
    from lmstrix.service import LMStrixService

BenchName: TypeAlias = str | Path | BenchReport


class AsyncBenches:
    """The benchmarks made so far, for asyncio."""

    def __init__(self, service: LMStrixService) -> None:
        self._service = service

    async def history(self, model: str | None = None, *, last: int = 20) -> list[BenchRun]:
        """The benchmarks made here, newest first, one entry per cell."""
        check_number("last", last, COUNT)
        return await asyncio.to_thread(self._service.bench_history, model=model, last=last)

    async def find(self, name: BenchName = "last") -> BenchReport:
        """A report."""
        return name if isinstance(name, BenchReport) else await asyncio.to_thread(self._service.find_bench, _word(name))

    async def compare(self, first: BenchName, second: BenchName) -> BenchComparison:
        """What really differs between two benchmarks; its `regressions(0.05)` are the figures worse by over 5 %."""
        return await asyncio.to_thread(self._service.compare_benches, _word(first), _word(second))

    async def write(self, name: BenchName = "last", folder: str | Path | None = None) -> Path:
        """Write a report's page and files, into `folder` or where they were; returns the page."""
        place = Path(folder).expanduser() if folder is not None else None
        return await asyncio.to_thread(self._service.rewrite_bench, _word(name), place)

    async def text(self, name: BenchName = "last", format: ReportFormat = "md") -> str:  # noqa: A002 - the option's word
        """A report as one text: md, csv, json or junit. The page of format html is a folder: see `write`."""
        from lmstrix.reports.bench.formats import written

        check_word("format", format, [each for each in get_args(ReportFormat) if each != "html"])
        report = await self.find(name)
        return await asyncio.to_thread(written, report, format)


class Benches:
    """The benchmarks made so far."""

    def __init__(self, portal: Portal, benches: AsyncBenches) -> None:
        self._portal = portal
        self._benches = benches

    def history(self, model: str | None = None, *, last: int = 20) -> list[BenchRun]:
        """The benchmarks made here, newest first, one entry per cell."""
        return self._portal.run(self._benches.history(model, last=last))

    def find(self, name: BenchName = "last") -> BenchReport:
        """A report."""
        return self._portal.run(self._benches.find(name))

    def compare(self, first: BenchName, second: BenchName) -> BenchComparison:
        """What really differs between two benchmarks; its `regressions(0.05)` are the figures worse by over 5 %."""
        return self._portal.run(self._benches.compare(first, second))

    def write(self, name: BenchName = "last", folder: str | Path | None = None) -> Path:
        """Write a report's page and files, into `folder` or where they were; returns the page."""
        return self._portal.run(self._benches.write(name, folder))

    def text(self, name: BenchName = "last", format: ReportFormat = "md") -> str:  # noqa: A002 - the option's word
        """A report as one text: md, csv, json or junit. The page of format html is a folder: see `write`."""
        return self._portal.run(self._benches.text(name, format))


def _word(name: BenchName) -> str:
    if isinstance(name, BenchReport):
        return name.session
    return text("name", str(name) if isinstance(name, Path) else name)
