"""LMStrix finds the real context limit of every local language model, remembers it, and uses it everywhere.

The public names, loaded when they are first used: importing lmstrix imports no SDK.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "2.0.0"

if TYPE_CHECKING:
    from lmstrix.core.context.tester import ContextOutcome
    from lmstrix.core.registry import Configuration, ContextResult, ModelRecord
    from lmstrix.core.results import ContextReport, EstimateReport, ScanReport
    from lmstrix.engine import EmbeddedEngine
    from lmstrix.errors import (
        AuthenticationError,
        BackendTimeoutError,
        BackendUnavailableError,
        ContextOverflowError,
        EmptyAnswerError,
        EngineCrashedError,
        EngineDiedError,
        EngineError,
        GenerationError,
        GgufError,
        HistoryError,
        LMStrixError,
        LoadRefusedError,
        LoadTimeoutError,
        ModelLoadError,
        ModelNotFoundError,
        ModelUnloadedError,
        OutOfMemoryError,
        PromptError,
        RegistryError,
        SettingsError,
        StreamStalledError,
        UsageError,
    )
    from lmstrix.service.testing import ContextTestRequest
    from lmstrix.toolkit import AsyncLMStrix, InferenceResult, LMStrix
    from lmstrix.types import (
        Deadlines,
        Finished,
        GenerationStats,
        LoadConfig,
        LoadedModel,
        Message,
        PromptProgress,
        StreamEvent,
        TextDelta,
        ToolCall,
        ToolCallEvent,
        ToolDefinition,
    )

_ERRORS = (
    "AuthenticationError BackendTimeoutError BackendUnavailableError ContextOverflowError EmptyAnswerError "
    "EngineCrashedError EngineDiedError EngineError GenerationError GgufError HistoryError LMStrixError "
    "LoadRefusedError LoadTimeoutError ModelLoadError ModelNotFoundError ModelUnloadedError OutOfMemoryError "
    "PromptError RegistryError "
    "SettingsError StreamStalledError UsageError"
)
_TYPES = (
    "Deadlines Finished GenerationStats LoadConfig LoadedModel Message PromptProgress StreamEvent TextDelta ToolCall "
    "ToolCallEvent ToolDefinition"
)
_HOMES = {
    "lmstrix.toolkit": "AsyncLMStrix InferenceResult LMStrix",
    "lmstrix.engine": "EmbeddedEngine",
    "lmstrix.errors": _ERRORS,
    "lmstrix.types": _TYPES,
    "lmstrix.core.registry": "Configuration ContextResult ModelRecord",
    "lmstrix.core.results": "ContextReport EstimateReport ScanReport",
    "lmstrix.core.context.tester": "ContextOutcome",
    "lmstrix.service.testing": "ContextTestRequest",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AsyncLMStrix",
    "AuthenticationError",
    "BackendTimeoutError",
    "BackendUnavailableError",
    "Configuration",
    "ContextOutcome",
    "ContextOverflowError",
    "ContextReport",
    "ContextResult",
    "ContextTestRequest",
    "Deadlines",
    "EmbeddedEngine",
    "EmptyAnswerError",
    "EngineCrashedError",
    "EngineDiedError",
    "EngineError",
    "EstimateReport",
    "Finished",
    "GenerationError",
    "GenerationStats",
    "GgufError",
    "HistoryError",
    "InferenceResult",
    "LMStrix",
    "LMStrixError",
    "LoadConfig",
    "LoadRefusedError",
    "LoadTimeoutError",
    "LoadedModel",
    "Message",
    "ModelLoadError",
    "ModelNotFoundError",
    "ModelRecord",
    "ModelUnloadedError",
    "OutOfMemoryError",
    "PromptError",
    "PromptProgress",
    "RegistryError",
    "ScanReport",
    "SettingsError",
    "StreamEvent",
    "StreamStalledError",
    "TextDelta",
    "ToolCall",
    "ToolCallEvent",
    "ToolDefinition",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'lmstrix' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
