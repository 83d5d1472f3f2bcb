"""The log of one command: --verbose tells decisions on stderr, --debug all details, --log-file the same into a file."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmstrix.ground import log
from lmstrix.ground.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from logging import LogRecord

    from lmstrix.cli.command_line import CommandLine
    from lmstrix.cli.words import Invocation


@contextmanager
def logged(invocation: Invocation, cli: CommandLine) -> Iterator[None]:
    """Log what happens inside as the options say. Raises UsageError for a log file that cannot be written."""
    common, file = cli.common, cli.log_file
    if not (common.verbose or common.debug or file):
        yield
        return
    try:
        if common.verbose or common.debug:
            log.to_stderr("debug" if common.debug else "info")
        if file is not None:
            log.to_file(file, cli.log_level, max_bytes=cli.log_max_bytes)
        with _heard_libraries(), _timed(invocation, cli):
            yield
    finally:
        log.close()


@contextmanager
def _timed(invocation: Invocation, cli: CommandLine) -> Iterator[None]:
    from lmstrix.ground.log_text import failure_text

    command = invocation.command
    assert command is not None
    # Names only: what is given to an option may be a prompt or a token.
    options = " ".join(f"--{name.replace('_', '-')}" for name in [*invocation.common, *invocation.options])
    log.debug("lmstrix {}, Python {}, {}", __version__, sys.version.split()[0], sys.platform)
    log.debug("command {} with {}", command.name, options or "no options")
    log.debug("home {}, models in {}", cli.paths.home, cli.paths.models_dir)
    cli.log_settings()
    began_s = time.perf_counter()
    try:
        yield
    except BaseException as exc:
        log.debug("failed after {:.3f} s: {}", time.perf_counter() - began_s, failure_text(exc))
        raise
    log.debug("done in {:.3f} s", time.perf_counter() - began_s)


@contextmanager
def _heard_libraries() -> Iterator[None]:
    """Take over what libraries report: each HTTP request and its status from httpx, warnings from all others.

    Not their details: the SDK's hold whole prompts.
    """
    import logging

    class Handler(logging.Handler):
        """Hands records to our log."""

        def emit(self, record: LogRecord) -> None:
            log.write("debug" if record.levelno < logging.WARNING else "warn", f"{record.name}: {record.getMessage()}")

    handler, requests = Handler(), logging.getLogger("httpx")
    level = requests.level
    logging.getLogger().addHandler(handler)
    requests.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        requests.setLevel(level)
