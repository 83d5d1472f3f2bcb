"""`bench --targets`: several servers side by side, the models of each in turn, in one report.

Each server has a workspace of its own, with its own token: the token of the settings belongs to the settings' server
and is sent to no other.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lmstrix.core.benchmark import plan
from lmstrix.core.benchmark.benched_servers import BenchedServer
from lmstrix.core.benchmark.runner import Bench
from lmstrix.core.benchmark.session_names import new_session
from lmstrix.core.benchmark.several_servers import one_report
from lmstrix.ground.addresses import host_of
from lmstrix.ground.awake import keep_awake
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.ranges import check_numbers
from lmstrix.loaders.bench_targets import load_targets
from lmstrix.reports.bench.files import write_report
from lmstrix.service.bench_reports import new_folder
from lmstrix.service.benching import BenchOutcome, find_server, loads_of
from lmstrix.service.making_room import room_to_measure
from lmstrix.service.measured_runs import or_so_far, with_time_limit
from lmstrix.service.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.benchmark.records import BenchRequest
    from lmstrix.core.history import History
    from lmstrix.loaders.bench_targets import TargetServer


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchTargetsOptions:
    """What `bench --targets` can be told; `out` is the report's folder, made up when None."""

    file: Path
    request: BenchRequest
    out: Path | None = None


class TargetsBenching:
    """One benchmark of several servers. After an interrupt `so_far` reports what was measured until then."""

    def __init__(
        self,
        workspace: Workspace,
        options: BenchTargetsOptions,
        *,
        on_event: Callable[[str, BenchEvent], None] | None = None,
    ) -> None:
        check_numbers(options.request)
        self._targets = load_targets(options.file)
        self._tokens = {target.name: _token(target, options.file) for target in self._targets}
        self._workspace = workspace
        self._options = options
        self._on_event = on_event or (lambda _name, _event: None)
        self._session = new_session()
        self._benches: list[tuple[BenchedServer, Bench]] = []

    async def run(self) -> BenchOutcome:
        """Measure all, and write the report. Raises what keeps any of them from beginning."""
        async with AsyncExitStack() as stack:
            history = stack.enter_context(self._workspace.open_history())
            # Two benchmarks at once would measure each other.
            stack.enter_context(history.journal.tester_lock("lmstrix bench"))
            stack.enter_context(keep_awake())
            benches = [await self._open(target, history, stack) for target in self._targets]
            self._warn_of_sharing([server for server, _ in benches])
            self._benches = benches
            try:
                async with asyncio.TaskGroup() as group:
                    for _, bench in benches:
                        group.create_task(bench.run())
            except BaseExceptionGroup as failures:
                # One broke off, and took the others with it; the first says why.
                raise failures.exceptions[0] from None
        return self._written()

    def measure(self, run: Callable[[Coroutine[Any, Any, BenchOutcome]], BenchOutcome]) -> BenchOutcome:
        """For blocking callers, whose portal's `run` this takes: an interrupt ends in a report, if there is one."""
        return or_so_far(run, self.run(), self.so_far)

    def so_far(self) -> BenchOutcome | None:
        """After an interrupt: what was measured, in a report; None when nothing had begun."""
        return self._written() if self._benches else None

    async def _open(self, target: TargetServer, history: History, stack: AsyncExitStack) -> tuple[BenchedServer, Bench]:
        """A server, connected, with what is to be measured there."""
        from lmstrix.api.round_trip import round_trip_s

        notify = self._workspace.notify
        settings = replace(self._workspace.settings, server=target.address, api_token=self._tokens[target.name])
        own = Workspace(
            paths=self._workspace.paths, settings=settings, notify=lambda line: notify(f"{target.name}: {line}")
        )
        stack.push_async_callback(own.close)
        try:
            server, models, backend = await find_server(
                own, target.models, stack, loads=loads_of(self._options.request), leave_out=target.leave_out
            )
        except LMStrixError as exc:
            raise LMStrixError(f"{target.name}: {exc}") from exc
        # Before anything is measured: a busy server's kernel answers late too.
        benched = BenchedServer(
            name=target.name,
            address=server.address,
            engine=server.engine,
            version=server.version,
            round_trip_s=await round_trip_s(server.address),
            left_out=target.leave_out,
        )
        named = [replace(model, server=target.name) for model in models]
        request = with_time_limit(self._options.request, own.settings)
        plan.plan_cells(named, request, loads=server.loads is not None)
        bench = Bench(
            server,
            named,
            request,
            history=history.benches,
            power_sources=(),  # what several servers draw at once cannot be told apart
            host=host_of(server.address),
            on_event=lambda event: self._on_event(target.name, event),
        )
        await stack.enter_async_context(room_to_measure(own, backend, bench.instance_prefix))
        return benched, bench

    def _warn_of_sharing(self, servers: list[BenchedServer]) -> None:
        machines: dict[str, list[str]] = {}
        for server in servers:
            machines.setdefault(host_of(server.address), []).append(server.name)
        for names in machines.values():
            if len(names) > 1:
                self._workspace.notify(f"{' and '.join(names)} are on one machine, and slow each other down")

    def _written(self) -> BenchOutcome:
        report = one_report(self._session, [(server, bench.report()) for server, bench in self._benches])
        folder = self._options.out or new_folder(self._workspace, report.started_at)
        return BenchOutcome(report=report, index=write_report(report, folder))


def _token(target: TargetServer, file: Path) -> str | None:
    if target.key_variable is None:
        return None
    token = os.environ.get(target.key_variable)
    if not token:
        raise UsageError(f"{file}: {target.name}: the environment has no {target.key_variable}; set it to the token")
    return token
