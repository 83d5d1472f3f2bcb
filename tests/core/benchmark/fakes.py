"""A backend in memory whose models answer as a test says: with delays, failures, floods, nothing at all."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.measuring import BenchServer
from lmstrix.core.benchmark.records import BenchTarget
from lmstrix.ground.errors import ContextOverflowError, LMStrixError, ModelNotFoundError
from lmstrix.ground.types import (
    Finished,
    GenerationRequest,
    GenerationResult,
    GenerationStats,
    LoadedModel,
    PromptProgress,
    StreamEvent,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from lmstrix.core.benchmark.records import BenchReport
    from lmstrix.core.benchmark.runner import Bench
    from lmstrix.ground.backend import LoadProgress
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import Deadlines

CHARS_PER_TOKEN = 4
TEMPLATE_TOKENS = 6
LATENCY_S = 0.001
UNSTEADINESS = 0.005  # from answer to answer


def count(text: str) -> int:
    return len(text) // CHARS_PER_TOKEN + TEMPLATE_TOKENS


@dataclass
class FakeModel:
    """How a model behaves. `pieces` None gives as many one-token pieces as asked for; `cached` None says nothing."""

    load_s: float = 0.0
    token_s: float = 0.0
    prefill_s: float = 2 * LATENCY_S
    pieces: list[TextDelta] | None = None
    cached: int | None = 0
    load_failure: LMStrixError | None = None
    fails_at: dict[int, LMStrixError] = field(default_factory=dict)
    hangs_at: int | None = None
    reduced_to: int | None = None
    raw_prompts: bool = True
    answers: int = 0


class SteppedClock:
    """Time that passes only where a fake says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeBackend:
    """Streams and loads; what is loaded and what was asked can be looked at. Without a `clock` it takes real time."""

    def __init__(self, models: dict[str, FakeModel], *, clock: SteppedClock | None = None) -> None:
        self.models = models
        self.clock = clock
        self.loaded: dict[str, LoadedModel] = {}
        self.loads: list[tuple[str, LoadConfig]] = []
        self.requests: list[tuple[str, GenerationRequest]] = []
        self.ttls_s: list[float | None] = []
        self.closed = False
        self.on_hang: Callable[[], None] = lambda: None

    async def pause(self, seconds: float) -> None:
        if self.clock is None:
            await asyncio.sleep(seconds)
            return
        self.clock.now += seconds
        await asyncio.sleep(0)

    async def close(self) -> None:
        self.closed = True

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
        model = self.models[model_key]
        self.loads.append((model_key, config))
        self.ttls_s.append(ttl_s)
        await self.pause(model.load_s)
        if on_progress is not None:
            on_progress(0.5)
        if model.load_failure is not None:
            raise model.load_failure
        self.loaded[instance_id] = LoadedModel(
            instance_id=instance_id,
            instance_reference=instance_id,
            model_key=model_key,
            kind="llm",
            path=model_key,
            context_length=model.reduced_to or config.context_length or 4096,
            max_context_length=1 << 20,
        )
        return self.loaded[instance_id]

    async def unload(self, instance_id: str) -> None:
        del self.loaded[instance_id]

    async def stream(self, instance_id: str, request: GenerationRequest) -> AsyncGenerator[StreamEvent]:
        instance = self.loaded[instance_id]
        model = self.models[instance.model_key]
        self.requests.append((instance.model_key, request))
        prompt = request.raw_prompt or request.messages[0].text
        latency_probe = request.raw_prompt is not None
        if latency_probe and not model.raw_prompts:
            raise ModelNotFoundError("no such path")
        if request.max_tokens == 1 and not latency_probe:
            latency_probe = True
        elif not latency_probe:
            model.answers += 1
            if model.answers in model.fails_at:
                raise model.fails_at[model.answers]
            if model.answers == model.hangs_at:
                self.on_hang()
                await asyncio.sleep(3600)
        prompt_tokens = count(prompt)
        if prompt_tokens + (request.max_tokens or 0) > instance.context_length:
            raise ContextOverflowError("too long", prompt_tokens=prompt_tokens, context_length=instance.context_length)
        yield PromptProgress(ratio=0.0)
        await self.pause(LATENCY_S + (0.0 if latency_probe else model.prefill_s))
        wanted = request.max_tokens or 1
        pieces = model.pieces if model.pieces is not None else [TextDelta(text="tok ", tokens=1)] * wanted
        token_s = model.token_s * (1 + UNSTEADINESS * (model.answers % 5))
        for piece in pieces:
            yield piece
            await self.pause(token_s)
        stats = GenerationStats(
            stop_reason="maxPredictedTokensReached",
            prompt_tokens=prompt_tokens,
            completion_tokens=sum(piece.tokens for piece in pieces),
            cached_tokens=model.cached,
        )
        text = "".join(piece.text for piece in pieces if not (piece.reasoning or piece.structural))
        yield Finished(
            result=GenerationResult(
                text=text, stats=stats, model_key=instance.model_key, instance_id=instance_id, context_length=4096
            )
        )


def run_to_report(bench: Bench) -> BenchReport:
    """As a command line does: Ctrl-C cancels the session, and what was measured is reported."""
    with suppress(KeyboardInterrupt):
        asyncio.run(bench.run())
    return bench.report()


def server_of(backend: FakeBackend) -> BenchServer:
    """On another machine, so that neither power nor memory is looked at."""
    return BenchServer(streams=backend, loads=backend, engine="embedded", address="192.0.2.1:1234")


def target(model_key: str, *, tested: int | None = 65536) -> BenchTarget:
    return BenchTarget(model_key=model_key, path=f"acme/{model_key}.gguf", tested_context_length=tested)
