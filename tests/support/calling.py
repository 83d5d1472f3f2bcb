"""A backend on a portal of its own, for tests that look at a server from blocking code."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.api.portal import Portal
from lmstrix.core.answers.streaming import StreamingManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import Deadlines, GenerationRequest, GenerationResult, ServerInfo, StreamEvent


class Caller(NamedTuple):
    """`portal.run(backend.…)`, and predictions in short."""

    portal: Portal
    backend: ModelBackend
    deadlines: Deadlines | None

    def result(
        self, instance_id: str, request: GenerationRequest, *, deadlines: Deadlines | None = None
    ) -> GenerationResult:
        streaming = StreamingManager(self.backend)
        return self.portal.run(streaming.result(instance_id, request, deadlines=deadlines or self.deadlines))

    def events(self, instance_id: str, request: GenerationRequest) -> Iterator[StreamEvent]:
        return self.portal.iterate(
            StreamingManager(self.backend).events(instance_id, request, deadlines=self.deadlines)
        )


@contextmanager
def calling(server: ServerInfo, *, deadlines: Deadlines | None = None) -> Iterator[Caller]:
    """A client of `server`, closed in the end."""
    portal = Portal()
    backend = AsyncLMStudioBackend(server, deadlines=deadlines)
    try:
        yield Caller(portal, backend, deadlines)
    finally:
        portal.close(last=backend.close())
