"""The REST listings, for what the SDK's wire does not tell: reasoning choices, and every instance's loaded context.

`/api/v1/models` is asked, `/api/v0/models` where the server is too old for it. LM Studio reports errors with status 200
too, so the body decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from lmstrix.api.convert import JsonView, count_of, list_of, object_of, text_of
from lmstrix.api.fault_rules import classify
from lmstrix.api.faults import ServerRequest, read_fault
from lmstrix.api.http_client import open_http, read
from lmstrix.ground.access import ANY_SERVER, ServerAccess
from lmstrix.ground.errors import AuthenticationError, BackendTimeoutError, BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx

    from lmstrix.ground.types import ServerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCapabilities:
    """What REST tells of a model. `loaded` maps instance ids to their effective context lengths, in tokens.

    `reasoning_options` are the settings the model knows ("off", "on", "low", …); empty when it cannot be steered.
    """

    model_key: str
    max_context_length: int | None = None
    vision: bool = False
    trained_for_tool_use: bool = False
    reasoning_options: tuple[str, ...] = ()
    reasoning_default: str | None = None
    loaded: Mapping[str, int] = field(default_factory=dict)


async def fetch_capabilities(
    server: ServerInfo, *, access: ServerAccess = ANY_SERVER, timeout_s: float | None = 5.0
) -> dict[str, ModelCapabilities]:
    """What the server's REST side says of every model it has, by model key."""
    address = server.address
    async with open_http(server.http_url, access=access) as client:
        get = partial(_get, client, address=address, timeout_s=timeout_s, retries=access.retries)
        body = await get("/api/v1/models")
        # Not by status: LM Studio answers 200 with an error in the body to paths it does not know.
        if isinstance(body.get("models"), list):
            return _by_key(_from_v1(entry) for entry in body["models"] if isinstance(entry, Mapping))
        body = await get("/api/v0/models")
    if isinstance(body.get("data"), list):
        return _by_key(_from_v0(entry) for entry in body["data"] if isinstance(entry, Mapping))
    asked = ServerRequest(operation="ask", address=address, what="list its models over REST")
    raise classify(read_fault(body.get("error")), asked)


async def _get(
    client: httpx.AsyncClient, path: str, *, address: str, timeout_s: float | None, retries: int | None
) -> JsonView:
    """The JSON object at `path`; an empty one when the server does not know the path."""
    import httpx

    try:
        response = await read(client, path, limit_s=timeout_s, retries=retries)
    except TimeoutError as exc:
        raise BackendTimeoutError(
            f"{address} did not answer {path} in time; is it busy, or is another program on that port?", address=address
        ) from exc
    except (httpx.TransportError, httpx.HTTPStatusError) as exc:
        raise BackendUnavailableError(
            f"{address} does not answer {path} ({exc or type(exc).__name__}); is the server running?", address=address
        ) from exc
    if response.status_code in (401, 403):
        raise AuthenticationError(f"{address} refuses our API token for {path}; set LM_API_TOKEN to one it knows")
    try:
        body = response.json()
    except ValueError as exc:
        raise BackendUnavailableError(
            f"{address} answers {path} with something that is not JSON; is it LM Studio?", address=address
        ) from exc
    return body if isinstance(body, dict) else {}  # without any of our keys, it leads to the older path


def _by_key(models: Iterable[ModelCapabilities]) -> dict[str, ModelCapabilities]:
    return {model.model_key: model for model in models if model.model_key}


def _from_v1(entry: JsonView) -> ModelCapabilities:
    capabilities = object_of(entry, "capabilities")
    reasoning = object_of(capabilities, "reasoning")
    instances = [each for each in list_of(entry, "loaded_instances") if isinstance(each, Mapping)]
    lengths = ((text_of(each, "id"), count_of(object_of(each, "config"), "context_length")) for each in instances)
    return ModelCapabilities(
        model_key=text_of(entry, "key") or "",
        max_context_length=count_of(entry, "max_context_length"),
        vision=capabilities.get("vision") is True,
        trained_for_tool_use=capabilities.get("trained_for_tool_use") is True,
        reasoning_options=tuple(each for each in list_of(reasoning, "allowed_options") if isinstance(each, str)),
        reasoning_default=text_of(reasoning, "default"),
        loaded={name: length for name, length in lengths if name is not None and length is not None},
    )


def _from_v0(entry: JsonView) -> ModelCapabilities:
    model_key = text_of(entry, "id") or ""
    # The older listing has a row per model, so its key stands for the one instance.
    length = count_of(entry, "loaded_context_length") if entry.get("state") == "loaded" else None
    return ModelCapabilities(
        model_key=model_key,
        max_context_length=count_of(entry, "max_context_length"),
        vision=entry.get("type") == "vlm",
        trained_for_tool_use="tool_use" in list_of(entry, "capabilities"),
        loaded={} if length is None else {model_key: length},
    )
