"""What streaming through LMStrix costs over the raw SDK: time to the first token, and the whole answer.

    python bench/streaming.py [runs]

The official SDK's blocking stream, our backend's under deadlines, `LMStrix.stream` and one of `AsyncLMStrix` ask the
same loaded model the same question, in turns and in shuffled order; medians are shown. The backend alone is what the
streaming itself costs; LMStrix also looks which instance serves, applies the chat template and counts the prompt before
it sends. The server runs as a process of its own. The model has the speed of a real one. Budgets: at most 5 ms more to
the first token, at most 3 % more time in all.

Then what the deadlines cost per event, in processor time over a stream in memory. Budget: 3 microseconds, which is 3 %
of the time between two tokens at 10,000 tokens per second.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import lmstudio
from lmstudio import LlmPredictionConfig
from tests.support.tiny_gguf_scripted import RAMBLE, scripted_model

from lmstrix import AsyncLMStrix, LMStrix
from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.core.answers.streaming import StreamingManager, Streams
from lmstrix.engine.daemon import start_engine, stop_engine
from lmstrix.engine.options import EngineOptions
from lmstrix.ground.types import Deadlines, GenerationRequest, Message, ServerInfo, StreamEvent, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

MODEL, QUESTION, TOKENS, CONTEXT_LENGTH = "real", "a story", 200, 2048
RAW = "SDK"
BUDGET_TTFT_MS, BUDGET_SHARE, BUDGET_EVENT_US = 5.0, 0.03, 3.0
EVENTS = 100_000


class Timing(NamedTuple):
    """One answer."""

    ttft_ms: float
    total_ms: float


def timed(pieces: Callable[[], Iterable[object]]) -> Timing:
    """Time from asking to the first piece, and to the end."""
    began_at = time.perf_counter()
    first_at = 0.0
    for _ in pieces():
        first_at = first_at or time.perf_counter()
    return Timing((first_at - began_at) * 1000, (time.perf_counter() - began_at) * 1000)


async def timed_async(pieces: AsyncIterator[object]) -> Timing:
    """The same for an asynchronous stream."""
    began_at = time.perf_counter()
    first_at = 0.0
    async for _ in pieces:
        first_at = first_at or time.perf_counter()
    return Timing((first_at - began_at) * 1000, (time.perf_counter() - began_at) * 1000)


def measure(address: str, home: Path, runs: int) -> dict[str, list[Timing]]:
    """Measure every way, each as often as the others."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        sdk = stack.enter_context(lmstudio.Client(address))
        lms = stack.enter_context(LMStrix(server=address, home=home))
        backend = AsyncLMStudioBackend(ServerInfo(address=address, engine="embedded"))
        lms.scan()
        instance_id = lms.load(MODEL, CONTEXT_LENGTH).instance_id
        asynchronous = AsyncLMStrix(server=address, home=home)
        handle = sdk.llm.model(instance_id)
        config = LlmPredictionConfig(max_tokens=TOKENS, temperature=0)
        request = GenerationRequest(messages=(Message(role="user", text=QUESTION),), max_tokens=TOKENS, temperature=0)
        ways: dict[str, Callable[[], Timing]] = {
            RAW: lambda: timed(lambda: handle.respond_stream(QUESTION, config=config)),
            "our backend": lambda: runner.run(timed_async(texts(backend, instance_id, request))),
            "LMStrix.stream": lambda: timed(
                lambda: lms.stream(QUESTION, MODEL, context_length=CONTEXT_LENGTH, max_tokens=TOKENS, temperature=0)
            ),
            "AsyncLMStrix.stream": lambda: runner.run(
                timed_async(
                    asynchronous.stream(
                        QUESTION, MODEL, context_length=CONTEXT_LENGTH, max_tokens=TOKENS, temperature=0
                    )
                )
            ),
        }
        found: dict[str, list[Timing]] = {}
        shuffled = random.Random(1)
        for run in range(runs + 1):
            for way in shuffled.sample(list(ways), len(ways)):
                result = ways[way]()
                if run:  # the first round warms up
                    found.setdefault(way, []).append(result)
        runner.run(asynchronous.close())
        runner.run(backend.close())
        lms.unload()
    return found


async def texts(backend: Streams, instance_id: str, request: GenerationRequest) -> AsyncIterator[TextDelta]:
    """The pieces of text, as LMStrix.stream picks them."""
    async for event in StreamingManager(backend).events(instance_id, request):
        if isinstance(event, TextDelta):
            yield event


class InMemory:
    """A stream of pieces that are there already, eight per packet."""

    async def stream(
        self,
        instance_id: str,  # noqa: ARG002 - as a backend is asked
        request: GenerationRequest,  # noqa: ARG002
    ) -> AsyncGenerator[StreamEvent]:
        piece = TextDelta(text="word ", tokens=1)
        for number in range(EVENTS):
            if number % 8 == 0:
                await asyncio.sleep(0)
            yield piece


async def event_us(events: AsyncIterator[StreamEvent]) -> float:
    """Processor time of one event, in microseconds."""
    began_s = time.process_time()
    async for _ in events:
        pass
    return (time.process_time() - began_s) / EVENTS * 1e6


def deadlines_us() -> float:
    """What the deadlines add to an event."""
    request, limits = GenerationRequest(raw_prompt=QUESTION), Deadlines(first_token_s=60, total_s=600)
    with asyncio.Runner() as runner:
        bare = min(runner.run(event_us(InMemory().stream("", request))) for _ in range(5))
        managed = StreamingManager(InMemory())
        return min(runner.run(event_us(managed.events("", request, deadlines=limits))) for _ in range(5)) - bare


def main(runs: int) -> int:
    """Measure, print the table; 1 when LMStrix.stream is over its budget."""
    with tempfile.TemporaryDirectory() as folder:
        models_dir, home = Path(folder) / "models", Path(folder) / "home"
        repository = models_dir / "bench" / MODEL
        repository.mkdir(parents=True)
        shutil.copy(scripted_model([RAMBLE], n_layers=16, feed_forward=2048), repository / f"{MODEL}.gguf")
        status = start_engine(home, EngineOptions(models_dir=models_dir))
        try:
            found = measure(str(status.address), home, runs)
        finally:
            stop_engine(home)
    medians = {way: Timing(*map(median, zip(*timings, strict=True))) for way, timings in found.items()}
    base = medians[RAW]
    print(f"medians of {runs}, {TOKENS} tokens; load average {os.getloadavg()[0]:.1f}")
    print("way                   TTFT ms   added  total ms   added")
    for way, timing in medians.items():
        added, share = timing.ttft_ms - base.ttft_ms, timing.total_ms / base.total_ms - 1
        print(f"{way:<20} {timing.ttft_ms:>8.2f} {added:>+7.2f} {timing.total_ms:>9.1f} {share:>+7.1%}")
    per_event_us = deadlines_us()
    print(f"deadlines: {per_event_us:.2f} microseconds per event")
    ours = medians["LMStrix.stream"]
    within = (
        per_event_us <= BUDGET_EVENT_US
        and ours.ttft_ms - base.ttft_ms <= BUDGET_TTFT_MS
        and ours.total_ms / base.total_ms - 1 <= BUDGET_SHARE
    )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 15))
