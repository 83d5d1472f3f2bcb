# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands about the embedded engine: run it, start it, stop it, look at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.options import ListenOptions
from lmstrix.ground.errors import EngineError
from lmstrix.ground.ranges import COUNT_OR_NONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.engine.options import EngineOptions
    from lmstrix.engine.state_file import EngineStatus
    from lmstrix.reports.machine import HeldRow


def run(cli: CommandLine, /, *, listen: ListenOptions) -> None:
    """Run the embedded engine in the foreground.

    Its log goes to standard error, or to --log-file; --debug logs all details. The token clients must send, if any,
    comes from --api-token-file or from LMSTRIX_ENGINE_TOKEN in the environment: arguments can be read by everyone.
    """
    from lmstrix.engine.daemon import run_engine

    # The address is shown while it runs: this call returns only when the engine has ended.
    run_engine(
        cli.paths.home,
        _engine_options(cli, listen),
        on_ready=lambda status: _show(cli, status),
        log_file=cli.log_file,
        debug=cli.common.debug,
    )


def start(cli: CommandLine, /, *, listen: ListenOptions) -> None:
    """Start the embedded engine in the background.

    Its log is shown by lmstrix engine logs; --debug logs all details. The token clients must send, if any, comes from
    --api-token-file or from LMSTRIX_ENGINE_TOKEN in the environment: arguments can be read by everyone.
    """
    from lmstrix.engine.daemon import start_engine

    _show(cli, start_engine(cli.paths.home, _engine_options(cli, listen), debug=cli.common.debug))


def stop(cli: CommandLine, /) -> None:
    """Stop the background engine and unload its models."""
    from lmstrix.engine.daemon import stop_engine
    from lmstrix.engine.state_file import engine_status

    # Asked before: afterwards nobody knows where the engine was.
    before = engine_status(cli.paths.home)
    after = stop_engine(cli.paths.home)
    if before.running and not after.running:
        cli.console.note(f"stopped the engine at {before.address}")
    _show(cli, after)


def status(cli: CommandLine, /) -> None:
    """Show whether the embedded engine runs, where, and what it holds."""
    from lmstrix.engine.held_models import held_models
    from lmstrix.engine.state_file import engine_status
    from lmstrix.reports.machine import HeldRow

    status = engine_status(cli.paths.home)
    held, silent = None, "the engine does not tell what it holds: set LMSTRIX_API_TOKEN if it asks for a token"
    try:
        held = held_models(status, api_token=cli.settings.api_token)
    except EngineError as exc:
        silent = f"{exc}: if that lasts, lmstrix engine stop ends it"
    rows = (
        None if held is None else [HeldRow(each.instance_id, each.context_length, each.context_source) for each in held]
    )
    _show(cli, status, rows)
    if status.running and rows is None:
        cli.console.note(silent)


def logs(cli: CommandLine, /, *, follow: bool = False, lines: Annotated[int, COUNT_OR_NONE] = 50) -> None:
    """Show the background engine's log.

    With --json each line is told by its time, level and text; with --follow as well, one JSON object per line.

    Args:
        follow: Go on showing new lines until interrupted.
        lines: How many of the last lines to show.
    """
    from lmstrix.engine.log_reading import engine_log_lines, parse_log_line
    from lmstrix.reports.machine import show_engine_log

    written = engine_log_lines(cli.paths.home, lines=lines, follow=follow)
    show_engine_log(cli.console, written, parse_log_line, follow=follow)


def _engine_options(cli: CommandLine, listen: ListenOptions) -> EngineOptions:
    from lmstrix.engine.options import EngineOptions
    from lmstrix.engine.token_source import engine_token
    from lmstrix.ground.headroom import parse_headroom

    # Absolute: the state file tells it to later commands, which may run in another folder.
    folder = listen.models_dir or cli.settings.models_dir
    return EngineOptions(
        models_dir=Path(folder).expanduser().absolute() if folder else cli.paths.models_dir,
        host=listen.host,
        port=listen.port,
        api_token=engine_token(Path(listen.api_token_file).expanduser() if listen.api_token_file else None),
        cors=listen.cors,
        memory_limit_bytes=listen.memory_limit,
        headroom=parse_headroom(cli.settings.headroom),
    )


def _show(cli: CommandLine, status: EngineStatus, models: Sequence[HeldRow] | None = None) -> None:
    from lmstrix.reports.machine import show_engine

    show_engine(
        cli.console,
        running=status.running,
        address=status.address,
        pid=status.pid,
        models_dir=status.models_dir,
        models=models,
    )
