"""Where an engine's API token comes from: a file or the environment, never an argument, which every user can read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from lmstrix.ground.errors import EngineError
from lmstrix.ground.regular_files import open_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TOKEN_VARIABLE: Final = "LMSTRIX_ENGINE_TOKEN"  # noqa: S105 - the name of a variable
"""Holds the token of an engine that is to be run, in the foreground and in the background alike."""
_MOST_BYTES: Final = 4096


def engine_token(file: Path | None, environ: Mapping[str, str] | None = None) -> str | None:
    """The token in `file`, else in the environment, else None. Raises EngineError for a file that has none."""
    if file is None:
        environ = os.environ if environ is None else environ
        return environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        with open_regular(file) as content:
            token = content.read(_MOST_BYTES).decode().strip()
    except (OSError, ValueError) as exc:
        # Not the message of a decoding error: it quotes what is in the file.
        reason = exc.strerror or exc if isinstance(exc, OSError) else "it is no text"
        raise EngineError(f"the API token cannot be read from {file} ({reason})") from exc
    if not token:
        raise EngineError(f"{file} is empty: write the API token into it, as one line")
    return token
