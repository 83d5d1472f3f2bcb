"""The log of calls in the Python API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmstrix.ground.ranges import COUNT, check_number

if TYPE_CHECKING:
    from lmstrix.api.portal import Portal
    from lmstrix.core.history.calls import CallStatistics, LoggedCall
    from lmstrix.service import LMStrixService


class AsyncLogs:
    """The calls made so far, for asyncio."""

    def __init__(self, service: LMStrixService) -> None:
        self._service = service

    async def calls(self, search: str | None = None, *, model: str | None = None, last: int = 20) -> list[LoggedCall]:
        """The calls, newest first, or the best matches of all words of `search` first."""
        check_number("last", last, COUNT)
        return await asyncio.to_thread(self._service.logged_calls, search=search, model=model, last=last)

    async def statistics(self, model: str | None = None) -> list[CallStatistics]:
        """What the log says of each model: calls, failures, tokens, mean speed."""
        return await asyncio.to_thread(self._service.call_statistics, model=model)


class Logs:
    """The calls made so far."""

    def __init__(self, portal: Portal, logs: AsyncLogs) -> None:
        self._portal = portal
        self._logs = logs

    def calls(self, search: str | None = None, *, model: str | None = None, last: int = 20) -> list[LoggedCall]:
        """The calls, newest first, or the best matches of all words of `search` first."""
        return self._portal.run(self._logs.calls(search, model=model, last=last))

    def statistics(self, model: str | None = None) -> list[CallStatistics]:
        """What the log says of each model: calls, failures, tokens, mean speed."""
        return self._portal.run(self._logs.statistics(model))
