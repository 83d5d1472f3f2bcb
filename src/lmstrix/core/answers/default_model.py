"""The model that is asked where none is named, because the user chose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.answers.state_file import read_state, write_state
from lmstrix.ground.errors import LMStrixError

if TYPE_CHECKING:
    from pathlib import Path

_KEY = "default_model"


class DefaultModel:
    """The key of the default model, in `file`."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> str | None:
        """The key, or None when none was chosen or the file cannot be read."""
        key = read_state(self._file).get(_KEY)
        return key if isinstance(key, str) and key else None

    def write(self, model_key: str | None) -> None:
        """Choose a model, or with None none. Raises LMStrixError where that cannot be kept."""
        try:
            write_state(self._file, {_KEY: model_key})
        except OSError as exc:
            raise LMStrixError(f"the default model cannot be kept in {self._file}: {exc.strerror or exc}") from exc
