"""One engine for all tests of its edges, with three models; whatever a test loaded is unloaded after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from lmstrix.engine import EmbeddedEngine
from tests.engine.children import note_shared
from tests.support.model_files import put_model
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCRIPTED, TINY, EMBEDDING = "scripted", "tiny", "text-embedding-embed"


@pytest.fixture(autouse=True)
def children_of_others() -> None:
    """Models that a shared engine holds are no leftovers of a test."""
    note_shared()


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scripted` gives fixed answers, `tiny` is noise that declares 2048 tokens, `text-embedding-embed` embeds."""
    directory = tmp_path_factory.mktemp("models")
    for name, file in (
        ("scripted", scripted_model()),
        ("tiny", tiny_model("llama", context_length=2048, n_layers=1)),
        ("embed", tiny_model("bert")),
    ):
        put_model(directory, name, file)
    return directory


@pytest.fixture(scope="session")
def shared_engine(models_dir: Path) -> Iterator[EmbeddedEngine]:
    """The running engine."""
    with EmbeddedEngine(models_dir, memory_limit=2**30) as engine:
        yield engine


@pytest.fixture(scope="session")
def http(shared_engine: EmbeddedEngine) -> Iterator[httpx.Client]:
    """REST to the shared engine; one client for all, because making one takes longer than most tests."""
    with httpx.Client(base_url=f"http://{shared_engine.address}", timeout=30) as client:
        yield client


@pytest.fixture
def engine(shared_engine: EmbeddedEngine, http: httpx.Client) -> Iterator[EmbeddedEngine]:
    """The engine, without loaded models before and after."""
    unload_all_but(http)
    yield shared_engine
    unload_all_but(http)


@pytest.fixture
def warm_engine(shared_engine: EmbeddedEngine, http: httpx.Client) -> Iterator[EmbeddedEngine]:
    """The engine with `scripted` loaded at its defaults, which tests leave as it is."""
    unload_all_but(http, SCRIPTED)
    http.post("/v1/completions", json={"model": SCRIPTED, "prompt": "2+3=", "max_tokens": 1})
    yield shared_engine
    unload_all_but(http, SCRIPTED)


def unload_all_but(http: httpx.Client, kept: str | None = None) -> None:
    """Unload every instance that is not called `kept` with a context of 4096."""
    for model in http.get("/api/v1/models").json()["models"]:
        for instance in model["loaded_instances"]:
            if instance["id"] != kept or instance["config"]["context_length"] != 4096:
                http.post("/api/v1/models/unload", json={"instance_id": instance["id"]})
