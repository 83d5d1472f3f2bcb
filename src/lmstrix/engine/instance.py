"""A loaded model under a name: what clients see of it, how long it stays, and its predictions."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.model import LlamaModel
from lmstrix.engine.llama.prediction import Prediction
from lmstrix.engine.llama.slots import Slots
from lmstrix.engine.records import LogEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine.llama.process import LlamaProcess
    from lmstrix.engine.records import (
        CatalogEntry,
        ContextSource,
        LoadSettings,
        LogType,
        PredictionInput,
        PredictionStats,
    )
    from lmstrix.engine.uploads import FileStore
    from lmstrix.ground.types import MemoryLimit


class Instance:
    """A loaded model. Made by the pool, which also unloads it; `settings` are effective, `context_length` is exact.

    `memory_bytes` is what was predicted, and so what it counts for against the engine's limit; `touched_later_bytes` is
    what its first prompt makes resident beside the compute buffer; its readings are of the kind `limited_by` names.
    `context_source` says where its context length is from.
    """

    def __init__(
        self,
        *,
        identifier: str,
        entry: CatalogEntry,
        settings: LoadSettings,
        process: LlamaProcess,
        memory_bytes: int,
        touched_later_bytes: int,
        limited_by: MemoryLimit,
        ttl_s: float | None,
        jit: bool,
        context_source: ContextSource,
        on_idle: Callable[[Instance], None],
        on_log: Callable[[LogEvent], None],
    ) -> None:
        self.identifier = identifier
        # An identifier may be given to another instance later; a reference always means this one.
        self.reference = f"i-{secrets.token_hex(12)}"
        self.slots = Slots(settings.parallel_slots, on_idle=lambda: on_idle(self), at_work=process.last_look.at_work)
        self.model = LlamaModel(entry, settings, process, self.slots)
        self.entry = entry
        self.settings = settings
        self.context_length = self.model.context_length
        self.process = process
        self.memory_bytes = memory_bytes
        self.touched_later_bytes = touched_later_bytes
        self.limited_by = limited_by
        self.ttl_s = ttl_s
        self.jit = jit
        self.context_source: ContextSource = context_source
        self._on_log = on_log

    def predict(self, request: PredictionInput, *, files: FileStore | None = None) -> Prediction:
        """Begin a prediction; iterate over what it returns."""
        if self.entry.kind != "llm":
            raise EngineFault(f"{self.entry.model_key} is an embedding model: it cannot predict", kind="invalid")
        return Prediction(self.model, request, files, self._log)

    def _log(self, kind: LogType, text: str, stats: PredictionStats | None) -> None:
        """Tell what goes in or came out."""
        self._on_log(
            LogEvent(
                type=kind,
                text=text,
                model_path=self.entry.path,
                identifier=self.identifier,
                instance_reference=self.reference,
                stats=stats,
            )
        )
