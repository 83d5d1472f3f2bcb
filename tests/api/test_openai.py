"""The OpenAI backend against llama.cpp's own server, and against servers that misbehave byte by byte."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from statistics import median
from typing import TYPE_CHECKING

import pytest

from lmstrix.api.openai import AsyncOpenAIBackend
from lmstrix.api.openai_stream import MOST_EVENT_BYTES
from lmstrix.core.answers.streaming import StreamingManager
from lmstrix.core.benchmark.measuring import BenchServer
from lmstrix.core.benchmark.records import BenchRequest, BenchTarget
from lmstrix.core.benchmark.runner import Bench
from lmstrix.ground.errors import (
    AuthenticationError,
    BackendUnavailableError,
    ContextOverflowError,
    EmptyAnswerError,
    GenerationError,
    LMStrixError,
    ModelNotFoundError,
    StreamStalledError,
    UsageError,
)
from lmstrix.ground.types import Deadlines, Finished, GenerationRequest, Message, PromptProgress, TextDelta
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lmstrix.ground.types import GenerationResult, StreamEvent

LLAMA_SERVER = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.hostnames, params.port = sys.argv[1], 2048, ["127.0.0.1"], 0
params.n_parallel, params.fit_params, params.warmup = 1, False, False
params.cache_ram_mib, params.n_ctx_checkpoints = 0, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
SHORT = Deadlines(connect_s=2.0, request_s=5.0, first_token_s=5.0, between_tokens_s=5.0)
ASKED = GenerationRequest(messages=(Message(role="user", text="a story"),), max_tokens=50, temperature=0.0)


@pytest.fixture(scope="module")
def llama_server() -> Iterator[str]:
    """The URL of llama.cpp's server, in a process of its own."""
    file = scripted_model(n_layers=4, feed_forward=768, context_length=4096)
    with subprocess.Popen(
        [sys.executable, "-I", "-c", LLAMA_SERVER, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},  # threads that wait by spinning starve the others
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()
        process.kill()


async def events_of(backend: AsyncOpenAIBackend, request: GenerationRequest = ASKED) -> list[StreamEvent]:
    return [event async for event in StreamingManager(backend).events("model", request, deadlines=SHORT)]


async def result_of(backend: AsyncOpenAIBackend, request: GenerationRequest = ASKED) -> GenerationResult:
    last = (await events_of(backend, request))[-1]
    assert isinstance(last, Finished)
    return last.result


async def test_an_answer_of_llama_server(llama_server: str) -> None:
    backend = AsyncOpenAIBackend(f"openai:{llama_server}", deadlines=SHORT)
    assert backend.url == f"{llama_server}/v1"
    assert f"http://{backend.address}" == llama_server
    (offered,) = await backend.offered_models()
    assert await backend.list_models() == [offered.name]
    assert offered.quantization == "F16"
    assert offered.size_bytes
    assert (await backend.runtime() or "").startswith("llama.cpp ")
    events = await events_of(backend)
    assert any(isinstance(event, PromptProgress) for event in events)
    result = await result_of(backend)
    assert result.text.startswith("Once there was a river")
    assert result.stats.completion_tokens == 50
    assert result.stats.stop_reason == "maxPredictedTokensReached"
    assert result.stats.prompt_tokens
    assert result.stats.cached_tokens  # the same prompt as before
    assert result.stats.server_total_s is not None
    assert result.stats.total_s is not None
    assert 0 < result.stats.server_total_s <= result.stats.total_s
    raw = await result_of(backend, GenerationRequest(raw_prompt="2+3=", max_tokens=4, temperature=0.0))
    assert raw.text.startswith("5")
    await backend.close()


async def test_a_prompt_that_is_too_long_for_llama_server(llama_server: str) -> None:
    backend = AsyncOpenAIBackend(llama_server, deadlines=SHORT)
    with pytest.raises(ContextOverflowError) as caught:
        await events_of(backend, GenerationRequest(messages=(Message(role="user", text="word " * 3000),)))
    assert caught.value.context_length == 2048
    assert caught.value.prompt_tokens is not None
    assert caught.value.prompt_tokens > 2048
    await backend.close()


async def test_a_benchmark_takes_llama_servers_timings(llama_server: str) -> None:
    """Fields and tokens; how closely both clocks agree is measured by bench/bench_agreement.py."""
    backend = AsyncOpenAIBackend(llama_server, deadlines=SHORT)
    server = BenchServer(streams=backend, loads=None, engine="openai", address=backend.address)
    target = BenchTarget(model_key="model", path="model")
    report = await Bench(server, [target], BenchRequest(runs=3, tiers=(1024,), max_tokens=200), power_sources=()).run()
    await backend.close()
    (cell,) = report.cells
    assert cell.outcome == "ok", cell.reason
    assert cell.loads == ()
    for run in cell.runs:
        (figures,) = run.requests
        assert figures.cached_tokens == 0
        assert figures.completion_tokens == 200
        assert figures.ttft_s is not None
        assert figures.server_ttft_s is not None
        assert figures.server_total_s is not None
        assert figures.decode_tokens_per_second is not None
        assert 0 < figures.server_ttft_s < figures.server_total_s
        assert figures.server_prefill_tokens_per_second is not None
        assert figures.prompt_tokens is not None
        assert figures.prompt_tokens / figures.server_prefill_tokens_per_second == pytest.approx(figures.server_ttft_s)
        assert figures.server_decode_tokens_per_second is not None
        decode_s = figures.server_total_s - figures.server_ttft_s
        assert figures.server_decode_tokens_per_second == pytest.approx(200 / decode_s, rel=0.01)
        assert min(figures.ttft_s, figures.decode_tokens_per_second) > 0
    assert median(figures.prompt_tokens or 0 for run in cell.runs for figures in run.requests) == pytest.approx(
        cell.cell.prompt_tokens, rel=0.03
    )


# --- servers that misbehave -----------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def piece(text: str, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **more}]}


@asynccontextmanager
async def answering(*parts: bytes, hang: bool = False) -> AsyncIterator[AsyncOpenAIBackend]:
    """A backend on a server that answers every request with these bytes, and then closes or hangs."""
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        if hang:
            await released.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    backend = AsyncOpenAIBackend(f"http://127.0.0.1:{port}", deadlines=SHORT)
    try:
        async with asyncio.timeout(20):
            yield backend
    finally:
        released.set()
        await backend.close()
        server.close()
        await server.wait_closed()


async def test_events_cut_anywhere_are_read() -> None:
    stream = (
        b": a comment\r\n\r\n"
        + sse(piece(""), {"choices": [{"delta": {"reasoning_content": "hm\u00e9"}}]}, piece("a\u2028b"))
        + b'data: {"choices":\r\ndata: [{"delta": {"content": "\\ud83d"}, "finish_reason": "stop"}]}\r\n\r\n'
        + sse({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}})
        + b"data: [DONE]\n\ndata: never read"
    )
    parts = [stream[start : start + 3] for start in range(0, len(stream), 3)]
    async with answering(OK, *parts) as backend:
        events = await events_of(backend)
    deltas = [(event.text, event.reasoning) for event in events if isinstance(event, TextDelta)]
    assert deltas == [("hmé", True), ("a\u2028b", False), ("\ud83d", False)]
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.result.text, last.result.reasoning) == ("a\u2028b\ud83d", "hmé")
    assert last.result.stats.stop_reason == "eosFound"
    assert (last.result.stats.prompt_tokens, last.result.stats.completion_tokens) == (7, 3)
    assert last.result.stats.cached_tokens is None


async def test_a_stream_without_done_is_whole_when_it_says_why_it_ended() -> None:
    async with answering(OK, sse(piece("a"), piece("b", finish_reason="length")).rstrip()) as backend:
        result = await result_of(backend)
    assert result.text == "ab"
    assert result.stats.completion_tokens is None  # nobody counted


def refusal(status: str, body: object) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (refusal("401 Unauthorized", {"error": {"message": "no key"}}), AuthenticationError),
        (refusal("404 Not Found", {"error": "no such model"}), ModelNotFoundError),
        (refusal("503 Busy", {"error": {"message": "Loading model"}}), BackendUnavailableError),
        (refusal("500 Oops", b"<html>oops</html>"), GenerationError),
        (refusal("400 Bad", {"error": {"code": "context_length_exceeded", "message": "long"}}), ContextOverflowError),
        (OK, EmptyAnswerError),
        (OK + b"data: [DONE]\n\n", EmptyAnswerError),
        (OK + sse(piece("cut")), GenerationError),
        (OK + sse(piece("then"), {"error": {"message": "CUDA error"}}), GenerationError),
        (OK + b"data: {nonsense\n\n", BackendUnavailableError),
        (OK + b"data: " + b"[" * 200_000 + b"\n\n", BackendUnavailableError),
        (b"SSH-2.0-OpenSSH\r\n", BackendUnavailableError),
        (b"", BackendUnavailableError),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + sse(piece("half")),
            BackendUnavailableError,
        ),
    ],
)
async def test_what_goes_wrong_has_its_own_failure(answer: bytes, failure: type[LMStrixError]) -> None:
    async with answering(answer) as backend:
        with pytest.raises(failure) as caught:
            await events_of(backend)
    assert type(caught.value) is failure
    assert "\n" not in str(caught.value)


async def test_a_flood_without_a_line_is_refused() -> None:
    async with answering(OK, b"data: ", *[b"x" * 2**20] * (MOST_EVENT_BYTES // 2**20 + 2)) as backend:
        with pytest.raises(BackendUnavailableError, match="cannot be read"):
            await events_of(backend)


@pytest.mark.parametrize(
    ("parts", "stage"),
    [((), "first token"), ((OK,), "first token"), ((OK, sse(piece("a"))), "between tokens")],
)
async def test_a_server_that_hangs_is_left(parts: tuple[bytes, ...], stage: str) -> None:
    async with answering(*parts, hang=True) as backend:
        limits = Deadlines(first_token_s=0.3, between_tokens_s=0.3)
        with pytest.raises(StreamStalledError) as caught:
            async for _ in StreamingManager(backend).events("model", ASKED, deadlines=limits):
                pass
    assert caught.value.stage == stage
    assert caught.value.partial_text == ("a" if stage == "between tokens" else "")


async def test_nobody_there_is_told() -> None:
    async with answering() as backend:
        pass
    gone = AsyncOpenAIBackend(backend.url, deadlines=SHORT)
    with pytest.raises(BackendUnavailableError):
        await events_of(gone)
    with pytest.raises(BackendUnavailableError):
        await gone.list_models()
    await gone.close()


@pytest.mark.parametrize("url", ["openai:", "127.0.0.1:8080", "ftp://host/v1", "http:///v1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        AsyncOpenAIBackend(url)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "base", "address"),
    [
        ("http://localhost:8080", "http://localhost:8080/v1", "localhost:8080"),
        ("openai:https://example.org/api/v1/", "https://example.org/api/v1", "example.org:443"),
        ("http://[::1]:9/v1", "http://[::1]:9/v1", "[::1]:9"),
    ],
)
def test_urls_are_completed(url: str, base: str, address: str) -> None:
    backend = AsyncOpenAIBackend(url)
    assert (backend.url, backend.address) == (base, address)
