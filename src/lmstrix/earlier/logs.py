# ruff: noqa: ARG001 - this is the earlier signature, and one of its arguments has no effect
"""The earlier `utils.logging`: Python's own logging, with the one method more that scripts called."""

from __future__ import annotations

import logging


class _Logger(logging.LoggerAdapter[logging.Logger]):
    def success(self, message: str) -> None:
        """What went well."""
        self.info(message)


logger = _Logger(logging.getLogger("lmstrix"), {})


def setup_logging(
    verbose: bool = False,
    level: int = logging.WARNING,
    file_path: str | None = None,
    include_performance_metrics: bool = False,
) -> None:
    """Show what is logged, or write it to a file."""
    logging.basicConfig(level=logging.DEBUG if verbose else level, filename=file_path)
