"""The search on a runtime that takes memory as the prompt grows: its limit is found by filling, whatever is loaded."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.core.context.report import ContextOutcome, ContextTestOptions, Step, Subject
from lmstrix.core.context.tester import ContextTester
from lmstrix.core.context.verdict import Outcome
from lmstrix.core.history import History
from lmstrix.core.registry.results import Configuration
from lmstrix.ground.loads import Provenance
from lmstrix.ground.types import Deadlines, RuntimeVersion
from tests.support.faulty_server import FaultyServer
from tests.support.lazy_models import GIB, LazyMemory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 2**20
PATIENCE = Deadlines(
    connect_s=5.0, request_s=10.0, load_s=5.0, first_token_s=10.0, between_tokens_s=10.0, silence_s=10.0, total_s=20.0
)
FAST = ContextTestOptions(deadlines=PATIENCE, recall=False)
BAD = RuntimeVersion(name="mlx-llm-mac-arm64-apple-metal-advsimd", version="1.10.1")
WEIGHTS, OVERHEAD = 8 * GIB, 460 * MIB  # of the overhead the tester knows nothing
ANSWER_ROOM = 384 + 64  # of a filled context, left to the answer, and by how much its prompt may end sooner


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One test of a lazy model: what it came to, what the runtime could really read, and what was filled."""

    outcome: ContextOutcome
    truth: int
    loads: tuple[int, ...]
    filled: tuple[int, ...]

    @property
    def found(self) -> int:
        return self.outcome.result.tested_context_length or 0

    @property
    def gap(self) -> float:
        """How much of the context that could be used was not found, 0..1."""
        return 1 - self.found / self.truth


async def tried(
    folder: Path,
    memory: LazyMemory,
    *,
    declared: int,
    believed_budget: float = 1.0,
    believed_slope: float = 1.0,
    ceiling: int | None = None,
    effective: Callable[[int], int] = lambda asked: asked,
    options: ContextTestOptions = FAST,
    seen: bool = True,
) -> Tried:
    """Test a model of this memory over a real socket, believing the budget and the bytes per token as given."""
    folder.mkdir(exist_ok=True)
    model = memory.model(declared=declared, effective=effective)
    steps: list[Step] = []
    with FaultyServer(model) as server, History(folder / "lmstrix.db") as history:
        backend = AsyncLMStudioBackend(server.info)
        tester = ContextTester(
            backend,
            history.journal,
            run_id=history.journal.begin_run("test"),
            provenance=Provenance(engine="lmstudio"),
            on_step=steps.append,
            read_memory=(lambda: memory.free_bytes(server)) if seen else None,
        )
        subject = Subject(
            model_key=model.key,
            path=model.key,
            declared=declared,
            ceiling=ceiling or declared,
            ceiling_by="declared" if ceiling is None else "threshold",
            cost=lambda n: int(WEIGHTS + believed_slope * memory.bytes_per_token * n),
            budget_bytes=int(believed_budget * memory.budget_bytes),
            configuration=Configuration(),
            weights_bytes=WEIGHTS,
            architecture="qwen3",
            lazy=True,
            runtime=BAD,
        )
        try:
            outcome = await tester.test(subject, options)
        finally:
            await backend.close()
        assert not server.instances
    loads = tuple(s.context_length for s in steps if s.kind == "load" and s.outcome is not None)
    filled = tuple(s.context_length for s in steps if s.kind == "prefill" and s.outcome is Outcome.OK)
    return Tried(outcome=outcome, truth=memory.limit(declared), loads=loads, filled=filled)


def memory_for(limit: int, *, transient: float = 0.0) -> LazyMemory:
    """A machine on which a prompt of so many tokens is the longest, at 1 MiB per token."""
    growth = int((1 + transient) * limit * MIB)
    return LazyMemory(
        budget_bytes=WEIGHTS + OVERHEAD + growth,
        weights_bytes=WEIGHTS,
        overhead_bytes=OVERHEAD,
        bytes_per_token=MIB,
        transient=transient,
    )


# The longest prompt, the transient of reading it, and, as factors on the truth, the budget and the bytes per token as
# believed. A transient in the formula is what LM Studio itself counts: attention while a prompt is read.
TABLE = [
    (5_000, 0.0, 1.0, 1.0),
    (9_000, 0.0, 1.0, 1.0),
    (12_000, 0.0, 1.0, 1.0),
    (12_000, 0.02, 1.0, 1.0),
    (9_000, 0.0, 1.02, 1.0),
    (9_000, 0.0, 0.98, 1.0),
    (9_000, 0.0, 1.0, 1.05),
    (9_000, 0.0, 1.0, 0.95),
    (9_000, 1.0, 1.0, 2.0),
    (9_000, 3.0, 1.0, 4.0),
    (40_000, 0.0, 1.0, 1.0),
]


@pytest.mark.slow
async def test_the_limit_is_found_by_filling_one_load(tmp_path: Path) -> None:
    """With the bars of the search where memory binds: a gap of 8.5 % in the middle, 25 % at most, and no failure."""
    rows = [
        await tried(
            tmp_path / str(place),
            memory_for(limit, transient=transient),
            declared=16_384,
            believed_budget=budget,
            believed_slope=slope,
        )
        for place, (limit, transient, budget, slope) in enumerate(TABLE)
    ]
    assert all(row.found <= row.truth + ANSWER_ROOM for row in rows)
    assert all(row.loads == (16_384,) for row in rows)
    assert all(list(row.filled) == sorted(row.filled) for row in rows)
    assert sum(row.outcome.failing for row in rows) == 0
    assert statistics.median(row.gap for row in rows) <= 0.085
    assert max(row.gap for row in rows) <= 0.25


async def test_what_filling_was_seen_to_take_brings_the_search_closer(tmp_path: Path) -> None:
    memory = memory_for(9_000)
    seen = await tried(tmp_path / "seen", memory, declared=16_384)
    unseen = await tried(tmp_path / "unseen", memory, declared=16_384, seen=False)
    assert unseen.found < seen.found <= seen.truth + ANSWER_ROOM
    assert len(seen.filled) < len(unseen.filled)


async def test_less_than_predicted_is_no_promise(tmp_path: Path) -> None:
    """A transient that is gone before anybody looks: half of what a prompt takes is never seen, and none dies of it."""
    row = await tried(tmp_path, memory_for(9_000, transient=1.0), declared=16_384, believed_slope=2.0)
    assert (row.outcome.failing, row.found <= row.truth + ANSWER_ROOM) == (0, True)
    assert row.gap <= 0.25


async def test_after_a_fill_that_killed_the_engine_a_new_load_is_filled(tmp_path: Path) -> None:
    row = await tried(tmp_path, memory_for(6_000), declared=16_384, believed_budget=1.5)
    assert row.outcome.failing_prefills
    assert row.outcome.failing_loads == 0
    assert row.outcome.result.outcome == Outcome.OK
    assert row.outcome.result.ended_by == "memory_at_prefill"
    assert 0.75 * row.truth <= row.found <= row.truth + ANSWER_ROOM
    assert len(row.loads) <= 1 + row.outcome.failing_prefills


async def test_a_runtime_that_loads_more_than_asked(tmp_path: Path) -> None:
    """The length asked for is filled all the same; that more was loaded is an outcome of its own, and says who."""
    row = await tried(tmp_path, memory_for(40_000), declared=32_768, ceiling=4096, effective=lambda asked: 16_384)
    result = row.outcome.result
    assert (result.outcome, result.ended_by, result.conclusive) == (Outcome.CONTEXT_IGNORED, "threshold", True)
    assert (result.tested_context_length, result.last_known_bad) == (4096, None)
    assert (row.outcome.loads, row.outcome.failing) == (1, 0)
    assert result.error is not None
    assert result.error.startswith("asked 4,096, runs at 16,384: LM Studio ignores the asked context of this MLX model")
    assert f"{BAD.name} 1.10.1, reported to do so; 1.8.5 and 1.10.0 were reported to keep it" in result.error
    assert "lms runtime select" in result.error


async def test_a_runtime_that_loads_less_than_asked(tmp_path: Path) -> None:
    """What it loads is filled, once; nothing is learnt about memory, and no limit of the model is claimed."""
    row = await tried(tmp_path, memory_for(40_000), declared=32_768, effective=lambda asked: min(asked, 5_120))
    result = row.outcome.result
    assert (result.outcome, result.ended_by) == (Outcome.CONTEXT_IGNORED, None)
    assert (result.tested_context_length, result.last_known_bad) == (5_120, None)
    assert (row.loads, row.outcome.failing) == ((32_768,), 0)


async def test_memory_below_a_runtimes_own_choice_still_ends_a_test(tmp_path: Path) -> None:
    row = await tried(tmp_path, memory_for(5_000), declared=32_768, effective=lambda asked: min(asked, 12_288))
    assert row.outcome.result.outcome == Outcome.CONTEXT_IGNORED
    assert row.outcome.result.ended_by == "memory_at_prefill"
    assert 0.75 * row.truth <= row.found <= row.truth + ANSWER_ROOM


async def test_one_length_on_a_runtime_that_ignores_it(tmp_path: Path) -> None:
    one = ContextTestOptions(deadlines=PATIENCE, recall=False, context_length=2048)
    more = await tried(
        tmp_path / "more", memory_for(40_000), declared=32_768, effective=lambda asked: 16_384, options=one
    )
    assert (more.outcome.result.outcome, more.found) == (Outcome.CONTEXT_IGNORED, 2048)
    less = await tried(
        tmp_path / "less", memory_for(40_000), declared=32_768, effective=lambda asked: 1024, options=one
    )
    assert (less.outcome.result.outcome, less.found) == (Outcome.CONTEXT_IGNORED, 1024)
