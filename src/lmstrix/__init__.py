"""LMStrix finds the real context limit of every local language model, remembers it, and uses it everywhere.

The public names, loaded when they are first used: importing lmstrix imports no SDK.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for it would take a third of the time of `lmstrix --version`
if TYPE_CHECKING:
    from lmstrix.core.answers.batch import BatchReport
    from lmstrix.core.answers.recommend import Advice, Wish
    from lmstrix.core.context.report import ContextOutcome, ContextReport
    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.registry.listing import ScanReport
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import Configuration, ContextResult
    from lmstrix.engine import EmbeddedEngine
    from lmstrix.ground.errors import (
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
        TimeLimitError,
        UsageError,
    )
    from lmstrix.ground.types import (
        Deadlines,
        Finished,
        GenerationStats,
        LoadConfig,
        LoadedModel,
        Message,
        PromptProgress,
        StreamEvent,
        TextDelta,
        ToolAnswered,
        ToolCall,
        ToolCallEvent,
        ToolDefinition,
    )
    from lmstrix.ground.version import __version__
    from lmstrix.python.aio import AsyncLMStrix
    from lmstrix.python.chat import AsyncChat, Chat
    from lmstrix.python.client import LMStrix
    from lmstrix.python.results import ActResult, InferenceResult
    from lmstrix.service.due_tests import ContextTestRequest

_ERRORS = (
    "AuthenticationError BackendTimeoutError BackendUnavailableError ContextOverflowError EmptyAnswerError "
    "EngineCrashedError EngineDiedError EngineError GenerationError GgufError HistoryError LMStrixError "
    "LoadRefusedError LoadTimeoutError ModelLoadError ModelNotFoundError ModelUnloadedError OutOfMemoryError "
    "PromptError RegistryError "
    "SettingsError StreamStalledError TimeLimitError UsageError"
)
_TYPES = (
    "Deadlines Finished GenerationStats LoadConfig LoadedModel Message PromptProgress StreamEvent TextDelta "
    "ToolAnswered ToolCall ToolCallEvent ToolDefinition"
)
_HOMES = {
    "lmstrix.ground.version": "__version__",
    "lmstrix.python.client": "LMStrix",
    "lmstrix.python.aio": "AsyncLMStrix",
    "lmstrix.python.chat": "AsyncChat Chat",
    "lmstrix.python.results": "ActResult InferenceResult",
    "lmstrix.engine": "EmbeddedEngine",
    "lmstrix.ground.errors": _ERRORS,
    "lmstrix.ground.types": _TYPES,
    "lmstrix.core.registry.records": "ModelRecord",
    "lmstrix.core.registry.results": "Configuration ContextResult",
    "lmstrix.core.answers.batch": "BatchReport",
    "lmstrix.core.answers.recommend": "Advice Wish",
    "lmstrix.core.registry.listing": "ScanReport",
    "lmstrix.core.context.report": "ContextOutcome ContextReport",
    "lmstrix.core.memory.estimate": "EstimateReport",
    "lmstrix.service.due_tests": "ContextTestRequest",
}

__all__ = [
    "ActResult",
    "Advice",
    "AsyncChat",
    "AsyncLMStrix",
    "AuthenticationError",
    "BackendTimeoutError",
    "BackendUnavailableError",
    "BatchReport",
    "Chat",
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
    "TimeLimitError",
    "ToolAnswered",
    "ToolCall",
    "ToolCallEvent",
    "ToolDefinition",
    "UsageError",
    "Wish",
    "__version__",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names.split():
            from importlib import import_module

            return getattr(import_module(home), name)
    raise AttributeError(f"module 'lmstrix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
