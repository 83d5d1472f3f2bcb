"""LM Studio's survey of its machine's hardware, read: what graphics its runtime has found, and how much memory.

One answer holds a survey per selected runtime. They are of one machine, and differ where a runtime for the processor
alone finds no graphics; the one for GGUF files counts, as the command line of LM Studio has it. Versions before 0.4
wrote the words of the answer with capitals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.api.convert import JsonView, count_of, list_of, mapping_or_none, object_of, text_of
from lmstrix.ground.types import HardwareSurvey, SurveyedGraphics

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SURVEY_S", "hardware_survey"]

SURVEY_S = 5.0
"""How long to wait: LM Studio has the answer at hand, and versions that do not know the question never answer."""


def hardware_survey(answer: Any) -> HardwareSurvey | None:
    """What the answer says; None where it says nothing of graphics."""
    listed = map(mapping_or_none, list_of(mapping_or_none(answer) or {}, "engines"))
    engines = [engine for engine in listed if engine is not None]
    chosen = min(engines, key=lambda engine: "GGUF" not in list_of(engine, "supportedModelFormatNames"), default=None)
    if chosen is None:
        return None
    result = object_of(object_of(chosen, "hardwareSurvey"), "gpuSurveyResult")
    code = _word(object_of(result, "result"), "code")
    # "error" and "unset" are no finding.
    if code not in ("success", "nodevicesfound"):
        return None
    return HardwareSurvey(
        graphics=tuple(_graphics(result)), main_memory_bytes=count_of(object_of(chosen, "memoryInfo"), "ramCapacity")
    )


def _graphics(result: JsonView) -> Iterator[SurveyedGraphics]:
    for item in list_of(result, "gpuInfo"):
        device = mapping_or_none(item) or {}
        # The total of a card counts main memory that its driver would use as well.
        memory_bytes = count_of(device, "dedicatedMemoryCapacityBytes") or count_of(device, "totalMemoryCapacityBytes")
        if memory_bytes:
            yield SurveyedGraphics(
                name=text_of(device, "name") or "graphics",
                memory_bytes=memory_bytes,
                integrated=_word(device, "integrationType") == "integrated",
                found_by=text_of(device, "detectionPlatform") or "unknown",
            )


def _word(source: JsonView, name: str) -> str:
    return (text_of(source, name) or "").casefold()
