"""What a test says of the time it still takes, over the whole way from a server to whoever watches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmstrix.ground.paths import resolve_paths
from lmstrix.ground.settings import Settings
from lmstrix.service.due_tests import ContextTestRequest
from lmstrix.service.testing import ContextTesting
from lmstrix.service.workspace import Workspace
from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.context.eta import TimeLeft


async def watch(workspace: Workspace) -> list[TimeLeft]:
    """Test all models again; what was told on the way."""
    told: list[TimeLeft] = []
    options = ContextTestRequest(fast=True, force=True)
    await asyncio.wait_for(ContextTesting(workspace, None, options, on_time_left=told.append).run(), 60)
    return told


async def test_a_second_run_knows_from_the_first_how_long_it_takes(home: Path) -> None:
    with FaultyServer(FaultyModel(key="a", declared=2048), FaultyModel(key="b", declared=2048)) as server:
        workspace = Workspace(paths=resolve_paths(), settings=Settings(server=server.address))
        try:
            first, second = await watch(workspace), await watch(workspace)
        finally:
            await workspace.close()
    assert first[0].model_s is None  # nothing was measured yet
    assert first[0].all_s is None
    assert first[-1].model_s == first[-1].all_s == 0
    assert second[0].model_s is not None
    assert second[0].all_s is not None
    assert second[0].all_s > second[0].model_s > 0  # b waits
    assert second[-1].model_s == second[-1].all_s == 0
