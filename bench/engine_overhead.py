"""What the engine costs over bare llama.cpp: time to the first token and tokens per second, by every way to ask it.

    python bench/engine_overhead.py [runs]

Bare is llama.cpp's own HTTP server in a child process of this script, asked for the same streamed chat. The engine runs
as a process of its own. The ways take turns, in an order that rotates, so that a busy machine slows all alike;
medians are shown. Two models that say the same: one as fast as llama.cpp gets, where the front is the limit, and one
with the speed of a real model. Budgets: at most 3 ms more to the first token, at least 95 % of the rate of the real
one, at least 5,000 tokens per second.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import aiohttp
import lmstudio
import psutil
from tests.support.tiny_gguf_scripted import RAMBLE, scripted_model

from lmstrix.engine.daemon import start_engine, stop_engine
from lmstrix.engine.estimate import default_threads
from lmstrix.engine.options import EngineOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from lmstrix.engine.state_file import EngineStatus

CONTEXT_LENGTH = 2048
MODELS: dict[str, Any] = {
    "fast": {"shape": {}, "tokens": 1000},
    "real": {"shape": {"n_layers": 16, "feed_forward": 2048}, "tokens": 200},
}
QUESTION = "a story"
BARE = "bare llama.cpp, HTTP"
BARE_SERVER = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.hostnames, params.port = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"], 0
params.n_parallel, params.fit_params, params.warmup = 1, False, False
params.cache_ram_mib, params.n_ctx_checkpoints = 0, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[3])
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
threading.Event().wait()
"""
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


class Timing(NamedTuple):
    """One streamed answer. `front_us` is processor time of the engine's front, children apart, per token."""

    ttft_ms: float
    tokens_per_second: float
    front_us: float = 0.0


def timing(began_at: float, first_at: float, last_at: float, tokens: int) -> Timing:
    """The figures, from the moments of sending, of the first token and of the last."""
    return Timing((first_at - began_at) * 1000, (tokens - 1) / (last_at - first_at))


async def http(session: aiohttp.ClientSession, model: str, tokens: int) -> Timing:
    """An OpenAI chat: llama.cpp's own, or the engine's."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "max_tokens": tokens,
        "temperature": 0,
    }
    began_at = time.perf_counter()
    first_at = last_at = 0.0
    async with session.post("/v1/chat/completions", json=body) as answer:
        async for line in answer.content:
            if b'"content":"' in line:
                last_at = time.perf_counter()
                first_at = first_at or last_at
    return timing(began_at, first_at, last_at, tokens)


async def websocket(socket: aiohttp.ClientWebSocketResponse, channel: int, model: str, tokens: int) -> Timing:
    """The engine, frames read by hand."""
    fields = [
        {"key": "llm.prediction.maxPredictedTokens", "value": {"checked": True, "value": tokens}},
        {"key": "llm.prediction.temperature", "value": 0},
    ]
    parameter = {
        "modelSpecifier": {"type": "query", "query": {"identifier": model}},
        "history": {"messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]},
        "predictionConfigStack": {"layers": [{"layerName": "apiOverride", "config": {"fields": fields}}]},
    }
    began_at = time.perf_counter()
    await socket.send_json(
        {"type": "channelCreate", "endpoint": "predict", "channelId": channel, "creationParameter": parameter}
    )
    first_at = last_at = 0.0
    while True:
        text = await socket.receive_str()
        if '"fragment"' in text:
            last_at = time.perf_counter()
            first_at = first_at or last_at
        elif '"channelClose"' in text:
            return timing(began_at, first_at, last_at, tokens)


def sdk(client: lmstudio.Client, model: str, tokens: int) -> Timing:
    """The official SDK, blocking."""
    handle = client.llm.model(model)
    began_at = time.perf_counter()
    first_at = last_at = 0.0
    for _ in handle.respond_stream(QUESTION, config={"maxTokens": tokens, "temperature": 0}):
        last_at = time.perf_counter()
        first_at = first_at or last_at
    return timing(began_at, first_at, last_at, tokens)


async def async_sdk(client: lmstudio.AsyncClient, model: str, tokens: int) -> Timing:
    """The official SDK, asynchronous."""
    handle = await client.llm.model(model)
    began_at = time.perf_counter()
    first_at = last_at = 0.0
    async for _ in await handle.respond_stream(QUESTION, config={"maxTokens": tokens, "temperature": 0}):
        last_at = time.perf_counter()
        first_at = first_at or last_at
    return timing(began_at, first_at, last_at, tokens)


@contextmanager
def bare_server(file: Path, threads: int) -> Iterator[str]:
    """llama.cpp's server on a model; its address."""
    words = [sys.executable, "-I", "-c", BARE_SERVER, str(file), str(CONTEXT_LENGTH), str(threads)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **ENVIRONMENT}
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def measure(status: EngineStatus, file: Path, name: str, tokens: int, runs: int) -> dict[str, list[Timing]]:
    """Measure every way, in turns."""
    found: dict[str, list[Timing]] = {}
    threads = default_threads(file.stat().st_size)
    address, front = str(status.address), psutil.Process(status.pid)
    async with AsyncExitStack() as stack:
        bare_address = stack.enter_context(bare_server(file, threads))
        bare = await stack.enter_async_context(aiohttp.ClientSession(bare_address))
        engine = await stack.enter_async_context(aiohttp.ClientSession(f"http://{address}"))
        socket = await stack.enter_async_context(engine.ws_connect("/llm"))
        await socket.send_json({"authVersion": 1, "clientIdentifier": "bench", "clientPasskey": ""})
        await socket.receive_json()
        asynchronous = await stack.enter_async_context(lmstudio.AsyncClient(address))
        blocking = stack.enter_context(lmstudio.Client(address))
        channels = itertools.count()
        config: lmstudio.LlmLoadModelConfigDict = {"contextLength": CONTEXT_LENGTH}
        await asynchronous.llm.load_new_instance(name, config=config)
        ways: dict[str, Callable[[], Awaitable[Timing]]] = {
            BARE: lambda: http(bare, name, tokens),
            "engine, websocket": lambda: websocket(socket, next(channels), name, tokens),
            "engine, REST": lambda: http(engine, name, tokens),
            "engine, SDK": lambda: asyncio.to_thread(sdk, blocking, name, tokens),
            "engine, async SDK": lambda: async_sdk(asynchronous, name, tokens),
        }
        for run in range(runs + 1):
            order = list(ways)
            for way in order[run % len(order) :] + order[: run % len(order)]:
                before_s = sum(front.cpu_times()[:2])
                result = await ways[way]()
                spent_us = (sum(front.cpu_times()[:2]) - before_s) * 1e6
                result = result._replace(front_us=spent_us / tokens)
                if run:  # the first round warms up
                    found.setdefault(way, []).append(result)
        await asynchronous.llm.unload(name)
    return found


def row(found: Timing, base: Timing) -> str:
    """The figures of one way, beside those of llama.cpp alone."""
    added, share = found.ttft_ms - base.ttft_ms, found.tokens_per_second / base.tokens_per_second
    return f"{found.ttft_ms:>8.2f} {added:>+7.2f} {found.tokens_per_second:>8.0f} {share:>8.0%} {found.front_us:>13.0f}"


def main(runs: int) -> None:
    """Measure both models, print one table."""
    with tempfile.TemporaryDirectory() as folder:
        models_dir, home = Path(folder) / "models", Path(folder) / "home"
        for name, model in MODELS.items():
            repository = models_dir / "bench" / name
            repository.mkdir(parents=True)
            shutil.copy(scripted_model([RAMBLE], **model["shape"]), repository / f"{name}.gguf")
        status = start_engine(home, EngineOptions(models_dir=models_dir))
        try:
            print(f"medians of {runs}; load average {os.getloadavg()[0]:.1f}")
            print("model  way                   TTFT ms   added    tok/s  of bare  front us/tok")
            for name, model in MODELS.items():
                file = models_dir / "bench" / name / f"{name}.gguf"
                found = asyncio.run(measure(status, file, name, model["tokens"], runs))
                medians = {way: Timing(*map(median, zip(*timings, strict=True))) for way, timings in found.items()}
                for way in sorted(medians):
                    print(f"{name:<6} {way:<20} {row(medians[way], medians[BARE])}")
        finally:
            stop_engine(home)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
