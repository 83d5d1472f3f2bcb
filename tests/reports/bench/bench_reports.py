"""Benchmark reports made up of known figures, for whatever shows them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from lmstrix.core.benchmark.agreement import agreements_of
from lmstrix.core.benchmark.energy import Energy
from lmstrix.core.benchmark.environment import Environment, GraphicsCard, Machine
from lmstrix.core.benchmark.machine_load import CpuUse
from lmstrix.core.benchmark.memory_sampler import MemoryReading, MemoryUse
from lmstrix.core.benchmark.records import (
    BenchReport,
    BenchRequest,
    BenchTarget,
    Cell,
    CellResult,
    LoadRecord,
    Mark,
    RequestFigures,
    RunRecord,
    Task,
    summaries_of,
)
from lmstrix.core.benchmark.suspicion import marks_of_cell

GIB = 2**30
STARTED = datetime(2026, 5, 17, 14, 3, 21, tzinfo=UTC)
MODELS = (
    ("qwen3-4b-instruct-2507", 2.5, 262_144, 49_152, 61.0, 1450.0),
    ("gemma-3-12b-it-qat", 8.1, 131_072, 16_384, 24.5, 520.0),
    ("llama-3.2-1b-instruct", 1.3, 131_072, 131_072, 148.0, 4100.0),
    ("mistral-small-3.2-24b-instruct-2506", 14.3, 131_072, 8_192, 12.2, 260.0),
    ("lfm2-2.6b", 1.6, 128_000, 65_536, 95.0, 2600.0),
)
WORKBENCH = Environment(
    lmstrix_version="2.1.0",
    python_version="3.12.4",
    runtime="llama.cpp of xllamacpp 2026.5.1",
    machine=Machine(
        cpu="AMD Ryzen 9 7950X",
        architecture="x86_64",
        physical_cores=16,
        logical_cores=32,
        usable_cores=8,
        memory_bytes=64 * GIB,
        system="Debian GNU/Linux 12 (bookworm), Linux 6.1.0",
        graphics=(GraphicsCard(name="NVIDIA RTX 4090", memory_bytes=24 * GIB, driver="550.54.14"),),
        load_average=(0.31, 0.24, 0.2),
        others_cores=0.03,
    ),
)
FAR_AWAY = Environment(
    lmstrix_version="2.1.0",
    python_version="3.12.4",
    unknown="the server is on another machine (192.0.2.7); its processor and load cannot be read from here",
)
TIERS = (0, 1024, 4096, 16_384, 32_768)
PAGE = """```html
<!DOCTYPE html><html><head><style>
body{margin:0;display:grid;place-items:center;min-height:100vh;background:linear-gradient(135deg,#1e293b,#4f46e5);font-family:sans-serif;color:#fff}
.dial{width:190px;height:190px;border-radius:50%;border:6px solid #fff;position:relative;background:#ffffff18}
.hand{position:absolute;left:50%;bottom:50%;width:4px;background:#fff;transform-origin:bottom;border-radius:2px}
</style></head><body><div class="dial"><div class="hand" style="height:60px;transform:rotate(60deg)"></div>
<div class="hand" style="height:80px;transform:rotate(190deg);background:#fbbf24"></div></div>
<h1>MODEL</h1></body></html>
```"""


def target(key: str, size_gib: float = 1.0, declared: int = 32_768, tested: int | None = 8192) -> BenchTarget:
    """A model."""
    return BenchTarget(
        model_key=key,
        path=f"acme/{key}/{key}.gguf",
        quantization="Q4_K_M",
        size_bytes=int(size_gib * GIB),
        max_context_length=declared,
        tested_context_length=tested,
        bytes_per_token=int(size_gib * GIB),
    )


def run(
    number: int,
    *,
    decode: float,
    prefill: float,
    prompt_tokens: int = 60,
    answer: str = "Once upon a time.",
    energy: bool = True,
    cached_tokens: int | None = 0,
    failure: str | None = None,
    server_ratio: float = 1.002,
    others_cores: float = 0.04,
) -> RunRecord:
    """A run of 256 tokens at these rates; the server's own clock gives a decode rate `server_ratio` times ours."""
    tokens = 256
    ttft_s = 0.02 + prompt_tokens / prefill
    e2e_s = ttft_s + (tokens - 1) / decode
    request = RequestFigures(
        requested_tokens=tokens,
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        completion_tokens=tokens,
        stop_reason="eosFound",
        ttfr_s=ttft_s,
        ttft_s=ttft_s,
        ttfo_s=ttft_s,
        itl_s=1 / decode,
        itl_p50_s=1 / decode,
        itl_p90_s=1.2 / decode,
        itl_p99_s=1.6 / decode,
        prefill_tokens_per_second=prefill,
        decode_tokens_per_second=decode,
        e2e_s=e2e_s,
        server_ttft_s=ttft_s - 0.0004,
        server_total_s=e2e_s - 0.001,
        server_prefill_tokens_per_second=prefill * 1.004,
        server_decode_tokens_per_second=decode * server_ratio,
        chunks=tokens,
        chunk_at_s=tuple(round(ttft_s + i / decode, 6) for i in range(tokens)),
        chunk_tokens=(1,) * tokens,
        answer=answer,
        outcome="ok" if failure is None else "failed",
        failure=failure,
    )
    used = Energy(
        span_s=e2e_s,
        gross_j=e2e_s * 41.0,
        net_j=e2e_s * 32.0,
        idle_power_w=9.0,
        average_power_w=41.0,
        prefill_gross_j=ttft_s * 45,
        prefill_net_j=ttft_s * 36,
        decode_gross_j=(e2e_s - ttft_s) * 40,
        decode_net_j=(e2e_s - ttft_s) * 31,
        net_j_per_prompt_token=ttft_s * 36 / prompt_tokens,
        net_j_per_decode_token=(e2e_s - ttft_s) * 31 / tokens,
        net_j_per_output_token=e2e_s * 32 / tokens,
    )
    return RunRecord(
        number=number,
        measured_at=STARTED + timedelta(seconds=10 * number),
        requests=(request,),
        span_s=e2e_s,
        latency_s=0.02,
        output_tokens_per_second=tokens / e2e_s,
        energy=used if energy else None,
        cpu=CpuUse(engine_cores=7.9, others_cores=others_cores),
    )


def cell(
    model: BenchTarget,
    tier: int = 0,
    *,
    runs: tuple[RunRecord, ...] = (),
    skipped: str | None = None,
    outcome: str = "ok",
    reason: str = "",
    memory: bool = True,
    marks: tuple[Mark, ...] = (),
) -> CellResult:
    """One cell with these runs, or why it has none."""
    planned = Cell(
        target=model,
        tier_tokens=tier,
        concurrency=1,
        max_tokens=256,
        context_length=tier or 4096,
        prompt_tokens=tier - 272 if tier else None,
        skipped=skipped,
    )
    if skipped is not None:
        return CellResult(cell=planned, outcome="skipped", reason=skipped)
    size = model.size_bytes or GIB
    cache = tier * 90_000
    loads = tuple(
        LoadRecord(number=i, measured_at=STARTED, load_s=size / GIB * (0.9 + 0.2 * i), context_length=tier or 4096)
        for i in range(2 if runs else 0)
    )
    agreements = agreements_of(runs, is_remote=False)
    used = MemoryUse(
        baseline=MemoryReading(engine_bytes=200 * 2**20, system_used_bytes=6 * GIB),
        loaded=MemoryReading(engine_bytes=size + cache + 200 * 2**20, system_used_bytes=6 * GIB + size),
        generated=MemoryReading(engine_bytes=size + cache + GIB // 2, system_used_bytes=6 * GIB + size),
        engine_peak_bytes=size + cache + GIB // 2 + 200 * 2**20,
        system_peak_bytes=7 * GIB + size,
    )
    return CellResult(
        cell=planned,
        outcome=outcome,
        reason=reason,
        loads=loads,
        runs=runs,
        memory=used if memory and runs else None,
        summaries=summaries_of(runs, loads),
        agreements=agreements,
        prompt="W0123456789abcdef:\nA text, and a question about it." if runs else "",
        marks=(*marks, *marks_of_cell(runs, agreements)),
    )


def report(
    cells: tuple[CellResult, ...],
    *,
    task: Task = "story",
    prompt: str | None = None,
    power: str = "RAPL: package, DRAM",
    environment: Environment | None = WORKBENCH,
) -> BenchReport:
    """A session."""
    tiers = tuple(dict.fromkeys(one.cell.tier_tokens for one in cells)) or (0,)
    return BenchReport(
        session="20260517-140321",
        started_at=STARTED,
        request=BenchRequest(tiers=tiers, task=task, prompt=prompt),
        cells=cells,
        server="embedded",
        server_version="0.3.30",
        host="workbench",
        environment=environment,
        power=power,
        power_sources=("rapl",) if power else (),
        memory_bandwidth_bytes_per_s=51.2e9,
        notes=("speeds on battery may differ",),
    )


def fleet_report(*, task: Task = "html", energy: bool = True, tiers: tuple[int, ...] = TIERS) -> BenchReport:
    """Five models over five context tiers, as a day's work leaves it: some skipped, one failed, one doubtful."""
    chance = random.Random(7)
    cells = []
    for key, size_gib, declared, tested, decode, prefill in MODELS:
        model = target(key, size_gib, declared, tested)
        for tier in tiers:
            if tier > tested:
                reason = f"{tier:,} tokens are beyond the tested limit of {tested:,}"
                cells.append(cell(model, tier, skipped=reason))
                continue
            if key.startswith("lfm2") and tier == max(tiers) > 0:
                reason = "the engine process ended during prefill"
                cells.append(cell(model, tier, outcome="engine died", reason=reason))
                continue
            slower = 1 / (1 + tier / 30_000)
            runs = tuple(
                run(
                    number,
                    decode=decode * slower * chance.gauss(1, 0.03),
                    prefill=prefill * slower * chance.gauss(1, 0.05),
                    prompt_tokens=tier - 272 if tier else 96,
                    answer=PAGE.replace("MODEL", key) if task == "html" else "Once upon a time there was a river.",
                    energy=energy,
                )
                for number in range(6)
            )
            doubt = (Mark(kind="length mismatch", text="256 tokens were asked for, 118 were generated (eosFound)"),)
            cells.append(cell(model, tier, runs=runs, marks=doubt * 6 if key.startswith("gemma") and not tier else ()))
    return report(tuple(cells), task=task, power="RAPL: package, DRAM" if energy else "")
