"""Failures as REST bodies: `error` is always an object with type and message, and the status says whose fault it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeAlias

from aiohttp import web

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.json_text import JsonTextError, read_json
from lmstrix.engine.state import LogHub
from lmstrix.ground.log_text import failure_text

Family: TypeAlias = Literal["openai", "v1"]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOGS: Final = web.AppKey("lmstrix-logs", LogHub)
"""Where an application keeps the log of its engine."""

_STATUS: Final = {
    "not_found": 404,
    "invalid": 400,
    "unsupported": 400,
    "overflow": 400,
    "refused": 400,
    "timeout": 408,
    "load_failed": 500,
    "crashed": 500,
    "unloaded": 503,
    "not_implemented": 501,
}
_CODE: Final = {
    "not_found": "model_not_found",
    "overflow": "context_length_exceeded",
    "refused": "model_load_failed",
    "load_failed": "model_load_failed",
    "crashed": "model_crashed",
    "unloaded": "model_unloaded",
}


def status_of(fault: EngineFault) -> int:
    """The HTTP status of a failure."""
    return _STATUS.get(fault.kind, 500)


def error_body(fault: EngineFault, family: Family) -> dict[str, Any]:
    """The body of a failure. All that is known goes into the message: there is no other place clients show."""
    message = " ".join(text for text in (fault.title, fault.cause, fault.suggestion) if text)
    error: dict[str, Any] = {"type": _type_of(fault, family), "message": message}
    # Only where OpenAI has a code for it: clients branch on those they know.
    if fault.kind in _CODE:
        error["code"] = _CODE[fault.kind]
    if fault.kind == "not_found":
        error["param"] = "model"
    if fault.error_data is not None:
        error["data"] = fault.error_data
    return {"error": error}


def _type_of(fault: EngineFault, family: Family) -> str:
    status = status_of(fault)
    if fault.kind == "not_implemented":
        return "not_implemented"
    # Each family has words of its own for the same two cases: whose fault it was.
    if family == "openai":
        return "invalid_request_error" if status < 500 else "server_error"
    if fault.kind == "not_found":
        return "model_not_found"
    return "invalid_request" if status < 500 else "internal_error"


def error_response(status: int, error_type: str, message: str, *, code: str | None = None) -> web.Response:
    """A failure that is not a model's."""
    error = {"type": error_type, "message": message, **({"code": code} if code else {})}
    return web.json_response({"error": error}, status=status)


def answering(family: Family, handler: Handler) -> Handler:
    """`handler`, with every failure turned into a body of its family."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except EngineFault as fault:
            return web.json_response(error_body(fault, family), status=status_of(fault))
        except web.HTTPRequestEntityTooLarge:
            too_large = EngineFault("The request body is too large.", kind="invalid")
            return web.json_response(error_body(too_large, family), status=413)
        except ConnectionError:  # the client is gone
            raise
        except Exception as exc:  # noqa: BLE001 - the edge of a request: it must be answered, whatever broke
            request.app[LOGS].server(f"endpoint {request.path} failed: {failure_text(exc)}", "error")
            internal = EngineFault("Internal error.", kind="internal", cause=f"{type(exc).__name__}: {exc}")
            return web.json_response(error_body(internal, family), status=500)

    return answer


def not_implemented(family: Family, instead: str) -> Handler:
    """A handler for what this engine does not have."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        raise EngineFault(
            f"{request.path} is not implemented by the embedded engine: {instead}.", kind="not_implemented"
        )

    return answering(family, refuse)


async def read_body(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request."""
    try:
        body = read_json((await request.read()).decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise EngineFault("The request body is not valid JSON: it is not UTF-8.", kind="invalid") from exc
    except JsonTextError as exc:
        raise EngineFault(f"The request body is no JSON that can be read: {exc}.", kind="invalid") from exc
    if not isinstance(body, dict):
        raise EngineFault("The request body must be a JSON object.", kind="invalid")
    return body
