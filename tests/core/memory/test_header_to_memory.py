"""From a GGUF file to bytes: what our header reader says of a model gives what llama.cpp allocates for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.core.memory.kv_cache import kv_cache_bytes, recurrent_state_bytes
from lmstrix.core.memory.shape import shape_from_metadata
from lmstrix.loaders.gguf import read_header
from tests.core.memory.allocations import allocations
from tests.support.tiny_gguf import ARCHITECTURES, write_tiny

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install lmstrix[engine]")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tiny_model(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "model.gguf"
    write_tiny(path, architecture)
    header = read_header(path)
    shape = shape_from_metadata(header.metadata, file_bytes=path.stat().st_size, n_vocab=header.vocabulary_size)
    embedding = {"embedding": True} if not shape.has_cache else {}
    actual = allocations(path, 2_048, **embedding)
    assert not shape.approximate
    assert kv_cache_bytes(shape, 2_048) / 2**20 == pytest.approx(actual.kv, abs=0.011)
    assert recurrent_state_bytes(shape) / 2**20 == pytest.approx(actual.recurrent, abs=0.011)
