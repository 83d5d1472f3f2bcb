"""One engine for all tests of the Python API that do not need one of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix import EmbeddedEngine
from lmstrix.ground.types import ServerInfo
from tests.support.calling import calling
from tests.support.model_files import put_model
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    """The running engine."""
    folder = tmp_path_factory.mktemp("python-engine")
    for name, file in (("scripted", scripted_model(context_length=8192)), ("embed", tiny_model("bert"))):
        put_model(folder, name, file)
    with EmbeddedEngine(folder) as running:
        yield running


@pytest.fixture
def python_engine(shared_engine: EmbeddedEngine) -> Iterator[EmbeddedEngine]:
    """Serves "scripted", which answers by rote, and "embed"; whatever is loaded at the end is unloaded.

    What a test leaves loaded, with a longer context than the next one asks for, would serve that one.
    """
    yield shared_engine
    with calling(ServerInfo(address=shared_engine.address, engine="embedded")) as client:
        for model in client.portal.run(client.backend.list_loaded()):
            client.portal.run(client.backend.unload(model.instance_id, kind=model.kind))
