"""The header of a model, whichever of the two formats it is in: a GGUF file, or a folder with an MLX model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.loaders import gguf, mlx

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.loaders.gguf_header import GgufHeader
    from lmstrix.loaders.mlx import MlxModel


def read_model_header(path: Path) -> GgufHeader | MlxModel:
    """Raises `GgufError` or `MlxError` for what is no model."""
    return mlx.read_model(path) if path.is_dir() else gguf.read_header(path)
