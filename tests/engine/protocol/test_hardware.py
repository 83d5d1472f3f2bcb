"""What `surveyHardware` says of machines this one is not, in the words of LM Studio's schema."""

from __future__ import annotations

import pytest

from lmstrix.engine.llama.idle import IdleChild, UsableGraphics
from lmstrix.engine.protocol.endpoints.hardware import hardware_survey

GIB = 2**30
ENGINE = {
    "name": "llama.cpp-linux-x86_64-xllamacpp",
    "version": "1",
    "engine": "llama.cpp",
    "platform": "linux",
    "cpu": {"architecture": "x86_64"},
    "supportedModelFormatNames": ["GGUF"],
}
SYSTEM = "CUDA : ARCHS = 890 | CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | AVX512 = 0 | "


def card(backend: str, *, integrated: bool = False) -> UsableGraphics:
    return UsableGraphics(
        backend=backend, name=f"the {backend}", integrated=integrated, total_bytes=8 * GIB, free_bytes=6 * GIB
    )


@pytest.mark.parametrize(
    ("backend", "told"),
    [("CUDA0", "CUDA"), ("ROCm1", "ROCm"), ("Vulkan0", "Vulkan"), ("MTL0", "Metal"), ("SYCL0", "unknown")],
)
def test_each_device_has_its_memory_and_what_found_it(backend: str, told: str) -> None:
    idle = IdleChild(address_space_bytes=0, graphics=(card(backend), card("Vulkan9", integrated=True)))
    (engine,) = hardware_survey(ENGINE, idle, memory_bytes=32 * GIB, unused=())["engines"]
    first, second = engine["hardwareSurvey"]["gpuSurveyResult"]["gpuInfo"]
    assert (first["name"], first["deviceId"], first["detectionPlatform"]) == (f"the {backend}", 0, told)
    assert first["totalMemoryCapacityBytes"] == first["dedicatedMemoryCapacityBytes"] == 8 * GIB
    assert (second["deviceId"], second["integrationType"]) == (1, "integrated")
    assert engine["memoryInfo"] == {"ramCapacity": 32 * GIB, "vramCapacity": 16 * GIB, "totalMemory": 48 * GIB}
    assert "cpu" not in engine


def test_a_build_for_the_processor_alone_names_the_cards_it_cannot_use() -> None:
    idle = IdleChild(address_space_bytes=0, system_info=SYSTEM)
    survey = hardware_survey(ENGINE, idle, memory_bytes=32 * GIB, unused=("NVIDIA GeForce RTX 4090", "Intel card0"))
    (engine,) = survey["engines"]
    assert engine["hardwareSurvey"]["gpuSurveyResult"] == {
        "result": {
            "code": "noDevicesFound",
            "message": "This build of llama.cpp finds no graphics to compute on; it cannot use "
            "NVIDIA GeForce RTX 4090, Intel card0.",
        },
        "gpuInfo": [],
    }
    assert engine["hardwareSurvey"]["cpuSurveyResult"]["cpuInfo"]["supportedInstructionSetExtensions"] == [
        "AVX",
        "AVX2",
    ]
    assert engine["memoryInfo"]["vramCapacity"] == 0


def test_an_engine_that_cannot_start_says_so() -> None:
    survey = hardware_survey(ENGINE, None, memory_bytes=GIB, unused=())
    assert survey["status"] == "noCompatibleBackends"
    assert survey["engines"][0]["compatibility"]["status"] == "errorSurveyingHardware"
    assert survey["engines"][0]["hardwareSurvey"]["gpuSurveyResult"]["result"]["code"] == "error"
