"""The benchmark against the real embedded engine: its figures beside llama.cpp's own, caches, memory, hard ends."""

from __future__ import annotations

import asyncio
import shutil
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.core.benchmark.measuring import BenchServer
from lmstrix.core.benchmark.records import BenchReport, BenchRequest, BenchTarget, from_json
from lmstrix.core.benchmark.runner import Bench
from lmstrix.engine import EmbeddedEngine
from lmstrix.ground.types import ServerInfo
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.engine.records import LogEvent

MODEL = "slow"
PATH = "acme/slow-GGUF/slow-f16.gguf"
CONTEXT_LENGTH = 4096


class Engine:
    """A running engine and what it logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log: list[LogEvent] = []
        self.running = EmbeddedEngine(folder, memory_limit=2**30, on_log=self.log.append)

    def bench(self, request: BenchRequest, *, on_event: object = None, model_key: str = MODEL) -> BenchReport:
        backend = AsyncLMStudioBackend(ServerInfo(address=self.running.address, engine="embedded"))
        target = BenchTarget(
            model_key=model_key,
            path=PATH,
            tested_context_length=CONTEXT_LENGTH,
            files=(str(self.folder / PATH),),
        )
        bench = Bench(BenchServer.of(backend), [target], request, power_sources=(), on_event=on_event)  # type: ignore[arg-type]

        async def run_and_close() -> None:
            try:
                await bench.run()
            finally:
                await backend.close()

        with suppress(KeyboardInterrupt):
            asyncio.run(run_and_close())
        return bench.report()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One model of about a thousand tokens per second, so that what is around llama.cpp does not outweigh it."""
    folder = tmp_path_factory.mktemp("models")
    file = folder / PATH
    file.parent.mkdir(parents=True)
    shutil.copy(scripted_model(n_layers=4, feed_forward=768, context_length=CONTEXT_LENGTH), file)
    engine = Engine(folder)
    with engine.running:
        yield engine


@pytest.fixture(scope="module")
def measured(engine: Engine) -> tuple[BenchReport, list[LogEvent]]:
    """Three runs that fill 1024 tokens, and what the engine logged of them."""
    report = engine.bench(BenchRequest(runs=3, tiers=(1024,), max_tokens=200))
    return report, [line for line in engine.log if line.stats is not None]


@pytest.mark.slow
def test_requests_are_those_llama_cpp_logged(measured: tuple[BenchReport, list[LogEvent]]) -> None:
    """Tokens agree exactly, and both clocks ran; how closely they agree is measured by bench/bench_agreement.py."""
    report, log = measured
    (cell,) = report.cells
    assert cell.outcome == "ok", cell.reason
    requests = [run.requests[0] for run in cell.runs]
    logged = [line.stats for line in log if line.stats is not None and (line.stats.predicted_tokens or 0) > 100]
    assert len(requests) == len(logged) == 3
    for ours, theirs in zip(requests, logged, strict=True):
        assert (ours.prompt_tokens, ours.completion_tokens) == (theirs.prompt_tokens, theirs.predicted_tokens)
        assert ours.ttft_s is not None
        assert ours.decode_tokens_per_second is not None
        assert theirs.prompt_tokens is not None
        assert theirs.prefill_tokens_per_second is not None
        assert theirs.tokens_per_second is not None
        assert min(ours.ttft_s, ours.decode_tokens_per_second) > 0
        assert min(theirs.prefill_tokens_per_second, theirs.tokens_per_second) > 0


@pytest.mark.slow
def test_nothing_comes_from_the_cache(measured: tuple[BenchReport, list[LogEvent]]) -> None:
    report, _ = measured
    for run in report.cells[0].runs:
        assert [figures.cached_tokens for figures in run.requests] == [0]
    assert "cache hit" not in [mark.kind for mark in report.cells[0].marks]


@pytest.mark.slow
def test_the_report_says_where_it_was_measured(measured: tuple[BenchReport, list[LogEvent]]) -> None:
    report, log = measured
    (cell,) = report.cells
    assert report.environment is not None
    assert report.environment.machine is not None
    assert report.environment.machine.others_cores is not None
    assert [one.figure for one in cell.agreements] == [
        "ttft_s",
        "prefill_tokens_per_second",
        "decode_tokens_per_second",
    ]
    logged = [line.stats for line in log if line.stats is not None and (line.stats.predicted_tokens or 0) > 100]
    for run, theirs in zip(cell.runs, logged, strict=True):
        (figures,) = run.requests
        assert figures.server_ttft_s == theirs.ttft_s
        assert figures.server_prefill_tokens_per_second == theirs.prefill_tokens_per_second
        assert figures.server_decode_tokens_per_second == theirs.tokens_per_second
        assert run.cpu is not None
        assert run.cpu.engine_cores > 0
    assert cell.prompt.endswith("do not stop before you are told to.")
    assert len(cell.prompt) > 500
    assert from_json(BenchReport, report.to_json()) == report


def test_reports_of_earlier_versions_are_read(measured: tuple[BenchReport, list[LogEvent]]) -> None:
    report, _ = measured
    raw = report.to_json()
    del raw["environment"]
    for cell in raw["cells"]:
        del cell["agreements"], cell["prompt"], cell["cell"]["target"]["quantization"]
        for run in cell["runs"]:
            del run["cpu"]
            for request in run["requests"]:
                del request["server_prefill_tokens_per_second"], request["server_decode_tokens_per_second"]
    read = from_json(BenchReport, raw)
    assert read.environment is None
    assert [cell.agreements for cell in read.cells] == [()]
    assert read.cells[0].summaries == report.cells[0].summaries


def test_prompts_fill_their_tier(measured: tuple[BenchReport, list[LogEvent]]) -> None:
    report, _ = measured
    (cell,) = report.cells
    assert cell.cell.prompt_tokens is not None
    for run in cell.runs:
        (figures,) = run.requests
        assert figures.prompt_tokens == pytest.approx(cell.cell.prompt_tokens, rel=0.03)
        assert figures.completion_tokens == 200
        assert figures.stop_reason == "maxPredictedTokensReached"


def test_loads_and_memory_are_measured(measured: tuple[BenchReport, list[LogEvent]], engine: Engine) -> None:
    report, _ = measured
    (cell,) = report.cells
    (load,) = cell.loads
    assert load.load_s is not None
    assert load.load_s > 0
    assert load.context_length == 1024
    assert load.file_cache in ("warm", "partly cached", "cold", None)
    assert cell.memory is not None
    assert cell.memory.loaded is not None
    size = (engine.folder / PATH).stat().st_size
    assert cell.memory.loaded.engine_bytes is not None
    assert cell.memory.engine_peak_bytes is not None
    assert cell.memory.baseline is not None
    assert size / 2 < cell.memory.loaded.engine_bytes <= cell.memory.engine_peak_bytes
    # The engine runs inside this very process, whatever else that holds.
    assert cell.memory.engine_peak_bytes - (cell.memory.baseline.engine_bytes or 0) < 2**30
    assert report.power == "no power source"


@pytest.mark.slow
def test_several_at_a_time_share_the_engine(engine: Engine) -> None:
    report = engine.bench(BenchRequest(runs=1, concurrency=(2,), max_tokens=60))
    (cell,) = report.cells
    assert cell.outcome == "ok", cell.reason
    (run,) = cell.runs
    assert [figures.completion_tokens for figures in run.requests] == [60, 60]
    first, second = ((0.0, *figures.chunk_at_s) for figures in run.requests)
    assert max(first[1], second[1]) < min(first[-1], second[-1])  # both were answering at the same time


def test_a_model_that_is_not_there_is_a_row(engine: Engine) -> None:
    report = engine.bench(BenchRequest(runs=1), model_key="absent")
    assert report.cells[0].outcome in ("model not found", "load failed")
    assert report.cells[0].reason


@pytest.mark.slow
@pytest.mark.needs_posix("processes are killed otherwise there")
def test_an_engine_killed_while_it_answers_is_a_row(engine: Engine) -> None:
    import psutil

    others = set(psutil.Process().children())

    def kill_the_model(event: BenchEvent) -> None:
        if event.kind == "run":
            for child in set(psutil.Process().children()) - others:
                child.send_signal(signal.SIGKILL)

    report = engine.bench(BenchRequest(runs=4, max_tokens=40), on_event=kill_the_model)
    (cell,) = report.cells
    assert cell.outcome != "ok"
    assert cell.reason
    assert not cell.runs[0].failed
    assert cell.summaries["ttft_s"].count == 1
    again = engine.bench(BenchRequest(runs=1, max_tokens=8))
    assert again.cells[0].outcome == "ok"
