"""LMStrix finds the real context limit of every local language model, remembers it, and uses it everywhere.

The public names, loaded when they are first used: importing lmstrix imports no SDK.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for it would take a third of the time of `lmstrix --version`
if TYPE_CHECKING:
    from lmstrix.core.answers.batch import BatchItem, BatchOutcome, BatchProgress, BatchReport
    from lmstrix.core.answers.recommend import Advice, Candidate, Recommendation, Wish
    from lmstrix.core.answers.request import DryRun, InferRequest
    from lmstrix.core.benchmark.compare import BenchComparison, Comparison
    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.benchmark.records import BenchReport, BenchRequest, Cell, CellResult, RequestFigures, RunRecord
    from lmstrix.core.benchmark.stats import Summary
    from lmstrix.core.context.eta import TimeLeft
    from lmstrix.core.context.report import ContextOutcome, ContextReport, ModelTest, PlannedTest, Step
    from lmstrix.core.health import Check, DoctorReport, ModelReport
    from lmstrix.core.history import BenchRun
    from lmstrix.core.history.calls import CallRecord, CallStatistics, LoggedCall
    from lmstrix.core.history.timeline import HistoryEvent
    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.monitoring import MonitoredModel, MonitorSnapshot
    from lmstrix.core.prompts.library import PromptTemplate, RenderedPrompt
    from lmstrix.core.prompts.lint import LintFinding
    from lmstrix.core.registry.defaults import DefaultsChange, SavedDefaults
    from lmstrix.core.registry.listing import ScanReport
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import Configuration, ContextResult
    from lmstrix.core.vectors.records import (
        AddedTexts,
        AddProgress,
        CollectionInfo,
        EmbeddedPart,
        FailedEntry,
        Match,
    )
    from lmstrix.engine import EmbeddedEngine
    from lmstrix.ground.choices import (
        BenchTask,
        CacheType,
        Precision,
        Preference,
        ReportFormat,
        SortKey,
        TestOrder,
        WorkKind,
    )
    from lmstrix.ground.downloads import Download
    from lmstrix.ground.errors import (
        AuthenticationError,
        BackendTimeoutError,
        BackendUnavailableError,
        ChatTemplateError,
        ContextOverflowError,
        EmptyAnswerError,
        EngineCrashedError,
        EngineDiedError,
        EngineError,
        GenerationError,
        GgufError,
        HeadroomError,
        HistoryError,
        InvalidAnswerError,
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
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.trust import TrustedFolder
    from lmstrix.ground.types import (
        Deadlines,
        Finished,
        GenerationResult,
        GenerationStats,
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
    from lmstrix.python.benches import AsyncBenches, Benches
    from lmstrix.python.chat import AsyncChat, Chat
    from lmstrix.python.client import LMStrix
    from lmstrix.python.collections import AsyncCollections, Collections
    from lmstrix.python.logs import AsyncLogs, Logs
    from lmstrix.python.prompts import AsyncPrompts, Prompts
    from lmstrix.python.results import ActResult, InferenceResult
    from lmstrix.python.trusted import AsyncTrusted, Trusted
    from lmstrix.service.due_tests import ContextTestRequest
    from lmstrix.service.getting import GotModel
    from lmstrix.service.histories import ModelHistory
    from lmstrix.service.powering import PowerReport
    from lmstrix.service.scanning import Forget

_ERRORS = (
    "AuthenticationError BackendTimeoutError BackendUnavailableError ChatTemplateError ContextOverflowError "
    "EmptyAnswerError EngineCrashedError EngineDiedError EngineError GenerationError GgufError HeadroomError "
    "HistoryError InvalidAnswerError LMStrixError LoadRefusedError LoadTimeoutError ModelLoadError ModelNotFoundError "
    "ModelUnloadedError OutOfMemoryError PromptError RegistryError SettingsError StreamStalledError "
    "TimeLimitError UsageError"
)
_TYPES = (
    "Deadlines Finished GenerationResult GenerationStats LoadedModel Message PromptProgress StreamEvent "
    "TextDelta ToolAnswered ToolCall ToolCallEvent ToolDefinition"
)
_HOMES = {
    "lmstrix.core.answers.batch": "BatchItem BatchOutcome BatchProgress BatchReport",
    "lmstrix.core.answers.recommend": "Advice Candidate Recommendation Wish",
    "lmstrix.core.answers.request": "DryRun InferRequest",
    "lmstrix.core.benchmark.compare": "BenchComparison Comparison",
    "lmstrix.core.benchmark.events": "BenchEvent",
    "lmstrix.core.benchmark.records": "BenchReport BenchRequest Cell CellResult RequestFigures RunRecord",
    "lmstrix.core.benchmark.stats": "Summary",
    "lmstrix.core.context.eta": "TimeLeft",
    "lmstrix.core.context.report": "ContextOutcome ContextReport ModelTest PlannedTest Step",
    "lmstrix.core.health": "Check DoctorReport ModelReport",
    "lmstrix.core.history": "BenchRun",
    "lmstrix.core.history.calls": "CallRecord CallStatistics LoggedCall",
    "lmstrix.core.history.timeline": "HistoryEvent",
    "lmstrix.core.memory.estimate": "EstimateReport",
    "lmstrix.core.monitoring": "MonitorSnapshot MonitoredModel",
    "lmstrix.core.prompts.library": "PromptTemplate RenderedPrompt",
    "lmstrix.core.prompts.lint": "LintFinding",
    "lmstrix.core.registry.defaults": "DefaultsChange SavedDefaults",
    "lmstrix.core.registry.listing": "ScanReport",
    "lmstrix.core.registry.records": "ModelRecord",
    "lmstrix.core.registry.results": "Configuration ContextResult",
    "lmstrix.core.vectors.records": "AddedTexts AddProgress CollectionInfo EmbeddedPart FailedEntry Match",
    "lmstrix.engine": "EmbeddedEngine",
    "lmstrix.ground.downloads": "Download",
    "lmstrix.ground.loads": "LoadConfig",
    "lmstrix.ground.trust": "TrustedFolder",
    "lmstrix.ground.version": "__version__",
    "lmstrix.python.aio": "AsyncLMStrix",
    "lmstrix.python.chat": "AsyncChat Chat",
    "lmstrix.earlier.client": "LMStrix",  # the one of lmstrix.python.client, which also knows what it was called once
    "lmstrix.python.results": "ActResult InferenceResult",
    "lmstrix.service.due_tests": "ContextTestRequest",
    "lmstrix.service.getting": "GotModel",
    "lmstrix.service.histories": "ModelHistory",
    "lmstrix.service.powering": "PowerReport",
    "lmstrix.ground.choices": "BenchTask CacheType Precision Preference ReportFormat SortKey TestOrder WorkKind",
    "lmstrix.service.scanning": "Forget",
    "lmstrix.python.benches": "AsyncBenches Benches",
    "lmstrix.python.collections": "AsyncCollections Collections",
    "lmstrix.python.logs": "AsyncLogs Logs",
    "lmstrix.python.prompts": "AsyncPrompts Prompts",
    "lmstrix.python.trusted": "AsyncTrusted Trusted",
    "lmstrix.ground.errors": _ERRORS,
    "lmstrix.ground.types": _TYPES,
}

__all__ = [
    "ActResult",
    "AddProgress",
    "AddedTexts",
    "Advice",
    "AsyncBenches",
    "AsyncChat",
    "AsyncCollections",
    "AsyncLMStrix",
    "AsyncLogs",
    "AsyncPrompts",
    "AsyncTrusted",
    "AuthenticationError",
    "BackendTimeoutError",
    "BackendUnavailableError",
    "BatchItem",
    "BatchOutcome",
    "BatchProgress",
    "BatchReport",
    "BenchComparison",
    "BenchEvent",
    "BenchReport",
    "BenchRequest",
    "BenchRun",
    "BenchTask",
    "Benches",
    "CacheType",
    "CallRecord",
    "CallStatistics",
    "Candidate",
    "Cell",
    "CellResult",
    "Chat",
    "ChatTemplateError",
    "Check",
    "CollectionInfo",
    "Collections",
    "Comparison",
    "Configuration",
    "ContextOutcome",
    "ContextOverflowError",
    "ContextReport",
    "ContextResult",
    "ContextTestRequest",
    "Deadlines",
    "DefaultsChange",
    "DoctorReport",
    "Download",
    "DryRun",
    "EmbeddedEngine",
    "EmbeddedPart",
    "EmptyAnswerError",
    "EngineCrashedError",
    "EngineDiedError",
    "EngineError",
    "EstimateReport",
    "FailedEntry",
    "Finished",
    "Forget",
    "GenerationError",
    "GenerationResult",
    "GenerationStats",
    "GgufError",
    "GotModel",
    "HeadroomError",
    "HistoryError",
    "HistoryEvent",
    "InferRequest",
    "InferenceResult",
    "InvalidAnswerError",
    "LMStrix",
    "LMStrixError",
    "LintFinding",
    "LoadConfig",
    "LoadRefusedError",
    "LoadTimeoutError",
    "LoadedModel",
    "LoggedCall",
    "Logs",
    "Match",
    "Message",
    "ModelHistory",
    "ModelLoadError",
    "ModelNotFoundError",
    "ModelRecord",
    "ModelReport",
    "ModelTest",
    "ModelUnloadedError",
    "MonitorSnapshot",
    "MonitoredModel",
    "OutOfMemoryError",
    "PlannedTest",
    "PowerReport",
    "Precision",
    "Preference",
    "PromptError",
    "PromptProgress",
    "PromptTemplate",
    "Prompts",
    "Recommendation",
    "RegistryError",
    "RenderedPrompt",
    "ReportFormat",
    "RequestFigures",
    "RunRecord",
    "SavedDefaults",
    "ScanReport",
    "SettingsError",
    "SortKey",
    "Step",
    "StreamEvent",
    "StreamStalledError",
    "Summary",
    "TestOrder",
    "TextDelta",
    "TimeLeft",
    "TimeLimitError",
    "ToolAnswered",
    "ToolCall",
    "ToolCallEvent",
    "ToolDefinition",
    "Trusted",
    "TrustedFolder",
    "UsageError",
    "Wish",
    "WorkKind",
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


class _EarlierModules:
    """Modules of LMStrix 1 that are no longer there; asked only for what was found nowhere else."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> object:
        if not name.startswith("lmstrix."):
            return None
        from lmstrix.earlier.modules import find_spec

        return find_spec(name)


def _know_earlier_modules() -> None:
    import sys

    sys.meta_path.append(_EarlierModules)  # type: ignore[arg-type]  # importing the types would slow every start


_know_earlier_modules()
