"""How closely `lmstrix bench` agrees with llama.cpp's own clock: time to the first token, and decode speed.

    python -m bench.bench_agreement [runs]

The benchmark measures at the client; llama.cpp measures inside. Two servers are asked the same way: the embedded
engine and llama.cpp's own HTTP server, both of which send llama.cpp's figures with each answer. A difference is what
the way in between costs, or an error of the benchmark. The model makes about a thousand tokens per second, so that
this way does not outweigh it. A busy machine delays the client more than llama.cpp, so the calmest run is judged.
Budgets: 3 % for each figure; the first millisecond before the first token is the way itself, and is free.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.tiny_gguf_scripted import scripted_model

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.api.openai import AsyncOpenAIBackend
from lmstrix.core.benchmark.measuring import BenchServer
from lmstrix.core.benchmark.records import BenchRequest, BenchTarget
from lmstrix.core.benchmark.runner import Bench
from lmstrix.engine import EmbeddedEngine
from lmstrix.ground.types import ServerInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.core.benchmark.records import BenchReport, RequestFigures

BUDGET_RATIO = 0.03
FREE_S = 0.001
CONTEXT_LENGTH = 4096
PROMPT_TOKENS = 1024
MAX_TOKENS = 200
PATH = "acme/slow-GGUF/slow-f16.gguf"
LLAMA_SERVER = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.hostnames, params.port = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"], 0
params.n_parallel, params.fit_params, params.warmup = 1, False, False
params.cache_ram_mib, params.n_ctx_checkpoints = 0, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


class Pair(NamedTuple):
    """One run, measured by the benchmark and by llama.cpp."""

    ttft_s: float
    server_ttft_s: float
    decode_tokens_per_second: float
    server_decode_tokens_per_second: float

    @property
    def ttft_off_ratio(self) -> float:
        return max(0.0, abs(self.ttft_s - self.server_ttft_s) - FREE_S) / self.server_ttft_s

    @property
    def decode_off_ratio(self) -> float:
        return abs(self.decode_tokens_per_second / self.server_decode_tokens_per_second - 1)


def model_file() -> Path:
    return scripted_model(n_layers=4, feed_forward=768, context_length=CONTEXT_LENGTH)


def requests_of(
    backend: AsyncLMStudioBackend | AsyncOpenAIBackend, server: BenchServer, target: BenchTarget, runs: int
) -> list[RequestFigures]:
    """What the benchmark measured, one request per run."""
    request = BenchRequest(runs=runs, tiers=(PROMPT_TOKENS,), max_tokens=MAX_TOKENS)

    async def measure() -> BenchReport:
        try:
            return await Bench(server, [target], request, power_sources=()).run()
        finally:
            await backend.close()

    (cell,) = asyncio.run(measure()).cells
    if cell.outcome != "ok":
        raise SystemExit(f"the benchmark failed: {cell.reason}")
    return [run.requests[0] for run in cell.runs]


def embedded(runs: int) -> list[Pair]:
    """The embedded engine, which passes llama.cpp's figures on."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PATH
        file.parent.mkdir(parents=True)
        shutil.copy(model_file(), file)
        with EmbeddedEngine(Path(folder), memory_limit=2**30) as engine:
            backend = AsyncLMStudioBackend(ServerInfo(address=engine.address, engine="embedded"))
            target = BenchTarget(model_key="slow", path=PATH, tested_context_length=CONTEXT_LENGTH, files=(str(file),))
            ours = requests_of(backend, BenchServer.of(backend), target, runs)
    return [pair(figures) for figures in ours]


def llama_server(runs: int) -> list[Pair]:
    """llama.cpp's own server, beside the timings it sends."""
    with running_llama_server() as url:
        backend = AsyncOpenAIBackend(url)
        server = BenchServer(streams=backend, loads=None, engine="openai", address=backend.address)
        ours = requests_of(backend, server, BenchTarget(model_key="model", path="model"), runs)
    return [pair(figures) for figures in ours]


def pair(figures: RequestFigures) -> Pair:
    """Both clocks of one request. llama.cpp's time before the first token is that of reading the prompt."""
    assert figures.ttft_s is not None
    assert figures.decode_tokens_per_second is not None
    assert figures.prompt_tokens is not None
    assert figures.server_prefill_tokens_per_second is not None
    assert figures.server_decode_tokens_per_second is not None
    return Pair(
        figures.ttft_s,
        figures.prompt_tokens / figures.server_prefill_tokens_per_second,
        figures.decode_tokens_per_second,
        figures.server_decode_tokens_per_second,
    )


@contextmanager
def running_llama_server() -> Iterator[str]:
    """The URL of llama.cpp's server, in a process of its own."""
    words = [sys.executable, "-I", "-c", LLAMA_SERVER, str(model_file()), str(CONTEXT_LENGTH)]
    # Threads that wait by spinning would starve the client that is to be measured.
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def main(runs: int) -> int:
    """Measure both servers, print one table; 1 if the calmest run of one is over budget."""
    over = 0
    print(f"{'server':<16}{'run':>4}{'TTFT ms':>10}{'its own':>10}{'off':>8}{'tok/s':>10}{'its own':>10}{'off':>8}")
    for name, pairs in (("embedded engine", embedded(runs)), ("llama.cpp HTTP", llama_server(runs))):
        for number, one in enumerate(pairs, 1):
            print(
                f"{name:<16}{number:>4}{one.ttft_s * 1000:>10.2f}{one.server_ttft_s * 1000:>10.2f}"
                f"{one.ttft_off_ratio:>8.1%}{one.decode_tokens_per_second:>10.1f}"
                f"{one.server_decode_tokens_per_second:>10.1f}{one.decode_off_ratio:>8.1%}"
            )
        ttft_off = min(one.ttft_off_ratio for one in pairs)
        decode_off = min(one.decode_off_ratio for one in pairs)
        verdict = "ok" if max(ttft_off, decode_off) <= BUDGET_RATIO else "over"
        over += verdict == "over"
        print(f"{name:<16}{'best':>4}{ttft_off:>28.1%}{decode_off:>28.1%}  budget {BUDGET_RATIO:.0%}: {verdict}")
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
