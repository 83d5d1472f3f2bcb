"""Each target is sent its own token, and nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.api import openai
from lmstrix.core.benchmark.records import BenchRequest
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.paths import resolve_paths
from lmstrix.ground.settings import Settings
from lmstrix.service.bench_targets import BenchTargetsOptions, TargetsBenching
from lmstrix.service.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.ground.access import ServerAccess


async def test_the_token_of_the_settings_goes_to_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, str | None] = {}

    class Offering(openai.AsyncOpenAIBackend):
        def __init__(self, url: str, *, access: ServerAccess, leave_out: tuple[str, ...] = ()) -> None:
            super().__init__(url, access=access, leave_out=leave_out)
            sent[self.address] = access.api_token

        async def offered_models(self) -> list[openai.OfferedModel]:
            return [openai.OfferedModel("m")] if self.address == "127.0.0.1:9" else []

        async def runtime(self) -> str | None:
            return None

    monkeypatch.setattr(openai, "AsyncOpenAIBackend", Offering)
    monkeypatch.setenv("FIRST_KEY", "first")
    file = tmp_path / "targets.toml"
    file.write_text(
        '[[target]]\nname = "a"\naddress = "openai:http://127.0.0.1:9"\nkey_variable = "FIRST_KEY"\n'
        '[[target]]\nname = "b"\naddress = "openai:http://127.0.0.1:10"\nmodels = ["m"]\n',
        encoding="utf-8",
    )
    workspace = Workspace(paths=resolve_paths(), settings=Settings(api_token="of the settings"))
    benching = TargetsBenching(workspace, BenchTargetsOptions(file=file, request=BenchRequest()))
    with pytest.raises(LMStrixError, match=r"b: .*does not offer 'm'"):
        await benching.run()
    assert sent == {"127.0.0.1:9": "first", "127.0.0.1:10": None}
    await workspace.close()
