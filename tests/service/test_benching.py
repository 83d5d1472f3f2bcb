"""A benchmark closes the client it opened for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.api import openai
from lmstrix.ground.errors import ModelNotFoundError
from lmstrix.ground.paths import resolve_paths
from lmstrix.ground.settings import Settings
from lmstrix.service.benching import Benchmarking, BenchOptions
from lmstrix.service.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path


async def test_another_servers_client_is_closed_however_it_ends(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Offering(openai.AsyncOpenAIBackend):
        async def offered_models(self) -> list[openai.OfferedModel]:
            return [openai.OfferedModel("here")]

        async def close(self) -> None:
            closed.append(self.address)
            await super().close()

    monkeypatch.setattr(openai, "AsyncOpenAIBackend", Offering)
    workspace = Workspace(paths=resolve_paths(), settings=Settings(server="openai:http://127.0.0.1:9"))
    with pytest.raises(ModelNotFoundError, match="it has: here"):
        await Benchmarking(workspace, BenchOptions(models=("elsewhere",))).run()
    assert closed == ["127.0.0.1:9"]
    await workspace.close()
