"""StreamingManager: to be replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lmstrix.ground.types import Finished

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import Deadlines, GenerationRequest, GenerationResult, StreamEvent


class StreamingManager:
    def __init__(self, backend: ModelBackend) -> None:
        self._backend = backend

    def events(
        self, instance_id: str, request: GenerationRequest, *, deadlines: Deadlines | None = None
    ) -> AsyncGenerator[StreamEvent]:
        return cast("AsyncGenerator[StreamEvent]", self._backend.stream(instance_id, request, deadlines=deadlines))

    async def result(
        self, instance_id: str, request: GenerationRequest, *, deadlines: Deadlines | None = None
    ) -> GenerationResult:
        async for event in self.events(instance_id, request, deadlines=deadlines):
            if isinstance(event, Finished):
                return event.result
        raise AssertionError("a stream ends with Finished, or raises")
