"""`/runtime` `surveyHardware`: the machine as the one engine here can use it, in LM Studio's shape.

What counts is what this build of llama.cpp computes on. Cards that are in the machine and that it cannot use are no
devices of it; they are named in the message, so that nobody takes a build for the processor alone for a missing driver.
Capacities, not what is free: that is what LM Studio answers, and `/api/lmstrix/memory` tells the rest.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmstrix.engine.llama.idle import IdleChild, UsableGraphics

_ARCHITECTURES: Final = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "ARM64", "aarch64": "ARM64"}
_EXTENSIONS: Final = {"AVX": "AVX", "AVX2": "AVX2", "NEON": "AdvSIMD"}
"""llama.cpp's names of the processor features that LM Studio knows, and LM Studio's."""
_PLATFORMS: Final = {"CUDA": "CUDA", "ROCm": "ROCm", "Vulkan": "Vulkan", "MTL": "Metal", "Metal": "Metal"}
"""How llama.cpp's names of devices begin, and what LM Studio calls what finds them."""

_SUCCESS: Final = {"code": "success", "message": ""}
_NO_CHILD: Final = "No process with llama.cpp can be started here."


def hardware_survey(
    engine: Mapping[str, Any], idle: IdleChild | None, *, memory_bytes: int, unused: Sequence[str]
) -> dict[str, Any]:
    """The answer for `engine`, as `listEngines` describes it; `unused` are the cards that it cannot use."""
    graphics = idle.graphics if idle is not None else ()
    card_bytes = sum(device.total_bytes for device in graphics)
    return {
        "status": "ok" if idle is not None else "noCompatibleBackends",
        "engines": [
            {
                **{name: engine[name] for name in ("name", "version", "engine", "platform")},
                "supportedModelFormatNames": engine["supportedModelFormatNames"],
                "compatibility": _compatibility(idle),
                "hardwareSurvey": {
                    "gpuSurveyResult": {"result": _graphics_result(idle, unused), "gpuInfo": _listed(graphics)},
                    "cpuSurveyResult": {"result": _SUCCESS, "cpuInfo": _processor(idle)},
                },
                # The sum is LM Studio's, also where the two are one memory.
                "memoryInfo": {
                    "ramCapacity": memory_bytes,
                    "vramCapacity": card_bytes,
                    "totalMemory": memory_bytes + card_bytes,
                },
            }
        ],
    }


def _compatibility(idle: IdleChild | None) -> dict[str, str]:
    if idle is None:
        return {"status": "errorSurveyingHardware", "message": _NO_CHILD}
    return {"status": "compatible"}


def _graphics_result(idle: IdleChild | None, unused: Sequence[str]) -> dict[str, str]:
    if idle is None:
        return {"code": "error", "message": _NO_CHILD}
    if idle.graphics:
        return _SUCCESS
    cards = f"; it cannot use {', '.join(unused)}" if unused else ""
    return {"code": "noDevicesFound", "message": f"This build of llama.cpp finds no graphics to compute on{cards}."}


def _listed(graphics: Sequence[UsableGraphics]) -> list[dict[str, Any]]:
    return [_device(index, device) for index, device in enumerate(graphics)]


def _device(index: int, device: UsableGraphics) -> dict[str, Any]:
    found_by = next((told for begins, told in _PLATFORMS.items() if device.backend.startswith(begins)), "unknown")
    return {
        "name": device.name,
        "deviceId": index,
        "totalMemoryCapacityBytes": device.total_bytes,
        "dedicatedMemoryCapacityBytes": device.total_bytes,
        # llama.cpp takes Apple's graphics for a card, though their memory is the machine's.
        "integrationType": "integrated" if device.integrated or found_by == "Metal" else "discrete",
        "detectionPlatform": found_by,
        "detectionPlatformVersion": "",
        "otherInfo": {"llamaCppDevice": device.backend},
    }


def _processor(idle: IdleChild | None) -> dict[str, Any]:
    # A line such as "CPU : SSE3 = 1 | AVX = 1 | AVX512 = 0 | ".
    fields = idle.system_info.split("|") if idle is not None else []
    present = {field.split("=")[0].split(":")[-1].strip() for field in fields if field.strip().endswith("= 1")}
    return {
        "architecture": _ARCHITECTURES.get(platform.machine().lower(), "unknown"),
        "supportedInstructionSetExtensions": [told for name, told in _EXTENSIONS.items() if name in present],
    }
