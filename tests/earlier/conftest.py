"""An engine with a small model, which scripts of the earlier LMStrix find without a word about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix import EmbeddedEngine
from tests.cli.conftest import cli, faulty  # noqa: F401 - fixtures of the tests beside
from tests.support.model_files import put_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def script_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    """Serves "scripted", which answers by rote."""
    folder = tmp_path_factory.mktemp("earlier-engine")
    put_model(folder, "scripted", scripted_model(context_length=8192))
    with EmbeddedEngine(folder) as running:
        yield running


@pytest.fixture
def server(script_engine: EmbeddedEngine, home: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedEngine:
    """What a script in this test speaks to."""
    monkeypatch.setenv("LMSTRIX_SERVER", script_engine.address)
    return script_engine
