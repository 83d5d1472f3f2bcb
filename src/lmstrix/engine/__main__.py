"""`python -m lmstrix.engine run|start|stop|status|logs`: the engine without the rest of the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.moving_in import move_in
from lmstrix.engine.daemon import run_engine, start_engine, stop_engine
from lmstrix.engine.log_reading import engine_log_lines
from lmstrix.engine.options import DEFAULT_JIT_TTL_S, EngineOptions
from lmstrix.engine.state_file import engine_status
from lmstrix.engine.token_source import TOKEN_VARIABLE, engine_token
from lmstrix.ground.context_lengths import SERVER_DEFAULT_CONTEXT_LENGTH
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.headroom import parse_headroom
from lmstrix.ground.paths import resolve_paths
from lmstrix.ground.stdio import is_closed_pipe, prepare_output
from lmstrix.ground.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.engine.state_file import EngineStatus

_INTERRUPTED = 130


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    prepare_output()
    arguments = _parser().parse_args(words)
    home = Path(arguments.home).expanduser().absolute() if arguments.home else resolve_paths().home
    move_in(home, _note)
    try:
        match arguments.command:
            case "run":
                log_file = Path(arguments.log_file).expanduser() if arguments.log_file else None
                run_engine(home, _options(arguments), on_ready=_show, log_file=log_file, debug=arguments.debug)
            case "start":
                _show(start_engine(home, _options(arguments), debug=arguments.debug))
            case "stop":
                _show(stop_engine(home))
            case "status":
                _show(engine_status(home))
            case "logs":
                for line in engine_log_lines(home, lines=arguments.lines, follow=arguments.follow):
                    sys.stdout.write(line)
                    sys.stdout.flush()
    # One line and a code: the parent of a background engine reads this line back from the log.
    except LMStrixError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return exc.exit_code
    # A reader such as `head` may close the pipe of `logs --follow`; that ends it like Ctrl-C, without a traceback.
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as exc:
        if not is_closed_pipe(exc):
            raise
        return _INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lmstrix.engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, summary in (("run", "run in the foreground"), ("start", "run in the background")):
        command = commands.add_parser(name, help=summary)
        command.add_argument("--models-dir", help="models, as publisher/repository/file.gguf")
        command.add_argument("--host", default="127.0.0.1", help="others than loopback need an API token")
        command.add_argument("--port", type=int, default=0, help="0 takes a free one")
        command.add_argument("--headroom", help="what stays free beside models, such as 2GiB or 10%%")
        command.add_argument("--memory-limit", help="what all models together may take, such as 8GiB")
        command.add_argument(
            "--default-context",
            type=int,
            default=SERVER_DEFAULT_CONTEXT_LENGTH,
            help="context of a load that names none",
        )
        command.add_argument(
            "--jit-ttl",
            type=float,
            default=DEFAULT_JIT_TTL_S,
            help="idle seconds until a REST-loaded model goes; 0: never",
        )
        command.add_argument("--cors", action="store_true", help="let web pages from elsewhere use the engine")
        command.add_argument(
            "--api-token-file", help=f"a file with the token (sk-lm-…) every client must send; else ${TOKEN_VARIABLE}"
        )
        command.add_argument("--debug", action="store_true", help="log all details")
    commands.choices["run"].add_argument("--log-file", help="write the log to this file (default: standard error)")
    commands.add_parser("stop", help="end the engine and its models")
    commands.add_parser("status", help="say whether it runs, and where")
    logs = commands.add_parser("logs", help="show the log of the background engine")
    logs.add_argument("--follow", action="store_true")
    logs.add_argument("--lines", type=int, default=50)
    for command in commands.choices.values():
        command.add_argument("--home", help="the home, whose engine it is (default: LMSTRIX_HOME)")
    return parser


def _options(arguments: argparse.Namespace) -> EngineOptions:
    limit = arguments.memory_limit
    return EngineOptions(
        models_dir=Path(arguments.models_dir) if arguments.models_dir else resolve_paths().models_dir,
        host=arguments.host,
        port=arguments.port,
        api_token=engine_token(Path(arguments.api_token_file).expanduser() if arguments.api_token_file else None),
        cors=arguments.cors,
        memory_limit_bytes=None if limit is None else parse_bytes(limit, what="--memory-limit"),
        headroom=parse_headroom(arguments.headroom),
        default_context_length=arguments.default_context,
        # On the command line 0 is the word for "never", which the options spell None.
        jit_ttl_s=arguments.jit_ttl or None,
    )


def _note(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _show(status: EngineStatus) -> None:
    if status.running:
        sys.stdout.write(f"the engine runs at {status.address} (pid {status.pid}), models in {status.models_dir}\n")
    else:
        sys.stdout.write("no engine runs\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
