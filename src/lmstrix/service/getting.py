"""`get`: a model that LM Studio downloads, followed to its end, and then taken into the registry."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.access import access_to
from lmstrix.ground.callbacks import in_caller
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.wording import call, parameter
from lmstrix.service.scanning import scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.registry.listing import ScanReport
    from lmstrix.ground.downloads import Download
    from lmstrix.service.workspace import Workspace

_POLL_S = 1.0
_PAGES = ("https://huggingface.co/", "http://huggingface.co/")


@dataclass(frozen=True, slots=True, kw_only=True)
class GotModel:
    """What was asked for, how its download ended, and what the scan after it found."""

    model: str
    download: Download
    scan: ScanReport


async def get_model(
    workspace: Workspace,
    model: str | None,
    *,
    quantization: str | None = None,
    job_id: str | None = None,
    on_progress: Callable[[Download], None] | None = None,
) -> GotModel:
    """Have LM Studio download a model, or follow the download `job_id`; returns when it is there.

    Leaving early ends the following and not the download. Raises LMStrixError where the download fails.
    """
    from lmstrix.api.downloads import download_status, start_download

    if (model is None) == (job_id is None):
        raise UsageError(f"which model? name one, or a download that is under way with {parameter('job_id')}")
    if quantization is not None and not (model or "").startswith(_PAGES):
        raise UsageError(
            f"{parameter('quantization')}: LM Studio takes it with a page of Hugging Face alone ({_PAGES[0]}…)"
        )
    if workspace.settings.server == "embedded":
        raise _no_hub(workspace)
    deadline = workspace.deadline()
    connection = await workspace.connect_running(deadline)
    server = connection.server
    if server.engine == "embedded":
        raise _no_hub(workspace)
    access = access_to(workspace.settings, server.address)
    tell = on_progress and in_caller(on_progress)
    name = model or job_id or ""
    async with deadline.step(f"downloading {name}"):
        if job_id is None:
            download = await start_download(server, name, quantization=quantization, access=access)
        else:
            download = await download_status(server, job_id, access=access)
        while True:
            if tell is not None:
                tell(download)
            if download.is_over or download.job_id is None:
                break
            await asyncio.sleep(_POLL_S)
            download = await download_status(server, download.job_id, access=access)
    if download.status == "failed":
        raise LMStrixError(f"{connection.name} failed to download {name}; its Downloads window says why")
    return GotModel(model=name, download=download, scan=await scan(workspace))


def _no_hub(workspace: Workspace) -> LMStrixError:
    folder = workspace.models_dir / "PUBLISHER" / "REPOSITORY"
    return LMStrixError(
        f"the embedded engine downloads no models; put the GGUF file into {folder} and run {call('scan')}, or leave it "
        "where it is and run: lmstrix registry add FILE"
    )
