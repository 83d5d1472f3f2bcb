"""A server in virtual time that answers so many requests at a time and queues the others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.measuring import BenchServer
from lmstrix.ground.types import (
    Finished,
    GenerationRequest,
    GenerationResult,
    GenerationStats,
    LoadedModel,
    StreamEvent,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from lmstrix.ground.backend import LoadProgress
    from lmstrix.ground.errors import LMStrixError
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import Deadlines


@dataclass
class QueueingServer:
    """`slots` answers at a time, each taking `prefill_s` and then `token_s` per token; a token in every piece."""

    slots: int = 1
    prefill_s: float = 0.2
    token_s: float = 0.1
    fails_from: int | None = None
    failure: LMStrixError | None = None
    asked: list[GenerationRequest] = field(default_factory=list)
    loaded: dict[str, LoadConfig] = field(default_factory=dict)
    unloaded: list[str] = field(default_factory=list)
    _free: asyncio.Semaphore | None = None

    @property
    def capacity_per_s(self) -> float:
        """Requests per second at four tokens an answer."""
        return self.slots / (self.prefill_s + 4 * self.token_s)

    def server(self) -> BenchServer:
        return BenchServer(streams=self, loads=self, engine="embedded", address="192.0.2.1:1234")

    async def load(
        self,
        model_key: str,
        config: LoadConfig,
        *,
        instance_id: str,
        ttl_s: float | None = None,
        deadlines: Deadlines | None = None,
        on_progress: LoadProgress | None = None,
    ) -> LoadedModel:
        self.loaded[instance_id] = config
        return LoadedModel(
            instance_id=instance_id,
            instance_reference=instance_id,
            model_key=model_key,
            kind="llm",
            path=model_key,
            context_length=config.context_length or 4096,
            max_context_length=1 << 20,
        )

    async def unload(self, instance_id: str) -> None:
        self.unloaded.append(instance_id)

    async def stream(self, instance_id: str, request: GenerationRequest) -> AsyncGenerator[StreamEvent]:
        self.asked.append(request)
        if self.failure is not None and self.fails_from is not None and len(self.asked) >= self.fails_from:
            raise self.failure
        if self._free is None:
            self._free = asyncio.Semaphore(self.slots)
        tokens = request.max_tokens or 1
        async with self._free:
            await asyncio.sleep(self.prefill_s)
            for _ in range(tokens):
                await asyncio.sleep(self.token_s)
                yield TextDelta(text="tok ", tokens=1)
        stats = GenerationStats(
            stop_reason="maxPredictedTokensReached",
            prompt_tokens=len(request.messages[0].text) // 4,
            completion_tokens=tokens,
        )
        result = GenerationResult(
            text="tok " * tokens, stats=stats, model_key="m", instance_id=instance_id, context_length=4096
        )
        yield Finished(result=result)
