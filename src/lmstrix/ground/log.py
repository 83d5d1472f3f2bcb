"""Logging: loguru to stderr, set up by entry points only; the library itself only emits."""

from __future__ import annotations

import sys
from typing import Literal

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def configure(level: Level) -> None:
    """Send records of `level` and above to stderr as plain lines. Called once, by an entry point."""
    from loguru import logger

    logger.remove()
    logger.add(
        sys.stderr,
        level=level,
        format="{level.name:<7} {message}",
        colorize=False,
        backtrace=False,
        diagnose=False,  # it would print the values of variables, which may be prompts or tokens
        catch=True,
    )
