"""The REST listing: two generations of it, and answers that are not what their status says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.api.rest import ModelCapabilities, fetch_capabilities
from lmstrix.ground import errors
from lmstrix.ground.access import ServerAccess
from lmstrix.ground.types import ServerInfo
from tests.support.faulty_server import closed_port, listening

if TYPE_CHECKING:
    from lmstrix.api.client import AsyncLMStudioBackend
    from tests.support.faulty_server import FaultyServer

V1: dict[str, Any] = {
    "models": [
        {
            "type": "llm",
            "key": "acme/thinker",
            "max_context_length": 32768,
            "loaded_instances": [
                {"id": "acme/thinker", "config": {"context_length": 8192, "parallel": 4}},
                {"id": "acme/thinker:2", "config": {"context_length": 4096}},
                {"id": "odd", "config": None},
                "odder",
            ],
            "capabilities": {
                "vision": True,
                "trained_for_tool_use": False,
                "reasoning": {"allowed_options": ["off", "on"], "default": "on"},
            },
        },
        {"type": "embedding", "key": "acme/embed", "max_context_length": 512, "loaded_instances": []},
        {"type": "llm", "key": None},
        17,
    ]
}
V0: dict[str, Any] = {
    "object": "list",
    "data": [
        {
            "id": "acme/tiny",
            "type": "vlm",
            "state": "loaded",
            "max_context_length": 32768,
            "loaded_context_length": 8192,
            "capabilities": ["tool_use"],
        },
        {"id": "acme/other", "type": "llm", "state": "not-loaded", "max_context_length": 4096},
    ],
}
UNKNOWN = '{"error":"Unexpected endpoint or method. (GET /api/v1/models)"}'


async def test_the_present_listing(backend: AsyncLMStudioBackend, server: FaultyServer) -> None:
    server.faults.pages["/api/v1/models"] = (200, json.dumps(V1))
    models = await fetch_capabilities(backend.server)
    assert list(models) == ["acme/thinker", "acme/embed"]
    assert models["acme/thinker"] == ModelCapabilities(
        model_key="acme/thinker",
        max_context_length=32768,
        vision=True,
        reasoning_options=("off", "on"),
        reasoning_default="on",
        loaded={"acme/thinker": 8192, "acme/thinker:2": 4096},
    )
    assert models["acme/embed"].reasoning_options == ()


@pytest.mark.parametrize("status", [200, 404])
async def test_the_older_listing(server: FaultyServer, status: int) -> None:
    server.faults.pages |= {"/api/v1/models": (status, UNKNOWN), "/api/v0/models": (200, json.dumps(V0))}
    models = await fetch_capabilities(server.info)
    assert models["acme/tiny"] == ModelCapabilities(
        model_key="acme/tiny",
        max_context_length=32768,
        vision=True,
        trained_for_tool_use=True,
        loaded={"acme/tiny": 8192},
    )
    assert models["acme/other"].loaded == {}


@pytest.mark.parametrize(
    ("status", "body", "expected", "asked"),
    [
        (200, UNKNOWN, errors.BackendUnavailableError, 1),
        (200, '{"error":{"type":"internal_error","message":"boom"}}', errors.BackendUnavailableError, 1),
        (200, "<html>", errors.BackendUnavailableError, 1),
        (200, "[]", errors.BackendUnavailableError, 1),
        (500, "{}", errors.BackendUnavailableError, 1),
        (401, '{"error":{"message":"no"}}', errors.AuthenticationError, 1),
        (503, "{}", errors.BackendUnavailableError, 3),
    ],
)
async def test_bodies_are_judged_and_only_passing_states_tried_again(
    server: FaultyServer, status: int, body: str, expected: type[errors.LMStrixError], asked: int
) -> None:
    server.faults.pages |= dict.fromkeys(("/api/v1/models", "/api/v0/models"), (status, body))
    with pytest.raises(expected) as caught:
        await fetch_capabilities(server.info, access=ServerAccess(api_token="sk-lm-abcdefgh:x"))
    assert type(caught.value) is expected
    assert server.paths["/api/v1/models"] == asked


async def test_nobody_there_and_nobody_answering() -> None:
    with pytest.raises(errors.BackendUnavailableError):
        await fetch_capabilities(ServerInfo(address=f"127.0.0.1:{closed_port()}", engine="lmstudio"))
    with listening(None) as silent, pytest.raises(errors.BackendTimeoutError):
        await fetch_capabilities(ServerInfo(address=silent, engine="lmstudio"), timeout_s=0.05)
