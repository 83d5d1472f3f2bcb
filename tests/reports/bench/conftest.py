"""A browser for the tests that need one; they are skipped only where no Chromium is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.reports.bench.bench_reports import fleet_report
from tests.reports.bench.chromium import find_chromium, start_chromium

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.reports.bench.chromium import Browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A running Chromium."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("no chromium on this machine")
    async with start_chromium(executable) as running:
        yield running


@pytest.fixture(scope="session")
def fleet_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of five models."""
    from lmstrix.reports.bench.html import write_pages

    return write_pages(fleet_report(), tmp_path_factory.mktemp("fleet"))
