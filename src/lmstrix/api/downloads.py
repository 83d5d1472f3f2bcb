"""Downloads by LM Studio itself, over REST: `POST /api/v1/models/download`, and the state of the job it makes.

The server downloads whether or not anybody asks how far it is; its REST has no request to stop a download.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from lmstrix.api.convert import JsonView, count_of, text_of
from lmstrix.api.fault_rules import classify
from lmstrix.api.faults import ServerRequest, read_fault
from lmstrix.api.http_client import open_http, read
from lmstrix.ground.access import ANY_SERVER, ServerAccess
from lmstrix.ground.downloads import STATUSES, Download, DownloadStatus
from lmstrix.ground.errors import AuthenticationError, BackendTimeoutError, BackendUnavailableError, LMStrixError

if TYPE_CHECKING:
    import httpx

    from lmstrix.ground.types import ServerInfo

_START = "/api/v1/models/download"
_START_S = 60.0  # the server looks the model up at its hub first
_STATUS_S = 15.0
_UNKNOWN_PATH = "unexpected endpoint"


async def start_download(
    server: ServerInfo, model: str, *, quantization: str | None = None, access: ServerAccess = ANY_SERVER
) -> Download:
    """Have the server download a model: a name of its catalogue, or the address of a page of Hugging Face."""
    import asyncio

    import httpx

    body = {"model": model, **({} if quantization is None else {"quantization": quantization})}
    try:
        # Not sent again where it fails: whether the server began is not known then.
        async with open_http(server.http_url, access=access) as client, asyncio.timeout(_START_S):
            response = await client.post(_START, json=body)
    except TimeoutError as exc:
        raise BackendTimeoutError(
            f"{server.address} did not begin to download {model} within {_START_S:g} s; does it reach the internet?",
            address=server.address,
            waited_s=_START_S,
        ) from exc
    except httpx.TransportError as exc:
        raise _gone(server, exc) from exc
    return _download(server, response, f"download {model}")


async def download_status(server: ServerInfo, job_id: str, *, access: ServerAccess = ANY_SERVER) -> Download:
    """How far a download is. A connection that breaks is tried again."""
    from urllib.parse import quote

    import httpx

    try:
        async with open_http(server.http_url, access=access) as client:
            path = f"{_START}/status/{quote(job_id, safe='')}"
            response = await read(client, path, limit_s=_STATUS_S, retries=access.retries)
    except TimeoutError as exc:
        raise BackendTimeoutError(
            f"{server.address} did not say how far the download is within {_STATUS_S:g} s", address=server.address
        ) from exc
    except (httpx.TransportError, httpx.HTTPStatusError) as exc:
        raise _gone(server, exc) from exc
    return _download(server, response, f"tell of the download {job_id}")


def _download(server: ServerInfo, response: httpx.Response, what: str) -> Download:
    if response.status_code in (401, 403):
        raise AuthenticationError(
            f"{server.address} refuses our API token to {what}; set LM_API_TOKEN to one that may download"
        )
    try:
        body = response.json()
    except ValueError as exc:
        raise BackendUnavailableError(
            f"{server.address} answers with something that is not JSON; is it LM Studio?", address=server.address
        ) from exc
    found: JsonView = body if isinstance(body, Mapping) else {}
    status = text_of(found, "status")
    # Not by status code: LM Studio answers 200 with an error in the body to paths it does not know.
    if status not in STATUSES:
        fault = read_fault(found.get("error"))
        if _UNKNOWN_PATH in fault.all_text.lower():
            raise LMStrixError(f"{server.address} is too old to download over REST; update LM Studio, or run: lms get")
        raise classify(fault, ServerRequest(operation="ask", address=server.address, what=what))
    speed = found.get("bytes_per_second")
    return Download(
        status=cast("DownloadStatus", status),
        job_id=text_of(found, "job_id"),
        total_bytes=count_of(found, "total_size_bytes"),
        downloaded_bytes=count_of(found, "downloaded_bytes"),
        bytes_per_second=float(speed) if isinstance(speed, int | float) and speed > 0 else None,
    )


def _gone(server: ServerInfo, failure: Exception) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"{server.address} does not answer ({failure or type(failure).__name__}); is LM Studio running?",
        address=server.address,
    )
