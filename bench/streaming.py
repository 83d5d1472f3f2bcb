"""What streaming through LMStrix costs over the raw SDK: time to the first token, and the whole answer.

    python bench/streaming.py [runs]

The official SDK's blocking stream, our backend's, `LMStrix.stream` and one of `AsyncLMStrix` ask the same loaded model
the same question, in turns and in shuffled order; medians are shown. The backend alone is what the streaming
itself costs; LMStrix also looks which instance serves, applies the chat template and counts the prompt before it sends.
The server runs as a process of its own. The model has the speed of a real one. Budgets: at most 5 ms more to the first
token, at most 3 % more time in all.
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
from tests.support.tiny_gguf_scripted import RAMBLE, scripted_model

from lmstrix import AsyncLMStrix, LMStrix
from lmstrix.api.blocking import LMStudioBackend
from lmstrix.engine.daemon import start_engine, stop_engine
from lmstrix.engine.server import EngineOptions
from lmstrix.ground.types import GenerationRequest, Message, ServerInfo, TextDelta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MODEL, QUESTION, TOKENS, CONTEXT_LENGTH = "real", "a story", 200, 2048
RAW = "SDK"
BUDGET_TTFT_MS, BUDGET_SHARE = 5.0, 0.03


class Timing(NamedTuple):
    """One answer."""

    ttft_ms: float
    total_ms: float


def timed(pieces: Callable[[], Iterable[object]]) -> Timing:
    """From asking to the first piece and to the end."""
    began_at = time.perf_counter()
    first_at = 0.0
    for _ in pieces():
        first_at = first_at or time.perf_counter()
    return Timing((first_at - began_at) * 1000, (time.perf_counter() - began_at) * 1000)


async def timed_async(lms: AsyncLMStrix) -> Timing:
    """The same on a loop."""
    began_at = time.perf_counter()
    first_at = 0.0
    async for _ in lms.stream(QUESTION, MODEL, in_ctx=CONTEXT_LENGTH, out_ctx=TOKENS, temperature=0):
        first_at = first_at or time.perf_counter()
    return Timing((first_at - began_at) * 1000, (time.perf_counter() - began_at) * 1000)


def measure(address: str, home: Path, runs: int) -> dict[str, list[Timing]]:
    """Every way, as often as the others."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        sdk = stack.enter_context(lmstudio.Client(address))
        lms = stack.enter_context(LMStrix(server=address, home=home))
        backend = stack.enter_context(LMStudioBackend(ServerInfo(address=address, engine="embedded")))
        lms.scan()
        instance_id = lms.load(MODEL, CONTEXT_LENGTH).instance_id
        asynchronous = AsyncLMStrix(server=address, home=home)
        handle = sdk.llm.model(instance_id)
        config: lmstudio.LlmPredictionConfigDict = {"maxTokens": TOKENS, "temperature": 0}
        request = GenerationRequest(messages=(Message(role="user", text=QUESTION),), max_tokens=TOKENS, temperature=0)
        ways: dict[str, Callable[[], Timing]] = {
            RAW: lambda: timed(lambda: handle.respond_stream(QUESTION, config=config)),
            "our backend": lambda: timed(lambda: texts(backend, instance_id, request)),
            "LMStrix.stream": lambda: timed(
                lambda: lms.stream(QUESTION, MODEL, in_ctx=CONTEXT_LENGTH, out_ctx=TOKENS, temperature=0)
            ),
            "AsyncLMStrix.stream": lambda: runner.run(timed_async(asynchronous)),
        }
        found: dict[str, list[Timing]] = {}
        shuffled = random.Random(1)
        for run in range(runs + 1):
            for way in shuffled.sample(list(ways), len(ways)):
                result = ways[way]()
                if run:  # the first round warms up
                    found.setdefault(way, []).append(result)
        runner.run(asynchronous.close())
        lms.unload()
    return found


def texts(backend: LMStudioBackend, instance_id: str, request: GenerationRequest) -> Iterable[TextDelta]:
    """The pieces of text, as LMStrix.stream picks them."""
    return (event for event in backend.stream(instance_id, request) if isinstance(event, TextDelta))


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
    ours = medians["LMStrix.stream"]
    within = ours.ttft_ms - base.ttft_ms <= BUDGET_TTFT_MS and ours.total_ms / base.total_ms - 1 <= BUDGET_SHARE
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 15))
