"""Asynchronous steps on a blocking backend, without an event loop.

A coroutine that awaits only calls which never suspend runs to its end in one go. So steps written once against
`AsyncModelBackend` serve blocking callers too: `Unsuspended` makes each blocking call look asynchronous, and
`run_unsuspended` runs the coroutine. Traded away: such steps may await nothing else (no sleep, no other task).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from lmstrix.backend import LoadProgress, ModelBackend
    from lmstrix.types import (
        Deadlines,
        GenerationRequest,
        GenerationResult,
        LoadConfig,
        LoadedModel,
        Message,
        ModelInfo,
        ModelKind,
        ResourceEstimate,
        ServerInfo,
        StreamEvent,
        ToolDefinition,
    )

T = TypeVar("T")


def run_unsuspended(steps: Coroutine[None, None, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError("these steps wait for something other than the blocking backend")


class Unsuspended:
    """A blocking backend as an AsyncModelBackend whose calls are done when they return."""

    def __init__(self, backend: ModelBackend) -> None:
        self._backend = backend

    @property
    def server(self) -> ServerInfo:
        return self._backend.server

    async def list_downloaded(self) -> list[ModelInfo]:
        return self._backend.list_downloaded()

    async def list_loaded(self) -> list[LoadedModel]:
        return self._backend.list_loaded()

    async def load(
        self,
        model_key: str,
        config: LoadConfig,
        *,
        instance_id: str,
        kind: ModelKind = "llm",
        ttl_s: float | None = None,
        deadlines: Deadlines | None = None,
        on_progress: LoadProgress | None = None,
    ) -> LoadedModel:
        return self._backend.load(
            model_key,
            config,
            instance_id=instance_id,
            kind=kind,
            ttl_s=ttl_s,
            deadlines=deadlines,
            on_progress=on_progress,
        )

    async def unload(self, instance_id: str, *, kind: ModelKind = "llm") -> None:
        self._backend.unload(instance_id, kind=kind)

    async def stream(
        self, instance_id: str, request: GenerationRequest, *, deadlines: Deadlines | None = None
    ) -> AsyncIterator[StreamEvent]:
        for event in self._backend.stream(instance_id, request, deadlines=deadlines):
            yield event

    async def generate(
        self, instance_id: str, request: GenerationRequest, *, deadlines: Deadlines | None = None
    ) -> GenerationResult:
        return self._backend.generate(instance_id, request, deadlines=deadlines)

    async def count_tokens(self, instance_id: str, text: str) -> int:
        return self._backend.count_tokens(instance_id, text)

    async def tokenize(self, instance_id: str, text: str) -> list[int]:
        return self._backend.tokenize(instance_id, text)

    async def apply_template(
        self, instance_id: str, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> str:
        return self._backend.apply_template(instance_id, messages, tools=tools)

    async def embed(self, instance_id: str, texts: Sequence[str]) -> list[list[float]]:
        return self._backend.embed(instance_id, texts)

    async def estimate(self, model_key: str, config: LoadConfig) -> ResourceEstimate:
        return self._backend.estimate(model_key, config)

    async def close(self) -> None:
        self._backend.close()
