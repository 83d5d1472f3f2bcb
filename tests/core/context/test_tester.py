"""The tester against a server that fails on demand, over the real SDK: failures told apart, limits moved by memory."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from lmstrix.api.client import AsyncLMStudioBackend
from lmstrix.core.context.probe import Prober, answer_room
from lmstrix.core.context.report import ContextOutcome, ContextTestOptions, Step, Subject
from lmstrix.core.context.tester import ContextTester
from lmstrix.core.context.verdict import Outcome
from lmstrix.core.history import Conditions, History
from lmstrix.core.registry.ended_words import ended_line
from lmstrix.core.registry.known_failure import KnownFailure
from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.ground.loads import Provenance
from lmstrix.ground.types import Deadlines
from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from lmstrix.ground.types import ModelKind, ServerInfo

GIB = 2**30


def cost(context_length: int) -> int:
    """Bytes of a load: 8 GiB of weights and 1 MiB per token."""
    return 8 * GIB + 2**20 * context_length


TIGHT = Conditions(free_bytes=8 * GIB, engine_version="1", boot_id="boot")


async def tight() -> Conditions:
    """Just enough memory for the weights, so that a failure is no surprise."""
    return TIGHT


PATIENCE = Deadlines(
    connect_s=2.0, request_s=3.0, load_s=0.7, first_token_s=0.7, between_tokens_s=0.7, silence_s=0.7, total_s=5.0
)


class Lab:
    """A server with one model, a tester on it, and what was recorded."""

    def __init__(self, server: FaultyServer, history: History) -> None:
        self.server = server
        self.history = history
        self.backend = AsyncLMStudioBackend(server.info)
        self.model = next(iter(server.models.values()))
        self.results: list[ContextResult] = []
        self.steps: list[Step] = []
        self.run_id = history.journal.begin_run("test")
        self.tester = ContextTester(
            self.backend,
            history.journal,
            run_id=self.run_id,
            provenance=Provenance(engine="lmstudio"),
            on_step=self.steps.append,
            on_result=lambda subject, result: self.results.append(result),
            read_conditions=tight,
        )

    @property
    def known_bad(self) -> KnownFailure | None:
        """What the next test would not try, were nothing to change."""
        return self.history.journal.known_bad(f"{self.model.key}.gguf", Configuration().key, TIGHT)

    def subject(self, **changes: object) -> Subject:
        subject = Subject(
            model_key=self.model.key,
            path=f"{self.model.key}.gguf",
            declared=self.model.declared,
            ceiling=self.model.declared,
            cost=cost,
            budget_bytes=64 * GIB,
            configuration=Configuration(),
            architecture="llama",
        )
        return replace(subject, **changes)  # type: ignore[arg-type]

    async def test(self, options: ContextTestOptions | None = None, **changes: object) -> ContextOutcome:
        options = options or ContextTestOptions(deadlines=PATIENCE)
        return await self.tester.test(self.subject(**changes), options)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Callable[..., Lab]]:
    opened: list[Lab] = []
    servers: list[FaultyServer] = []

    def make(**model: object) -> Lab:
        server = FaultyServer(FaultyModel(**model))  # type: ignore[arg-type]
        server.__enter__()
        servers.append(server)
        lab = Lab(server, History(tmp_path / f"{len(opened)}.db"))
        opened.append(lab)
        return lab

    try:
        yield make
    finally:
        for lab in opened:
            await lab.backend.close()
            lab.history.close()
        for server in servers:
            server.__exit__(None, None, None)


def loads(lab: Lab) -> list[int]:
    return [step.context_length for step in lab.steps if step.kind == "load" and step.outcome is not None]


async def test_a_model_that_holds_what_it_declares_takes_one_load(lab: Callable[..., Lab]) -> None:
    here = lab(declared=8192)
    found = await here.test()
    assert found.result.outcome == Outcome.OK
    assert found.result.tested_context_length == 8192
    assert found.result.effective_context_length == 8192
    assert (found.loads, found.failing_loads) == (1, 0)
    assert not here.server.instances
    lengths = [point.context_length for point in found.result.recall_curve]
    assert lengths == sorted(lengths)
    assert all(point.score_ratio == 1.0 for point in found.result.recall_curve)
    # Growing prompts share their beginning, so no shorter prompt is asked for after the longest.
    assert lengths[-1] > 7500


@pytest.mark.parametrize("how", ["refused", "out of memory", "died"])
async def test_memory_failures_step_down_and_the_limit_is_never_above_the_truth(
    lab: Callable[..., Lab], how: str
) -> None:
    truth = 9000
    here = lab(declared=16384, loadable=truth, load_failure=how)
    found = await here.test(budget_bytes=cost(truth))
    assert found.result.tested_context_length is not None
    assert 0.75 * truth <= found.result.tested_context_length <= truth
    assert found.failing_loads <= 1
    words = {"refused": Outcome.REFUSED, "out of memory": Outcome.OUT_OF_MEMORY, "died": Outcome.DIED_AT_LOAD}
    failed = [step.outcome for step in here.steps if step.kind == "load" and step.outcome not in (None, Outcome.OK)]
    assert set(failed) <= {words[how]}
    assert not here.server.instances


@pytest.mark.parametrize("how", ["refused", "out of memory", "died"])
async def test_a_load_failure_at_one_length_is_told_apart(lab: Callable[..., Lab], how: str) -> None:
    here = lab(declared=16384, loadable=2000, load_failure=how)
    found = await here.test(ContextTestOptions(deadlines=PATIENCE, context_length=8192))
    words = {"refused": Outcome.REFUSED, "out of memory": Outcome.OUT_OF_MEMORY, "died": Outcome.DIED_AT_LOAD}
    assert found.result.outcome == words[how]
    assert found.result.conclusive
    assert found.result.last_known_bad == (None if how == "refused" else 8192)
    assert found.result.tested_context_length is None


async def test_dying_at_prefill_steps_down_on_fresh_loads(lab: Callable[..., Lab]) -> None:
    here = lab(declared=8192, prefillable=6000)
    found = await here.test(ContextTestOptions(deadlines=PATIENCE, recall=False))
    tested = found.result.tested_context_length
    assert tested is not None
    # The prompt that fills a context leaves room for the answer, and ends a little before that begins.
    assert 0.8 * 6000 <= tested - answer_room(tested) <= 6000 + 64
    died = [step for step in here.steps if step.kind == "prefill" and step.outcome is Outcome.DIED_AT_PREFILL]
    assert died
    assert (found.failing_loads, found.failing_prefills, found.failing) == (0, len(died), len(died))
    assert not here.server.instances


async def test_a_prompt_that_killed_one_load_is_not_held_against_the_next(lab: Callable[..., Lab]) -> None:
    """Seen with a model that can answer nothing: there the first prompt tells why, but only that of the same load."""
    here = lab(declared=8192, prefillable=1500, recalled=1)
    found = await here.test(budget_bytes=cost(8192))
    assert found.result.outcome == Outcome.GARBAGE
    assert found.failing_prefills > 0
    assert found.result.tested_context_length is not None
    assert 1000 < found.result.tested_context_length < 2048
    assert all(step.outcome != Outcome.UNLOADED for step in here.steps)


@pytest.mark.slow
async def test_every_result_says_what_ended_it(lab: Callable[..., Lab]) -> None:
    fast = ContextTestOptions(deadlines=PATIENCE, recall=False)
    assert (await lab(declared=8192).test(fast)).result.ended_by == "declared"
    assert (await lab(declared=8192).test(fast, ceiling=4096, ceiling_by="threshold")).result.ended_by == "threshold"
    assert (await lab(declared=8192, prefillable=6000).test(fast)).result.ended_by == "memory_at_prefill"
    assert (await lab(declared=16384, recalled=3000).test()).result.ended_by == "recall"
    spent = await lab(declared=8192).test(replace(fast, budget_s=1e-9))
    assert (spent.result.outcome, spent.result.ended_by) == (Outcome.TIMED_OUT, "time_budget")
    one = await lab(declared=16384, loadable=2000).test(replace(fast, context_length=8192))
    assert one.result.ended_by == "memory_at_load"
    believed = await lab(declared=16384).test(fast, budget_bytes=cost(9000))
    assert (believed.result.ended_by, believed.result.last_known_bad) == ("memory_at_load", None)
    gone = lab(declared=8192)
    gone.server.faults.load = "drop"
    assert (await gone.test(fast)).result.ended_by is None


def spills_from(context_length: int, *, slowed: float = 20.0) -> Callable[[int, int], float]:
    """A card whose driver moves what does not fit to main memory: the cache of longer contexts, read at every token."""

    def speed(prompt_tokens: int, context: int) -> float:
        smooth = 1 / 50.0 * cost(prompt_tokens) / cost(0)
        crawl = 1 / 50.0 * slowed * (cost(prompt_tokens) - cost(0)) / cost(0)
        return 1 / (smooth + (crawl if context > context_length else 0.0))

    return speed


async def test_a_cliff_in_speed_is_beyond_the_limit(lab: Callable[..., Lab]) -> None:
    here = lab(declared=32768, speed=spills_from(20_000))
    result = (await here.test(decode_work=cost, budget_bytes=cost(24_000))).result
    assert (result.outcome, result.ended_by) == (Outcome.OK, "memory_spilled")
    assert result.tested_context_length is not None
    assert 15_000 <= result.tested_context_length <= 20_000 + answer_room(20_000)
    assert result.ended_detail is not None
    assert re.fullmatch(r"memory spilled: [\d.]+ tokens/s at [\d,]+ instead of [\d.]+ at [\d,]+", result.ended_detail)
    assert result.last_known_bad is not None
    assert result.last_known_bad > 20_000
    assert all(point.context_length <= result.tested_context_length for point in result.recall_curve)
    assert ended_line(result) == result.ended_detail


async def test_a_named_length_that_spills_says_so(lab: Callable[..., Lab]) -> None:
    here = lab(declared=32768, speed=spills_from(20_000))
    found = await here.test(ContextTestOptions(deadlines=PATIENCE, context_length=32768), decode_work=cost)
    assert (found.result.outcome, found.result.ended_by) == (Outcome.SPILLED, "memory_spilled")
    assert (found.result.tested_context_length, found.result.last_known_bad) == (None, 32768)
    assert found.result.error == found.result.ended_detail


async def test_a_speed_that_falls_with_the_work_ends_nothing(lab: Callable[..., Lab]) -> None:
    here = lab(declared=32768, speed=spills_from(20_000, slowed=2.0))
    result = (await here.test(decode_work=cost)).result
    assert (result.tested_context_length, result.ended_by) == (32768, "declared")


async def test_a_machine_that_was_busy_for_one_answer_ends_nothing(lab: Callable[..., Lab]) -> None:
    answers = iter(range(1000))
    # The fourth answer comes at a fiftieth of the speed of the others.
    here = lab(declared=32768, speed=lambda *_: 1.0 if next(answers) == 3 else 50.0)
    result = (await here.test(decode_work=cost)).result
    assert (result.tested_context_length, result.ended_by) == (32768, "declared")
    assert next(answers) > 4


async def test_a_machine_that_stays_busy_ends_nothing(lab: Callable[..., Lab]) -> None:
    answers = iter(range(1000))
    here = lab(declared=32768, speed=lambda *_: 1.0 if next(answers) >= 3 else 50.0)
    result = (await here.test(decode_work=cost)).result
    assert (result.tested_context_length, result.ended_by) == (32768, "declared")


async def test_recall_that_ends_early_is_a_second_number(lab: Callable[..., Lab]) -> None:
    recalled = 3000
    here = lab(declared=16384, recalled=recalled)
    found = await here.test()
    result = found.result
    assert result.outcome == Outcome.RECALL_LOST
    assert result.loadable_context_length == 16384
    assert result.effective_context_length is not None
    assert 0.8 * recalled <= result.effective_context_length <= 1.1 * recalled
    assert result.tested_context_length == result.effective_context_length
    assert found.failing_loads == 0


async def test_a_beginning_that_is_read_and_forgotten_moves_only_the_recalled_length(lab: Callable[..., Lab]) -> None:
    # Of a filled context the first of eight codes is lost, and the server counts every token it was sent.
    here = lab(declared=16384, recalled=15_600)
    found = await here.test()
    result = found.result
    assert (result.outcome, result.loadable_context_length) == (Outcome.RECALL_LOST, 16384)
    assert result.effective_context_length is not None
    assert 14_400 <= result.effective_context_length < 15_990
    assert found.failing_loads == 0
    lost = [step for step in found.steps if step.kind == "recall" and step.outcome is Outcome.RECALL_LOST]
    assert lost[0].detail == "recall lost at the beginning (7 of 8)"


async def test_where_recall_ends_is_measured_with_two_texts(lab: Callable[..., Lab]) -> None:
    here = lab(declared=16384, recalled=3000)
    found = await here.test()
    result = found.result
    assert result.effective_range is not None
    low, high = result.effective_range
    assert result.effective_context_length == low
    assert 2600 <= low <= high <= 3300
    assert (low % 64, high % 64) == (0, 0)
    prompts = [step for step in found.steps if step.kind == "recall"]
    # Of the second text only the surroundings of the edge are read, and the curve is that of the first.
    filled = next(index for index, step in enumerate(prompts) if step.context_length > 15_000)
    assert all(2000 <= step.context_length <= 4096 for step in prompts[filled + 1 :])
    assert len(result.recall_curve) < len(prompts)
    # The journal tells the two apart.
    texts = [probe.details["text"] for probe in here.history.journal.probes(f"{here.model.key}.gguf")]
    assert texts == sorted(texts)
    assert texts.count(1) == len(result.recall_curve)
    assert texts.count(2) == len(prompts) - len(result.recall_curve)


async def test_a_model_that_recalls_to_the_end_is_asked_about_one_text(lab: Callable[..., Lab]) -> None:
    here = lab(declared=4096)
    found = await here.test()
    assert (found.result.effective_context_length, found.result.effective_range) == (4096, None)
    assert len({step.context_length for step in found.steps if step.kind == "recall"}) == len(
        [step for step in found.steps if step.kind == "recall"]
    )


async def test_a_second_text_that_brings_the_engine_down_changes_nothing(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = lab(declared=8192, recalled=3000)
    with_other_text = Prober.with_other_text

    def crash(prober: Prober) -> Prober:
        here.server.faults.predict = "crash"
        return with_other_text(prober)

    monkeypatch.setattr(Prober, "with_other_text", crash)
    result = (await here.test()).result
    assert (result.outcome, result.loadable_context_length) == (Outcome.RECALL_LOST, 8192)
    assert result.effective_range is None
    assert result.effective_context_length is not None
    assert 2600 <= result.effective_context_length <= 3300


@pytest.mark.parametrize("fast", [False, True])
async def test_without_a_token_count_a_dropped_beginning_is_found_out(lab: Callable[..., Lab], fast: bool) -> None:
    here = lab(declared=8192, truncates=True, window=4000, keeps_end=True, counts=False)
    found = await here.test(ContextTestOptions(deadlines=PATIENCE, recall=not fast))
    assert found.result.outcome == Outcome.TRUNCATED
    assert (found.result.tested_context_length or 0) <= 4000
    if not fast:
        assert found.result.loadable_context_length is not None
        assert 3000 <= found.result.loadable_context_length <= 4000


@pytest.mark.parametrize("fast", [False, True])
async def test_without_a_token_count_a_whole_prompt_holds(lab: Callable[..., Lab], fast: bool) -> None:
    here = lab(declared=8192, counts=False)
    found = await here.test(ContextTestOptions(deadlines=PATIENCE, recall=not fast))
    assert (found.result.outcome, found.result.tested_context_length) == (Outcome.OK, 8192)


async def test_without_a_token_count_a_forgotten_beginning_is_not_called_truncated(lab: Callable[..., Lab]) -> None:
    here = lab(declared=8192, recalled=3000, guesses=True, counts=False)
    found = await here.test()
    assert (found.result.outcome, found.result.loadable_context_length) == (Outcome.RECALL_LOST, 8192)


async def test_answering_is_told_while_it_goes_on(lab: Callable[..., Lab]) -> None:
    here = lab(declared=2048)
    await here.test()
    answering = [step for step in here.steps if step.kind == "answer"]
    assert answering
    for step in answering:
        assert step.answered_tokens is not None
        assert step.max_tokens is not None
        assert 1 <= step.answered_tokens <= step.max_tokens <= 360
        assert step.ratio == step.answered_tokens / step.max_tokens
    # Each prompt is read under its own length, not under that of the whole context.
    reading = {step.context_length for step in here.steps if step.kind == "prefill" and step.ratio is not None}
    assert {step.context_length for step in answering} == reading
    assert max(reading) < 2048


async def test_silent_truncation_is_seen_in_the_token_count(lab: Callable[..., Lab]) -> None:
    found = await lab(declared=8192, truncates=True, window=2500).test()
    assert found.result.outcome == Outcome.TRUNCATED
    assert found.result.effective_context_length is not None
    assert 1900 <= found.result.effective_context_length <= 2500
    assert found.result.last_known_bad is None


async def test_a_context_reduced_silently_is_read_back(lab: Callable[..., Lab]) -> None:
    here = lab(declared=8192, effective=lambda asked: min(asked, 5000))
    found = await here.test()
    assert found.result.outcome == Outcome.REDUCED
    assert found.result.tested_context_length == 5000


async def test_a_context_raised_silently_is_not_claimed(lab: Callable[..., Lab]) -> None:
    here = lab(declared=32768, effective=lambda asked: max(asked, 32768))
    found = await here.test(ceiling=4096)
    assert found.result.outcome == Outcome.RAISED
    assert found.result.tested_context_length == 4096


async def test_garbage_says_nothing_about_memory(lab: Callable[..., Lab]) -> None:
    here = lab(declared=4096)
    here.server.faults.predict = "garbage"
    found = await here.test()
    assert found.result.last_known_bad is None
    assert found.result.effective_context_length is None
    assert found.result.outcome != Outcome.OK


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("hang", Outcome.TIMED_OUT),
        ("hang after 2 words", Outcome.TIMED_OUT),
        ("drop", Outcome.CONNECTION_LOST),
        ("empty", Outcome.EMPTY),
    ],
)
async def test_other_failures_at_prefill_move_no_limit(lab: Callable[..., Lab], fault: str, outcome: Outcome) -> None:
    here = lab(declared=4096)
    here.server.faults.predict = fault
    found = await here.test(ContextTestOptions(deadlines=PATIENCE, recall=False))
    assert found.result.outcome == outcome
    assert found.result.last_known_bad is None
    assert here.known_bad is None


@pytest.mark.parametrize(("fault", "outcome"), [("hang", Outcome.TIMED_OUT), ("drop", Outcome.CONNECTION_LOST)])
async def test_other_failures_at_load_move_no_limit(lab: Callable[..., Lab], fault: str, outcome: Outcome) -> None:
    here = lab(declared=4096)
    here.server.faults.load = fault
    found = await here.test()
    assert found.result.outcome == outcome
    assert not found.result.conclusive
    assert here.known_bad is None


async def test_a_server_that_vanishes_is_no_evidence(lab: Callable[..., Lab]) -> None:
    here = lab(declared=4096)
    await here.backend.list_loaded()
    here.server.drop_connections()
    here.server.faults.greeting = here.server.faults.auth = "silent"
    found = await here.test()
    assert found.result.outcome in (Outcome.CONNECTION_LOST, Outcome.TIMED_OUT)
    assert not found.result.conclusive


# Longer than any deadline of these tests: what ends such a test is its time budget.
UNHURRIED = Deadlines(load_s=60.0, first_token_s=60.0, between_tokens_s=60.0, silence_s=60.0, total_s=60.0)


@pytest.mark.parametrize(("fault", "endpoint"), [("load", "loadModel"), ("predict", "predict")])
async def test_a_time_budget_ends_what_is_under_way(lab: Callable[..., Lab], fault: str, endpoint: str) -> None:
    here = lab(declared=4096)
    setattr(here.server.faults, fault, "hang")
    found = await asyncio.wait_for(here.test(ContextTestOptions(deadlines=UNHURRIED, budget_s=0.5)), 20)
    assert found.result.outcome == Outcome.TIMED_OUT
    assert found.result.error == "the time budget of 0.5 s for this model is spent"
    assert not found.result.conclusive
    assert here.server.cancelled == [endpoint]
    assert not here.server.instances
    assert settled(here)[-1][1:] == ("interrupted", "nothing")
    assert [result.outcome for result in here.results] == [Outcome.TIMED_OUT]


@pytest.mark.parametrize(
    ("hangs_after", "loadable", "effective"), [("2,048", 2048, 2048), ("7,808", 8192, 3000)], ids=["early", "late"]
)
async def test_a_spent_time_budget_keeps_what_was_filled_before(
    lab: Callable[..., Lab], hangs_after: str, loadable: int, effective: int
) -> None:
    here = lab(declared=8192, recalled=3000 if effective == 3000 else None)

    def watch(step: Step) -> None:
        if step.kind == "recall" and f"{step.context_length:,}" == hangs_after:
            here.server.faults.predict = "hang"

    here.tester._on_step = watch
    found = await asyncio.wait_for(here.test(ContextTestOptions(deadlines=UNHURRIED, budget_s=3.0)), 30)
    result = found.result
    assert result.outcome == Outcome.TIMED_OUT
    assert result.conclusive
    assert result.loadable_context_length is not None
    assert 0.97 * loadable <= result.loadable_context_length <= loadable
    assert result.effective_context_length is not None
    assert result.effective_context_length <= effective
    assert (result.effective_context_length == result.loadable_context_length) == (loadable == effective)
    assert not here.server.instances


@pytest.mark.parametrize("fault", ["unloaded", "crash"])
async def test_what_passed_before_a_mishap_stands(lab: Callable[..., Lab], fault: str) -> None:
    here = lab(declared=32768)

    def go_wrong(step: Step) -> None:
        if step.kind == "prefill" and step.outcome is Outcome.OK:
            here.server.faults.predict = fault

    here.tester._on_step = go_wrong
    fast = ContextTestOptions(deadlines=PATIENCE, recall=False)
    found = await here.test(fast, lazy=True, budget_bytes=cost(20_000))
    assert found.result.loadable_context_length
    assert found.result.conclusive
    if fault == "unloaded":
        assert (found.result.outcome, found.failing) == (Outcome.UNLOADED, 0)
        assert here.known_bad is None


async def test_a_cancelled_test_keeps_what_passed_before(lab: Callable[..., Lab]) -> None:
    here = lab(declared=32768)
    passed: list[int] = []

    def watch(step: Step) -> None:
        if step.kind == "prefill" and step.outcome is Outcome.OK:
            passed.append(step.context_length)
        elif step.kind == "prefill" and passed:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    here.tester._on_step = watch
    with pytest.raises(asyncio.CancelledError):
        await here.test(ContextTestOptions(deadlines=PATIENCE, recall=False), lazy=True, budget_bytes=cost(20_000))
    (result,) = here.results
    assert (result.outcome, result.loadable_context_length) == (Outcome.INTERRUPTED, passed[-1])


async def test_a_death_is_remembered_as_a_doubt_and_lack_of_memory_as_a_fact(lab: Callable[..., Lab]) -> None:
    for how, proves in (("died", "doubt"), ("out of memory", "bad"), ("refused", "nothing")):
        here = lab(declared=16384, loadable=2000, load_failure=how)
        await here.test(ContextTestOptions(deadlines=PATIENCE, context_length=8192))
        (row,) = here.history.journal.intents(run_id=here.run_id)
        assert (row.proves, row.conditions) == (proves, TIGHT)


def settled(lab: Lab) -> list[tuple[str, str | None, str | None]]:
    """(kind, outcome, what it proves) of every row of the journal, in order."""
    return [(row.kind, row.outcome, row.proves) for row in lab.history.journal.intents(run_id=lab.run_id)]


def leaves_nothing_behind(lab: Lab) -> None:
    assert not lab.server.instances
    assert [result.outcome for result in lab.results] == [Outcome.INTERRUPTED]
    assert not lab.history.journal.unfinished()
    assert lab.known_bad is None


def cancel_task(here: Lab, kind: str) -> None:
    """Cancel the test at the first step of this kind, as a portal does on Ctrl-C."""

    def watch(step: Step) -> None:
        task = asyncio.current_task()
        assert task is not None
        if step.kind == kind:
            task.cancel()

    here.tester._on_step = watch


async def test_ctrl_c_leaves_nothing_loaded_and_settles_the_journal(lab: Callable[..., Lab]) -> None:
    here = lab(declared=4096)
    cancel_task(here, "prefill")
    with pytest.raises(asyncio.CancelledError):
        await here.test()
    leaves_nothing_behind(here)
    assert settled(here) == [("load", "ok", "good"), ("prefill", "interrupted", "nothing")]


async def test_a_load_cancelled_before_it_is_sent_has_its_row_settled(lab: Callable[..., Lab]) -> None:
    here = lab(declared=4096)
    cancel_task(here, "load")
    with pytest.raises(asyncio.CancelledError):
        await here.test()
    leaves_nothing_behind(here)
    assert settled(here) == [("load", "interrupted", "nothing")]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("load", [("load", "interrupted", "nothing")]),
        ("predict", [("load", "ok", "good"), ("prefill", "interrupted", "nothing")]),
    ],
)
async def test_cancelled_while_the_server_works_it_leaves_nothing_loaded(
    lab: Callable[..., Lab], where: str, rows: list[tuple[str, str, str]]
) -> None:
    here = lab(declared=4096)
    setattr(here.server.faults, where, "hang")
    patient = ContextTestOptions(deadlines=Deadlines(load_s=30.0, first_token_s=30.0, silence_s=30.0, total_s=30.0))
    task = asyncio.create_task(here.test(patient))
    endpoint = {"load": "loadModel", "predict": "predict"}[where]
    while not any(frame.get("endpoint") == endpoint for _, frame in here.server.seen):
        await asyncio.sleep(0.01)
    assert here.history.journal.intents(run_id=here.run_id)[-1].outcome is None  # announced, and under way
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    leaves_nothing_behind(here)
    assert settled(here) == rows


class SlowToUnload(AsyncLMStudioBackend):
    """Takes its time over the first unload."""

    def __init__(self, server: ServerInfo) -> None:
        super().__init__(server)
        self.unloading = asyncio.Event()

    async def unload(self, instance_id: str, *, kind: ModelKind = "llm") -> None:
        if not self.unloading.is_set():
            self.unloading.set()
            await asyncio.sleep(30)
        await super().unload(instance_id, kind=kind)


@pytest.mark.parametrize(
    ("budget_gib", "outcome"), [(800, Outcome.OK), (64, Outcome.INTERRUPTED)], ids=["at the end", "between two loads"]
)
async def test_cancelled_while_it_unloads_it_unloads_all_the_same(
    lab: Callable[..., Lab], budget_gib: int, outcome: Outcome
) -> None:
    here = lab(declared=16384)
    slow = SlowToUnload(here.server.info)
    here.tester = ContextTester(
        slow,
        here.history.journal,
        run_id=here.run_id,
        provenance=Provenance(engine="lmstudio"),
        on_result=lambda subject, result: here.results.append(result),
    )
    fast = ContextTestOptions(deadlines=PATIENCE, recall=False)
    task = asyncio.create_task(here.test(fast, budget_bytes=budget_gib * GIB))
    await asyncio.wait_for(slow.unloading.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await slow.close()
    assert not here.server.instances
    assert not here.history.journal.unfinished()
    assert [result.outcome for result in here.results] == [outcome]  # what is known is kept


async def test_a_known_bad_length_is_never_asked_again(lab: Callable[..., Lab]) -> None:
    here = lab(declared=8192)
    old = KnownFailure(context_length=6000, failed_at=datetime.now(UTC), outcome="out of memory at load")
    found = await here.test(known_bad=old)
    assert found.result.capped_by == old
    assert max(loads(here)) < 6000
    assert found.result.tested_context_length is not None


async def test_a_custom_question_passes_with_any_answer(lab: Callable[..., Lab]) -> None:
    here = lab(declared=4096, answer="whatever")
    found = await here.test(ContextTestOptions(deadlines=PATIENCE, question="What is this?"))
    assert found.result.outcome == Outcome.OK
    assert found.result.tested_context_length == 4096
    assert found.result.effective_context_length is None


async def test_nothing_fits_means_nothing_is_loaded(lab: Callable[..., Lab]) -> None:
    here = lab(declared=8192)
    found = await here.test(budget_bytes=GIB // 4)
    assert found.loads == 0
    assert found.refused is not None
    assert "short" in found.refused


async def test_memory_readings_reach_the_search(lab: Callable[..., Lab]) -> None:
    truth = 9000
    without = await lab(declared=16384, loadable=truth).test(budget_bytes=cost(truth))
    here = lab(declared=16384, loadable=truth)

    def free() -> int:
        taken = sum(cost(instance.context_length) for instance in here.server.instances.values())
        return cost(truth) - taken

    here.tester._read_memory = free
    found = await here.test(budget_bytes=cost(truth))
    assert found.result.tested_context_length is not None
    assert without.result.tested_context_length is not None
    assert without.result.tested_context_length <= found.result.tested_context_length <= truth
    assert found.result.tested_context_length >= 0.9 * truth


async def test_a_lazy_backend_is_loaded_once_and_its_prompt_grown(lab: Callable[..., Lab]) -> None:
    truth = 9000
    here = lab(declared=16384, prefillable=truth)
    found = await here.test(ContextTestOptions(deadlines=PATIENCE, recall=False), budget_bytes=cost(truth), lazy=True)
    assert found.result.tested_context_length is not None
    assert 0.6 * truth <= found.result.tested_context_length <= truth + 384
    assert loads(here)[0] == 16384
    prefills = [step.context_length for step in here.steps if step.kind == "prefill" and step.outcome is Outcome.OK]
    assert prefills == sorted(prefills)
    assert len(prefills) > 1
