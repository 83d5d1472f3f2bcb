"""LM Studio's hardware survey as the client reads it: recorded answers, our engine's, and servers that have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.api.discovery import find_server
from lmstrix.api.survey import hardware_survey
from lmstrix.engine import EmbeddedEngine
from lmstrix.ground.types import HardwareSurvey, SurveyedGraphics
from tests.engine.pools import scripted_models
from tests.support.faulty_server import FaultyServer

if TYPE_CHECKING:
    from pathlib import Path

# The figures of two machines in public reports to LM Studio: Windows with a Radeon AI PRO R9700 beside the graphics of
# the processor, whose "total" counts main memory, and a notebook with Intel's Iris Xe.
RADEON = {
    "name": "AMD Radeon AI PRO R9700",
    "deviceId": 0,
    "totalMemoryCapacityBytes": 67_312_091_136,
    "dedicatedMemoryCapacityBytes": 34_208_743_424,
    "integrationType": "Discrete",
    "detectionPlatform": "Vulkan",
    "detectionPlatformVersion": "1.3.283",
    "otherInfo": {"driverName": "AMD proprietary driver"},
}
RYZEN = RADEON | {
    "name": "AMD Radeon(TM) Graphics",
    "deviceId": 1,
    "totalMemoryCapacityBytes": 35_250_831_360,
    "dedicatedMemoryCapacityBytes": 23_590_076_416,
    "integrationType": "Integrated",
}
IRIS = RADEON | {
    "name": "Intel(R) Iris(R) Xe Graphics",
    "totalMemoryCapacityBytes": 8_507_097_088,
    "dedicatedMemoryCapacityBytes": 8_507_097_088,
    "integrationType": "integrated",
}


def engine(*gpus: dict[str, Any], code: str = "success", formats: tuple[str, ...] = ("GGUF",)) -> dict[str, Any]:
    return {
        "name": "llama.cpp-win-x86_64-vulkan-avx2",
        "engine": "llama.cpp",
        "supportedModelFormatNames": list(formats),
        "compatibility": {"status": "compatible"},
        "hardwareSurvey": {"gpuSurveyResult": {"result": {"code": code, "message": ""}, "gpuInfo": list(gpus)}},
        "memoryInfo": {"ramCapacity": 66_206_793_728, "vramCapacity": 34_208_743_424, "totalMemory": 100_415_537_152},
    }


def answer(*engines: dict[str, Any]) -> dict[str, Any]:
    return {"status": "ok", "engines": list(engines)}


def test_a_card_counts_with_its_own_memory_alone() -> None:
    survey = hardware_survey(answer(engine(RADEON, RYZEN, code="Success")))
    assert survey is not None
    assert [card.memory_bytes for card in survey.cards] == [34_208_743_424]
    assert [(device.name, device.integrated) for device in survey.graphics] == [
        ("AMD Radeon AI PRO R9700", False),
        ("AMD Radeon(TM) Graphics", True),
    ]
    assert (survey.main_memory_bytes, survey.working_set_bytes) == (66_206_793_728, 0)


def test_graphics_that_share_main_memory_are_no_card() -> None:
    survey = hardware_survey(answer(engine(IRIS)))
    assert survey is not None
    assert (survey.cards, survey.working_set_bytes, len(survey.graphics)) == ((), 0, 1)


def test_a_mac_tells_its_working_set() -> None:
    metal = IRIS | {"name": "Apple M1 Max", "detectionPlatform": "Metal", "dedicatedMemoryCapacityBytes": 0}
    survey = hardware_survey(answer(engine(metal)))
    assert survey is not None
    assert survey.working_set_bytes == 8_507_097_088


def test_the_runtime_for_gguf_files_counts() -> None:
    other = engine(IRIS, formats=("MLX",))
    survey = hardware_survey(answer(other, engine(code="noDevicesFound")))
    assert survey == HardwareSurvey(graphics=(), main_memory_bytes=66_206_793_728)
    alone = hardware_survey(answer(other))
    assert alone is not None
    assert len(alone.graphics) == 1


@pytest.mark.parametrize("code", ["error", "unset", "invalidDevice", ""])
def test_a_survey_that_failed_says_nothing(code: str) -> None:
    assert hardware_survey(answer(engine(code=code))) is None


@pytest.mark.parametrize("wrong", [None, [], {}, {"engines": None}, {"engines": [1]}, {"engines": [{}]}, "x"])
def test_an_answer_of_another_shape_says_nothing(wrong: Any) -> None:
    assert hardware_survey(wrong) is None


async def test_our_engine_is_asked_like_lm_studio(tmp_path: Path) -> None:
    with EmbeddedEngine(scripted_models(tmp_path)) as running:
        backend = AsyncLMStudioBackend(await find_server(running.address))
        try:
            survey = await backend.survey()
        finally:
            await backend.close()
    assert survey is not None
    assert survey.main_memory_bytes


async def test_a_server_is_asked_once_and_one_without_a_survey_is_no_error() -> None:
    with FaultyServer() as server:
        backend = AsyncLMStudioBackend(server.info)
        try:
            assert await backend.survey() is None
            asked = server.paths["/runtime"]
            assert await backend.survey() is None
            assert server.paths["/runtime"] == asked
            server.runtime = True
            again = AsyncLMStudioBackend(server.info)
            server.faults.answers["surveyHardware"] = answer(engine(RADEON))
            assert await again.survey() == HardwareSurvey(
                graphics=(
                    SurveyedGraphics(
                        name="AMD Radeon AI PRO R9700",
                        memory_bytes=34_208_743_424,
                        integrated=False,
                        found_by="Vulkan",
                    ),
                ),
                main_memory_bytes=66_206_793_728,
            )
            await again.close()
        finally:
            await backend.close()
