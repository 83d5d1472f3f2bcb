"""Model files where a models folder has them: publisher, repository, file."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def put_model(folder: Path, name: str, source: Path) -> Path:
    """Copy a model file into a models folder, as `acme/NAME-GGUF/NAME-f16.gguf`."""
    file = folder / "acme" / f"{name}-GGUF" / f"{name}-f16.gguf"
    file.parent.mkdir(parents=True)
    shutil.copy(source, file)
    return file
