"""The endpoints of every websocket namespace: `namespaces(state)` gives them by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.engine.protocol.endpoints.diagnostics import diagnostics_namespace
from lmstrix.engine.protocol.endpoints.files import files_namespace
from lmstrix.engine.protocol.endpoints.models import embedding_namespace, llm_namespace
from lmstrix.engine.protocol.endpoints.refusals import plugins_namespace, repository_namespace
from lmstrix.engine.protocol.endpoints.runtime import runtime_namespace
from lmstrix.engine.protocol.endpoints.system import system_namespace

if TYPE_CHECKING:
    from lmstrix.engine.protocol.session import EndpointNamespace
    from lmstrix.engine.state import EngineState

__all__ = ["namespaces"]


def namespaces(state: EngineState) -> dict[str, EndpointNamespace]:
    """Every namespace by its name, which is its path without the slash."""
    return {
        "llm": llm_namespace(state),
        "embedding": embedding_namespace(state),
        "system": system_namespace(state),
        "files": files_namespace(state),
        "diagnostics": diagnostics_namespace(state),
        "runtime": runtime_namespace(state),
        "repository": repository_namespace(),
        "plugins": plugins_namespace(),
    }
