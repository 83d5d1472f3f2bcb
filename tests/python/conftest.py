"""One engine for all tests of the Python API that do not need one of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix import EmbeddedEngine
from tests.support.model_files import put_model
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def python_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    """Serves "scripted", which answers by rote, and "embed"."""
    folder = tmp_path_factory.mktemp("python-engine")
    for name, file in (("scripted", scripted_model(context_length=8192)), ("embed", tiny_model("bert"))):
        put_model(folder, name, file)
    with EmbeddedEngine(folder) as running:
        yield running
