"""What a running engine holds, asked of it over REST; with the standard library only, as a status must come at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, Final

from lmstrix.ground.errors import EngineError
from lmstrix.ground.text import one_line

if TYPE_CHECKING:
    from lmstrix.engine.records import ContextSource
    from lmstrix.engine.state_file import EngineStatus

_TIMEOUT_S: Final = 5.0
"""An engine that still reads its models folder answers this after that; a second or two for a thousand models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldModel:
    """A loaded model, and where its context length is from."""

    instance_id: str
    context_length: int
    context_source: ContextSource | None


def held_models(status: EngineStatus, *, api_token: str | None) -> tuple[HeldModel, ...] | None:
    """The loaded models, by name; None where the engine does not tell. Raises EngineError where it does not answer."""
    if not status.running or status.host is None:
        return None
    connection = HTTPConnection(status.host, status.port, timeout=_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {api_token}"} if api_token else {}
    try:
        connection.request("GET", "/api/v1/models", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            return None
        models: list[dict[str, Any]] = json.loads(body)["models"]
    except (OSError, HTTPException) as exc:
        raise EngineError(f"the engine does not answer ({one_line(exc)})") from exc
    except (ValueError, LookupError):
        return None
    finally:
        connection.close()
    held = [
        HeldModel(
            instance_id=instance["id"],
            context_length=instance["config"]["context_length"],
            # An engine of an earlier version, still running, does not say it.
            context_source=instance.get("context_source"),
        )
        for model in models
        for instance in model["loaded_instances"]
    ]
    return tuple(sorted(held, key=lambda each: each.instance_id))
