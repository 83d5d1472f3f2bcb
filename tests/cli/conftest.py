"""The command line, end to end: words in, what is on stdout and stderr, the exit code."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from lmstrix.__main__ import main
from lmstrix.core.history import Conditions
from lmstrix.engine import EmbeddedEngine
from lmstrix.ground.machine import boot_id
from lmstrix.ground.types import ServerInfo
from lmstrix.service import testing
from tests.support.calling import calling
from tests.support.faulty_server import FaultyServer
from tests.support.model_files import put_model
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import LoadedModel
    from tests.support.calling import Caller

SCRIPTED, TINY, EMBEDDING = "scripted", "tiny", "text-embedding-embed"


class Ran(NamedTuple):
    """One command line and what it came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines on stderr."""
        return self.err.splitlines()

    @property
    def json(self) -> dict[str, Any]:
        """All of stdout, as JSON."""
        value: dict[str, Any] = json.loads(self.out)
        return value

    def failed(self, code: int, *parts: str) -> Ran:
        """Assert that it failed in one clear line that has these parts."""
        assert (self.code, self.out, len(self.lines)) == (code, "", 1), self
        assert self.err.startswith("lmstrix: ")
        for part in parts:
            assert part in self.err
        return self

    def ok(self) -> Ran:
        """Assert that it worked."""
        assert self.code == 0, self
        assert "Traceback" not in self.err
        return self


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Runs `lmstrix` with these words in this process; `stdin` are bytes to read."""

    def run(*words: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "argv", ["lmstrix", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        code = main()
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


class FreeMemory:
    """What is free on this machine, as old failures are weighed by it; None where nobody knows."""

    bytes: int | None = None


@pytest.fixture
def free_memory(monkeypatch: pytest.MonkeyPatch) -> FreeMemory:
    """Set `bytes` to what is to be read."""
    free = FreeMemory()

    async def conditions(backend: ModelBackend, lmstudio_home: Path | None) -> Conditions:
        return Conditions(free_bytes=free.bytes, engine_version=backend.server.version, boot_id=boot_id())

    monkeypatch.setattr(testing, "present_conditions", conditions)
    return free


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scripted` gives fixed answers at a pace one can interrupt, `tiny` says noise, `text-embedding-embed` embeds."""
    directory = tmp_path_factory.mktemp("cli-models")
    for name, file in (
        ("scripted", scripted_model(context_length=2048, n_layers=2, feed_forward=2048)),
        ("tiny", tiny_model("llama", context_length=4096, n_layers=1, head_dim=32)),
        ("embed", tiny_model("bert")),
    ):
        put_model(directory, name, file)
    return directory


@pytest.fixture(scope="session")
def shared_engine(models_dir: Path) -> Iterator[EmbeddedEngine]:
    """The running engine."""
    with EmbeddedEngine(models_dir, memory_limit=2**30) as engine:
        yield engine


@pytest.fixture
def engine(
    shared_engine: EmbeddedEngine, models_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmbeddedEngine]:
    """The engine every command line of this test speaks to; whatever is loaded at the end is unloaded."""
    monkeypatch.setenv("LMSTRIX_SERVER", shared_engine.address)
    monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(models_dir))
    yield shared_engine
    with client_of(shared_engine.address) as client:
        for model in client.portal.run(client.backend.list_loaded()):
            client.portal.run(client.backend.unload(model.instance_id, kind=model.kind))


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultyServer]:
    """A server that does its worst, which every command line of this test speaks to."""
    with FaultyServer() as server:
        monkeypatch.setenv("LMSTRIX_SERVER", server.address)
        yield server


def client_of(address: str) -> AbstractContextManager[Caller]:
    """A client of our own, to look at what a command left on the server."""
    return calling(ServerInfo(address=address, engine="embedded"))


def loaded_on(address: str) -> list[LoadedModel]:
    """What is loaded there."""
    with client_of(address) as client:
        return client.portal.run(client.backend.list_loaded())
