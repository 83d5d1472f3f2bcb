"""LM Studio's REST interfaces (OpenAI-compatible `/v1`, its own `/api/v0` and `/api/v1`), and ours, `/api/lmstrix`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.engine.rest.errors import not_implemented
from lmstrix.engine.rest.memory import MemoryRoutes
from lmstrix.engine.rest.openai import OpenAiRoutes
from lmstrix.engine.rest.v0 import V0Routes
from lmstrix.engine.rest.v1 import V1Routes

if TYPE_CHECKING:
    from aiohttp import web

    from lmstrix.engine.state import EngineState

__all__ = ["add_rest_routes"]


def add_rest_routes(application: web.Application, state: EngineState) -> None:
    """Everything under /v1, /api/v0, /api/v1 and /api/lmstrix."""
    router = application.router
    for routes in (OpenAiRoutes(state), V0Routes(state), V1Routes(state), MemoryRoutes(state)):
        for method, path, handler in routes.table():
            router.add_route(method, path, handler)
    router.add_post("/v1/responses", not_implemented("openai", "use /v1/chat/completions"))
    router.add_post("/v1/messages", not_implemented("openai", "use /v1/chat/completions"))
    why = "put GGUF files into the models directory instead"
    router.add_post("/api/v1/models/download", not_implemented("v1", why))
    router.add_get("/api/v1/models/download/status/{job}", not_implemented("v1", why))
