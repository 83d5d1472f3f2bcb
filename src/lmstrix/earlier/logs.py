"""The earlier `utils.logging`: Python's own logging, with the one method more that scripts called."""

from __future__ import annotations

import logging


class _Logger(logging.LoggerAdapter[logging.Logger]):
    def success(self, message: str) -> None:
        """What went well."""
        self.info(message)


logger = _Logger(logging.getLogger("lmstrix"), {})


def setup_logging(verbose: bool = False) -> None:
    """Show what is logged."""
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING)
