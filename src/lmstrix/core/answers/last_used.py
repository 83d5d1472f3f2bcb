"""Small state between runs: the model used last. Losing it costs nothing, so it is never an error."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from lmstrix.ground.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path


class LastUsed:
    """The model key of the last answer that succeeded, in `file`."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> str | None:
        """The key, or None when there is none or the file cannot be read."""
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        key = found.get("last_used_model") if isinstance(found, dict) else None
        return key if isinstance(key, str) else None

    def write(self, model_key: str) -> None:
        """Remember a key; the file is written only when it changes."""
        if self.read() == model_key:
            return  # most answers come from the same model: reading costs less than writing
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, json.dumps({"last_used_model": model_key}) + "\n", durable=False)
