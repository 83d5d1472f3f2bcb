"""`/runtime`: the one engine there is, shown; changing engines is refused."""

from __future__ import annotations

import platform
import sys
from typing import Any, Final

from lmstrix.engine.identity import ENGINE_NAME, llama_version
from lmstrix.engine.protocol.endpoints.refusals import refusing
from lmstrix.engine.protocol.session import EndpointNamespace, RpcRequest

_WHY: Final = "The embedded engine has one runtime, installed with the Python package xllamacpp."
_MACHINES: Final = {"AMD64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}


def runtime_namespace() -> EndpointNamespace:
    """`/runtime`."""
    refused = refusing(_WHY, calls=("selectEngine", "removeEngine", "surveyHardware", "searchRuntimeExtensions"))
    return EndpointNamespace(
        calls={**refused.calls, "listEngines": list_engines, "getEngineSelections": get_engine_selections},
        channels=refusing(_WHY, channels=("downloadRuntimeExtension",)).channels,
    )


def _specifier() -> dict[str, Any]:
    machine = _MACHINES.get(platform.machine(), platform.machine())
    return {"name": f"{ENGINE_NAME}-{sys.platform}-{machine}-xllamacpp", "version": llama_version()}


async def list_engines(_request: RpcRequest) -> object:
    """The bundled llama.cpp."""
    return [
        {
            **_specifier(),
            "engine": ENGINE_NAME,
            "platform": sys.platform,
            "cpu": {"architecture": _MACHINES.get(platform.machine(), platform.machine())},
            "supportedModelFormatNames": ["GGUF"],
        }
    ]


async def get_engine_selections(_request: RpcRequest) -> object:
    """A map from format to engine, in the one encoding of the protocol that is not plain JSON."""
    return {"json": [["GGUF", _specifier()]], "meta": {"values": ["map"]}}
