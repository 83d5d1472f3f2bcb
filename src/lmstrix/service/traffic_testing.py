"""`bench --rate` and `bench --sweep`: traffic to models on one server, into a report in a folder of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lmstrix.core.benchmark.traffic import TrafficTest, check
from lmstrix.ground.addresses import host_of
from lmstrix.ground.awake import keep_awake
from lmstrix.ground.ranges import check_numbers
from lmstrix.reports.traffic.files import write_traffic
from lmstrix.service.bench_reports import new_folder, ready_folder
from lmstrix.service.benching import find_server, loads_of
from lmstrix.service.making_room import room_to_measure
from lmstrix.service.measured_runs import failures, or_so_far, with_time_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from lmstrix.core.benchmark.traffic_events import TrafficEvent
    from lmstrix.core.benchmark.traffic_records import TrafficReport, TrafficRequest
    from lmstrix.service.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficTestOptions:
    """What `lmstrix bench` can be told of traffic. No `models` means all; `out` is the report's folder, made up when
    None.
    """

    models: tuple[str, ...]
    request: TrafficRequest
    out: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficOutcome:
    """A finished (or interrupted) test of traffic and its page."""

    report: TrafficReport
    index: Path

    @property
    def failed(self) -> tuple[str, ...]:
        """What failed, a line per model."""
        return failures(self.report.results)


class TrafficTesting:
    """One test of traffic. `run` makes it; after an interrupt `so_far` reports what was measured until then."""

    def __init__(
        self,
        workspace: Workspace,
        options: TrafficTestOptions,
        *,
        on_event: Callable[[TrafficEvent], None] | None = None,
    ) -> None:
        check_numbers(options.request)
        check(options.request)
        self._workspace = workspace
        self._options = options
        self._on_event = on_event
        self._test: TrafficTest | None = None

    async def run(self) -> TrafficOutcome:
        """Measure, and write the report. Raises what keeps it from beginning."""
        workspace = self._workspace
        async with AsyncExitStack() as stack:
            history = stack.enter_context(workspace.open_history())
            # Two measurements at once would measure each other.
            stack.enter_context(history.journal.tester_lock("lmstrix bench"))
            stack.enter_context(keep_awake())
            server, targets, backend = await find_server(
                workspace, self._options.models, stack, loads=loads_of(self._options.request.bench)
            )
            if self._options.out is not None:
                ready_folder(self._options.out)
            test = self._test = TrafficTest(
                server, targets, self._request(), host=host_of(server.address), on_event=self._on_event
            )
            async with room_to_measure(workspace, backend, test.instance_prefix):
                report = await test.run()
        return self._written(report)

    def measure(self, run: Callable[[Coroutine[Any, Any, TrafficOutcome]], TrafficOutcome]) -> TrafficOutcome:
        """For blocking callers, whose portal's `run` this takes: an interrupt ends in a report, if there is one."""
        return or_so_far(run, self.run(), self.so_far)

    def so_far(self) -> TrafficOutcome | None:
        """After an interrupt: what was measured, in a report; None when nothing had begun."""
        return self._written(self._test.report()) if self._test is not None else None

    def _request(self) -> TrafficRequest:
        """What was asked for, with the limit of one answer that holds for every command."""
        request = self._options.request
        return replace(request, bench=with_time_limit(request.bench, self._workspace.settings))

    def _written(self, report: TrafficReport) -> TrafficOutcome:
        folder = self._options.out or new_folder(self._workspace, report.started_at)
        return TrafficOutcome(report=report, index=write_traffic(report, folder))
