"""What `doctor` says of the MLX runtime of LM Studio: its version, and whether it keeps the context asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.context.mlx_runtimes import REMEDY, report_on, versions
from lmstrix.core.health import Check
from lmstrix.ground.errors import LMStrixError

if TYPE_CHECKING:
    from lmstrix.ground.types import RuntimeVersion
    from lmstrix.service.workspace import Workspace

_MLX = "safetensors"  # what LM Studio calls the format of MLX models


async def mlx_runtime_checks(workspace: Workspace) -> list[Check]:
    """One check where LM Studio runs and names an MLX runtime, else none: `doctor` tells elsewhere that it is away."""
    from lmstrix.service.connection import connect_running

    try:
        connection = await connect_running(workspace.paths, workspace.settings)
    except (LMStrixError, OSError, ImportError):
        return []
    try:
        runtime = await connection.backend.runtime(_MLX) if connection.server.engine == "lmstudio" else None
    finally:
        await connection.close()
    return [] if runtime is None else [_check(runtime)]


def _check(runtime: RuntimeVersion) -> Check:
    named, report = f"{runtime.name} {runtime.version}", report_on(runtime)
    if report is None:
        return Check(name="mlx runtime", state="ok", found=f"{named}; nothing is reported of how it keeps a context")
    if report.keeps_context:
        return Check(name="mlx runtime", state="ok", found=f"{named}, reported to keep the context asked for")
    found = (
        f"{named}, one of those reported to ignore the context asked for or saved"
        f" ({versions(keeping=False)}); {versions(keeping=True)} were reported to keep it"
    )
    return Check(name="mlx runtime", state="note", found=found, remedy=REMEDY)
