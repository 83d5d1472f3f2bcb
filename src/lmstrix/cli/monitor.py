# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""The command that watches a server."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.kinds import Seconds
from lmstrix.ground.errors import BackendUnavailableError
from lmstrix.ground.ranges import WATCH_INTERVAL

if TYPE_CHECKING:
    from lmstrix.service.monitoring import Monitoring


def monitor(cli: CommandLine, /, *, interval: Annotated[Seconds, WATCH_INTERVAL] = 1.0, once: bool = False) -> None:
    """Watch the server live: its models, queue, tokens per second, memory and power. Loads and unloads nothing.

    On a terminal the screen is drawn anew until q or Ctrl-C; through a pipe each look is some lines, with --json one
    line of JSON. A server that goes away is waited for.

    Args:
        interval: How long between two looks, such as 500ms or 5s.
        once: Look for one interval, show that, and end.
    """
    from lmstrix.reports.live_screen import can_draw

    monitoring = cli.service.monitor(interval)
    try:
        cli.run(monitoring.open())
        if once:
            _show_once(cli, monitoring, interval)
        elif can_draw() and not cli.console.json:
            _draw(cli, monitoring, interval)
        else:
            _print(cli, monitoring, interval)
    finally:
        cli.run(monitoring.close())


def _show_once(cli: CommandLine, monitoring: Monitoring, interval_s: float) -> None:
    from lmstrix.reports.monitor import show_snapshot

    # Speeds are differences, so the first look only begins what the second one tells.
    cli.run(monitoring.read())
    time.sleep(interval_s)
    snapshot = cli.run(monitoring.read())
    if snapshot.problem is not None:
        raise BackendUnavailableError(f"{snapshot.server}: {snapshot.problem}")
    show_snapshot(cli.console, snapshot)


def _draw(cli: CommandLine, monitoring: Monitoring, interval_s: float) -> None:
    from lmstrix.reports.live_screen import LiveScreen
    from lmstrix.reports.monitor import snapshot_lines

    with LiveScreen(color=cli.console.color) as screen:
        while True:
            snapshot = cli.run(monitoring.read())
            if screen.show(partial(snapshot_lines, snapshot), for_s=interval_s):
                return


def _print(cli: CommandLine, monitoring: Monitoring, interval_s: float) -> None:
    from lmstrix.reports.monitor import show_snapshot

    while True:
        began = time.monotonic()
        show_snapshot(cli.console, cli.run(monitoring.read()))
        if not cli.console.json:
            cli.console.text("\n")
        time.sleep(max(0.0, interval_s - (time.monotonic() - began)))
