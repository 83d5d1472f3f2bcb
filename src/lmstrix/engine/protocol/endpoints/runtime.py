"""`/runtime`: the one engine there is and what it can compute on, shown; changing engines is refused."""

from __future__ import annotations

import asyncio
import platform
import sys
from typing import TYPE_CHECKING, Any, Final

from lmstrix.core.memory.host import read_host_memory
from lmstrix.engine.identity import ENGINE_NAME, llama_version
from lmstrix.engine.protocol.endpoints.hardware import hardware_survey
from lmstrix.engine.protocol.endpoints.refusals import refusing
from lmstrix.engine.protocol.session import EndpointNamespace, RpcRequest

if TYPE_CHECKING:
    from lmstrix.engine.state import EngineState

_WHY: Final = "The embedded engine has one runtime, installed with the Python package xllamacpp."
_MACHINES: Final = {"AMD64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}


def runtime_namespace(state: EngineState) -> EndpointNamespace:
    """`/runtime`."""

    # The scope that clients may send chooses between engines, of which there is one.
    async def survey_hardware(_request: RpcRequest) -> object:
        """What this engine can compute on, read anew each time."""
        idle = await state.pool.idle_child()
        # Asking the drivers may take as long as their slowest tool.
        host = await asyncio.to_thread(read_host_memory)
        unused = (
            () if idle is not None and idle.graphics else (*(card.name for card in host.gpus), *host.unreadable_gpus)
        )
        return hardware_survey(_engine(), idle, memory_bytes=host.total_bytes, unused=unused)

    refused = refusing(_WHY, calls=("selectEngine", "removeEngine", "searchRuntimeExtensions"))
    return EndpointNamespace(
        calls={
            **refused.calls,
            "listEngines": list_engines,
            "getEngineSelections": get_engine_selections,
            "surveyHardware": survey_hardware,
        },
        channels=refusing(_WHY, channels=("downloadRuntimeExtension",)).channels,
    )


def _specifier() -> dict[str, Any]:
    machine = _MACHINES.get(platform.machine(), platform.machine())
    return {"name": f"{ENGINE_NAME}-{sys.platform}-{machine}-xllamacpp", "version": llama_version()}


def _engine() -> dict[str, Any]:
    return {
        **_specifier(),
        "engine": ENGINE_NAME,
        "platform": sys.platform,
        "cpu": {"architecture": _MACHINES.get(platform.machine(), platform.machine())},
        "supportedModelFormatNames": ["GGUF"],
    }


async def list_engines(_request: RpcRequest) -> object:
    """The bundled llama.cpp."""
    return [_engine()]


async def get_engine_selections(_request: RpcRequest) -> object:
    """A map from format to engine, in the one encoding of the protocol that is not plain JSON."""
    return {"json": [["GGUF", _specifier()]], "meta": {"values": ["map"]}}
