"""One engine for all tests of its edges, with three models; whatever a test loaded is unloaded after it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import httpx
import pytest

from lmstrix.engine import EmbeddedEngine
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCRIPTED, TINY, EMBEDDING = "scripted", "tiny", "text-embedding-embed"


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scripted` gives fixed answers, `tiny` is noise that declares 2048 tokens, `text-embedding-embed` embeds."""
    directory = tmp_path_factory.mktemp("models")
    for name, file in (
        ("scripted", scripted_model()),
        ("tiny", tiny_model("llama", context_length=2048, n_layers=1)),
        ("embed", tiny_model("bert")),
    ):
        repository = directory / "acme" / f"{name}-GGUF"
        repository.mkdir(parents=True)
        shutil.copy(file, repository / f"{name}-f16.gguf")
    return directory


@pytest.fixture(scope="session")
def shared_engine(models_dir: Path) -> Iterator[EmbeddedEngine]:
    """The running engine."""
    with EmbeddedEngine(models_dir, memory_limit=2**30) as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: EmbeddedEngine) -> Iterator[EmbeddedEngine]:
    """The engine, without loaded models before and after."""
    yield shared_engine
    with httpx.Client(base_url=f"http://{shared_engine.address}/api/v1") as client:
        for model in client.get("/models").json()["models"]:
            for instance in model["loaded_instances"]:
                client.post("/models/unload", json={"instance_id": instance["id"]})
