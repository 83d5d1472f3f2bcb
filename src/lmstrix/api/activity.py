"""What an embedded engine says it is doing, over its own REST path; one request for one reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from lmstrix.api.convert import JsonView, count_of, list_of, mapping_or_none, number_of, text_of
from lmstrix.api.engine_memory import read_instance_memory
from lmstrix.api.http_client import open_http, read
from lmstrix.ground.activity import InstanceActivity, RequestActivity, RequestStatus, ServerActivity
from lmstrix.ground.errors import AuthenticationError, BackendTimeoutError, BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.ground.access import ServerAccess
    from lmstrix.ground.types import ModelKind, ServerInfo

_STATUSES: tuple[RequestStatus, ...] = get_args(RequestStatus)


async def server_activity(server: ServerInfo, *, access: ServerAccess, limit_s: float) -> ServerActivity | None:
    """What the server does now; None where it does not tell: LM Studio, and engines of earlier versions.

    Raises BackendUnavailableError, BackendTimeoutError after `limit_s`, AuthenticationError.
    """
    # LM Studio has no such path, and answers unknown ones with a warning in its log.
    if server.engine != "embedded":
        return None
    import httpx

    address = server.address
    try:
        async with open_http(server.http_url, access=access) as client:
            response = await read(client, "/api/lmstrix/activity", limit_s=limit_s, retries=0)
        body = response.json() if response.status_code == 200 else None
    except TimeoutError as exc:
        raise BackendTimeoutError(f"{address} did not answer within {limit_s:g} s", address=address) from exc
    except (httpx.HTTPError, ValueError) as exc:
        raise BackendUnavailableError(f"{address} does not answer", address=address) from exc
    if response.status_code in (401, 403):
        raise AuthenticationError(f"{address} refuses our API token; set LM_API_TOKEN to one it knows")
    return _activity(body) if isinstance(body, dict) else None


def _activity(body: JsonView) -> ServerActivity | None:
    pid, clock_s = count_of(body, "pid"), number_of(body, "clock_s")
    if pid is None or clock_s is None:
        return None
    return ServerActivity(
        pid=pid,
        clock_s=clock_s,
        resident_bytes=count_of(body, "resident_bytes") or 0,
        loading=tuple(name for name in list_of(body, "loading") if isinstance(name, str)),
        models=tuple(_models(body)),
    )


def _models(body: JsonView) -> Iterator[InstanceActivity]:
    for entry in map(_view, list_of(body, "models")):
        instance_id, reference = text_of(entry, "instance_id"), text_of(entry, "instance_reference")
        if instance_id is None or reference is None:
            continue
        kind: ModelKind = "embedding" if text_of(entry, "kind") == "embedding" else "llm"
        memory = mapping_or_none(entry.get("memory"))
        yield InstanceActivity(
            instance_id=instance_id,
            instance_reference=reference,
            model_key=text_of(entry, "model_key") or instance_id,
            kind=kind,
            context_length=count_of(entry, "context_length") or 0,
            parallel_slots=count_of(entry, "parallel_slots") or 1,
            ttl_s=number_of(entry, "ttl_s"),
            idle_s=number_of(entry, "idle_s"),
            answered=count_of(entry, "answered") or 0,
            prompt_tokens=count_of(entry, "prompt_tokens") or 0,
            completion_tokens=count_of(entry, "completion_tokens") or 0,
            requests=tuple(map(_request, map(_view, list_of(entry, "requests")))),
            memory=read_instance_memory(memory) if memory is not None else None,
        )


def _request(entry: JsonView) -> RequestActivity:
    told = text_of(entry, "status")
    return RequestActivity(
        status=next((status for status in _STATUSES if status == told), "waiting"),
        age_s=number_of(entry, "age_s") or 0.0,
        prompt_tokens=count_of(entry, "prompt_tokens"),
        prompt_done_tokens=count_of(entry, "prompt_done_tokens") or 0,
        completion_tokens=count_of(entry, "completion_tokens") or 0,
    )


def _view(entry: Any) -> JsonView:
    return mapping_or_none(entry) or {}
