"""Whole sessions against models in memory: order, failures, interrupts, budgets, resuming, hostile answers."""

from __future__ import annotations

import asyncio
import json
import signal
import string
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.benchmark.artefacts import page_of, safe_stem
from lmstrix.core.benchmark.compare import compare
from lmstrix.core.benchmark.energy import PowerChannel
from lmstrix.core.benchmark.measuring import MOST_ANSWER_CHARS
from lmstrix.core.benchmark.power import ReplaySource
from lmstrix.core.benchmark.records import BenchReport, BenchRequest, Cell, LoadRecord, from_json, series_of
from lmstrix.core.benchmark.runner import Bench
from lmstrix.core.benchmark.saved import find_unfinished, load_report
from lmstrix.core.history import History
from lmstrix.ground.errors import (
    BackendUnavailableError,
    EngineCrashedError,
    GenerationError,
    OutOfMemoryError,
    StreamStalledError,
    UsageError,
)
from lmstrix.ground.types import TextDelta
from tests.core.benchmark.fakes import FakeBackend, FakeModel, SteppedClock, run_to_report, server_of, target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lmstrix.core.benchmark.events import BenchEvent
    from lmstrix.core.benchmark.records import BenchTarget, FileCache
    from lmstrix.ground.loads import LoadConfig

QUICK = BenchRequest(runs=6, max_tokens=8, idle_s=0.0, settled_ratio=None)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "lmstrix.db") as opened:
        yield opened


def bench(
    models: dict[str, FakeModel], request: BenchRequest = QUICK, **options: object
) -> tuple[BenchReport, FakeBackend]:
    """A whole session, in time that passes only where the models say so."""
    clock = SteppedClock()
    backend = FakeBackend(models, clock=clock)
    targets = [target(key) for key in models]
    session = Bench(server_of(backend), targets, request, clock=clock, **options)  # type: ignore[arg-type]
    return asyncio.run(session.run()), backend


NEARLY_ONE = (0.97, 0.99, 1.0, 1.0, 1.01, 1.03)


def outcomes(report: BenchReport) -> dict[str, str]:
    return {cell.cell.name: cell.outcome for cell in report.cells}


def test_models_take_turns_and_nothing_stays_loaded() -> None:
    report, backend = bench({"a": FakeModel(), "b": FakeModel()})
    assert outcomes(report) == {"a": "ok", "b": "ok"}
    assert [key for key, _ in backend.loads] == ["a", "b", "b", "a"]
    assert backend.loaded == {}
    for cell in report.cells:
        assert len(cell.runs) == 6
        assert len(cell.warmups) == 2
        assert len(cell.loads) == 2
        assert cell.summaries["ttft_s"].interval is not None
        assert cell.summaries["completion_tokens"].median == 8
        assert cell.marks == ()
    assert report.power == "no power source"
    assert all(run.energy is None for cell in report.cells for run in cell.runs)


def test_a_load_asks_for_the_tier_and_all_slots() -> None:
    request = replace(QUICK, tiers=(4096,), concurrency=(2,), runs=1)
    report, backend = bench({"a": FakeModel()}, request)
    ((_, config),) = backend.loads
    assert (config.context_length, config.parallel_slots) == (8192, 2)
    (cell,) = report.cells
    (run,) = cell.runs
    assert len(run.requests) == 2
    for figures in run.requests:
        assert figures.prompt_tokens == pytest.approx(cell.cell.prompt_tokens, rel=0.02)
    assert run.output_tokens_per_second == pytest.approx(16 / run.span_s)


def test_no_prompt_is_sent_twice() -> None:
    _, backend = bench({"a": FakeModel()}, replace(QUICK, tiers=(0, 2048)))
    prompts = [request.messages[0].text for _, request in backend.requests if request.messages]
    assert len(prompts) > 12
    assert len({prompt[:12] for prompt in prompts}) == len(prompts)


def test_prompts_keep_their_length_over_all_visits() -> None:
    report, _ = bench({"a": FakeModel(), "b": FakeModel()}, replace(QUICK, tiers=(4096,)))
    for cell in report.cells:
        lengths = [figures.prompt_tokens or 0 for run in cell.runs for figures in run.requests]
        assert max(lengths) - min(lengths) <= 1
        assert lengths[0] == pytest.approx(cell.cell.prompt_tokens, rel=0.02)


def test_latency_is_taken_off_prefill() -> None:
    report, _ = bench({"a": FakeModel(prefill_s=0.03)}, replace(QUICK, tiers=(2048,), runs=2))
    for run in report.cells[0].runs:
        (figures,) = run.requests
        assert run.latency_s is not None
        assert figures.ttft_s is not None
        assert figures.prompt_tokens is not None
        assert figures.prefill_tokens_per_second == pytest.approx(
            figures.prompt_tokens / (figures.ttft_s - run.latency_s)
        )


def test_a_server_without_raw_prompts_is_asked_once() -> None:
    report, backend = bench({"a": FakeModel(raw_prompts=False)}, replace(QUICK, runs=3))
    assert all(run.latency_s is not None for run in report.cells[0].runs)
    asked = ["raw" if request.raw_prompt else request.max_tokens for _, request in backend.requests]
    assert asked == [8, "raw", 1, 1, 1, 8, 1, 8, 1, 8]


def test_a_model_that_fails_yields_its_reason_and_the_rest_goes_on() -> None:
    report, backend = bench(
        {
            "large": FakeModel(load_failure=OutOfMemoryError("no room")),
            "dies": FakeModel(fails_at={3: EngineCrashedError("it was killed\nby the kernel")}),
            "hangs": FakeModel(fails_at={1: StreamStalledError("no token came", stage="first token", waited_s=1.0)}),
            "mute": FakeModel(pieces=[]),
            "lost": FakeModel(fails_at={2: BackendUnavailableError("gone")}),
            "good": FakeModel(),
        }
    )
    assert outcomes(report) == {
        "large": "out of memory at load",
        "dies": "engine died at prefill",
        "hangs": "timed out",
        "mute": "empty answer",
        "lost": "connection lost",
        "good": "ok",
    }
    reasons = {cell.cell.name: cell.reason for cell in report.cells}
    assert reasons["dies"] == "it was killed by the kernel"
    assert reasons["large"] == "no room"
    dies = report.cells[1]
    assert [run.failed for run in dies.runs] == [False, True]
    assert dies.summaries["ttft_s"].count == 1
    assert backend.loaded == {}
    assert not report.interrupted


def test_one_bad_run_among_good_ones_is_told_and_left_out() -> None:
    report, _ = bench({"a": FakeModel(fails_at={3: GenerationError("odd")})})
    (cell,) = report.cells
    assert cell.outcome == "ok"
    assert cell.reason == "1 of 6 runs failed: odd"
    assert cell.summaries["ttft_s"].count == 5


@pytest.mark.parametrize(
    ("room", "tiers", "loaded", "reason"),
    [
        (None, (4096,), 4096, ""),
        (4096, (4096,), 4096, ""),
        (4095, (4096,), None, "m: 4,096 tokens are needed, and 4,095 fit beside what safety.headroom keeps free"),
        (1000, (0,), 1000, ""),
        (8, (0,), None, "m: 16 tokens are needed, and 8 fit beside what safety.headroom keeps free"),
        (0, (0,), None, "m fits at no context beside what safety.headroom keeps free; make that less"),
    ],
)
def test_no_load_takes_what_is_to_stay_free(
    room: int | None, tiers: tuple[int, ...], loaded: int | None, reason: str
) -> None:
    asked: list[tuple[str, int | None, int]] = []

    async def room_of(target: BenchTarget, load: LoadConfig) -> int | None:
        asked.append((target.path, load.context_length, load.parallel_slots))
        return room

    backend = FakeBackend({"m": FakeModel()}, clock=SteppedClock())
    server = replace(server_of(backend), room=room_of)
    session = Bench(server, [target("m")], replace(QUICK, runs=1, tiers=tiers), clock=backend.clock or SteppedClock())
    (cell,) = asyncio.run(session.run()).cells
    assert asked == [("acme/m.gguf", cell.cell.context_length, 1)]
    assert cell.outcome == ("ok" if loaded else "refused for headroom")
    assert cell.reason.startswith(reason)
    assert [config.context_length for _, config in backend.loads] == ([loaded] if loaded else [])
    shortened = loaded is not None and loaded != cell.cell.context_length
    assert ["safety.headroom" in mark.text for mark in cell.marks] == [True] * shortened


def test_a_context_that_was_reduced_is_marked() -> None:
    report, _ = bench({"a": FakeModel(reduced_to=3000)}, replace(QUICK, runs=1))
    assert [mark.kind for mark in report.cells[0].marks] == ["context reduced"]


def test_runs_stop_when_they_agree() -> None:
    """Rates of this model differ by 2 %, so six runs settle it within 5 % long before sixty, and never within 1 %."""
    model = FakeModel(token_s=0.01, prefill_s=0.1)
    report, _ = bench({"a": model}, replace(QUICK, runs=60, settled_ratio=0.05))
    assert len(report.cells[0].runs) == 6
    assert report.cells[0].outcome == "ok"
    assert report.cells[0].reason == ""
    report, _ = bench({"a": model}, replace(QUICK, runs=9, settled_ratio=0.001))
    assert len(report.cells[0].runs) == 9


def test_a_budget_ends_runs_and_says_so() -> None:
    models = {"slow": FakeModel(token_s=0.2), "quick": FakeModel(token_s=0.02)}
    request = replace(QUICK, runs=40, max_tokens=4, budget_s=12.0)
    report, backend = bench(models, request)
    slow, quick = report.cells
    assert backend.clock is not None
    assert backend.clock.now <= request.budget_s + 1.0  # type: ignore[operator]  # it is set above
    assert 1 <= len(slow.runs) < 20
    assert slow.outcome == "ok"
    assert slow.reason == f"{len(slow.runs)} of 40 runs: the time budget was spent"
    assert len(quick.runs) > len(slow.runs)  # the slow one cannot starve it


def test_nothing_left_of_a_budget_is_not_reached() -> None:
    report, backend = bench({"a": FakeModel()}, replace(QUICK, budget_s=-1.0))
    assert outcomes(report) == {"a": "not reached"}
    assert backend.loads == []


async def cancel_in_the_middle(backend: FakeBackend, history: History) -> Bench:
    session = Bench(
        server_of(backend), [target(key) for key in backend.models], QUICK, session="s", history=history.benches
    )
    task = asyncio.create_task(session.run())

    def cancel() -> None:
        task.cancel()

    backend.on_hang = cancel
    with pytest.raises(asyncio.CancelledError):
        await task
    return session


def test_an_interrupt_keeps_what_was_measured_and_can_be_resumed(history: History) -> None:
    backend = FakeBackend({"a": FakeModel(), "b": FakeModel(hangs_at=3)})
    session = asyncio.run(cancel_in_the_middle(backend, history))
    report = session.report()
    assert backend.loaded == {}
    assert report.interrupted
    assert outcomes(report) == {"a": "interrupted", "b": "interrupted"}
    assert [len(cell.runs) for cell in report.cells] == [3, 1]
    saved = load_report(history.benches, "s")
    assert replace(saved, notes=report.notes, power=report.power) == report
    paths = [each.cell.target.path for each in report.cells]
    assert find_unfinished(history.benches, QUICK, paths) == "s"
    assert find_unfinished(history.benches, replace(QUICK, runs=9), paths) is None
    assert find_unfinished(history.benches, QUICK, paths[:1]) is None

    backend = FakeBackend({"a": FakeModel(), "b": FakeModel()})
    whole = run_to_report(
        Bench(server_of(backend), [target("a"), target("b")], QUICK, session="s", history=history.benches)
    )
    assert outcomes(whole) == {"a": "ok", "b": "ok"}
    assert [len(cell.runs) for cell in whole.cells] == [6, 6]
    assert whole.cells[0].runs[:3] == report.cells[0].runs
    assert load_report(history.benches, "s").cells == whole.cells
    assert find_unfinished(history.benches, QUICK, paths) is None
    with pytest.raises(UsageError):
        load_report(history.benches, "another")


def test_ctrl_c_ends_with_a_report() -> None:
    backend = FakeBackend({"a": FakeModel(hangs_at=4), "b": FakeModel()})
    backend.on_hang = lambda: signal.raise_signal(signal.SIGINT)
    report = run_to_report(Bench(server_of(backend), [target("a"), target("b")], QUICK))
    assert report.interrupted
    assert outcomes(report) == {"a": "interrupted", "b": "interrupted"}
    assert len(report.cells[0].runs) == 2  # the warm-up came first
    assert backend.loaded == {}
    assert not backend.closed  # whoever opened it closes it


def test_thoughts_come_before_the_answer() -> None:
    thoughts = [TextDelta(text="<think>", tokens=1, reasoning=True, structural=True)]
    thoughts += [TextDelta(text="hm", tokens=1, reasoning=True)] * 3
    model = FakeModel(pieces=[*thoughts, TextDelta(text="five", tokens=1)], token_s=0.005)
    report, _ = bench({"a": model}, replace(QUICK, runs=1))
    (figures,) = report.cells[0].runs[0].requests
    assert figures.ttfr_s is not None
    assert figures.ttft_s is not None
    assert figures.ttfo_s is not None
    assert figures.ttfr_s < figures.ttft_s
    assert figures.ttfo_s - figures.ttft_s > 4 * 0.005
    assert figures.answer == "five"


def test_cold_and_warm_loads_are_kept_apart() -> None:
    now = datetime.now(UTC)
    labels: tuple[FileCache | None, ...] = ("cold", "warm", None, "warm")
    loads = tuple(
        LoadRecord(number=number, measured_at=now, load_s=float(number), context_length=1, file_cache=label)
        for number, label in enumerate(labels, 1)
    )
    assert series_of((), loads) == {"load_s": [1.0, 2.0, 3.0, 4.0], "cold_load_s": [1.0], "warm_load_s": [2.0, 4.0]}


def test_a_finished_session_is_not_measured_again(history: History) -> None:
    first, _ = bench({"a": FakeModel()}, session="s", history=history.benches)
    again, backend = bench({"a": FakeModel()}, session="s", history=history.benches)
    assert backend.loads == []
    assert again.cells == first.cells


def test_a_history_that_breaks_ends_saving_not_measuring(tmp_path: Path) -> None:
    history = History(tmp_path / "lmstrix.db")
    history.close()
    report, _ = bench({"a": FakeModel()}, history=history.benches)
    assert outcomes(report) == {"a": "ok"}
    assert len(report.notes) == 1
    assert "not saved" in report.notes[0]


def test_power_is_split_at_the_first_token_and_idle_taken_off() -> None:
    """A card that takes 50 W all the time: gross is 50 W times the time, net is nothing. In real time."""
    source = ReplaySource([PowerChannel(name="card", part="gpu", unit="W")], [(50.0,)])
    backend = FakeBackend({"a": FakeModel(prefill_s=0.5, token_s=0.12)})
    request = replace(QUICK, runs=1, idle_s=0.3, max_tokens=4)
    report = run_to_report(Bench(server_of(backend), [target("a")], request, power_sources=[source]))
    (run,) = report.cells[0].runs
    assert run.energy is not None
    assert run.energy.gross_j == pytest.approx(50 * run.span_s)
    assert run.energy.net_j == pytest.approx(0.0, abs=0.01)
    assert run.energy.idle_power_w == pytest.approx(50.0)
    (figures,) = run.requests
    assert figures.ttft_s is not None
    assert figures.ttft_s >= 0.5  # a busy machine makes it longer, and the energy of it larger by as much
    assert run.energy.prefill_gross_j == pytest.approx(50 * figures.ttft_s)
    assert run.energy.decode_gross_j is not None
    assert report.power == "replay"
    assert report.cells[0].summaries["gross_j"].median == run.energy.gross_j


EVIL = (
    "<script>alert(1)</script></script><!doctype html><HTML><body onload=x>\x1b[31m[bold]red[/] {{x}}</body></HTML>"
    "\u2028\ud800\x00 trailing"
)


def test_hostile_answers_cannot_break_anything(history: History) -> None:
    evil_key = "../../etc/passwd\n[bold]<b>\x1b[31m"
    model = FakeModel(pieces=[TextDelta(text=EVIL, tokens=4), TextDelta(text=EVIL, tokens=4)])
    report, _ = bench({evil_key: model}, replace(QUICK, task="html", runs=1), history=history.benches)
    text = json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False)
    parsed = json.loads(text.encode("utf-8"))
    assert parsed["schema"] == "lmstrix.bench/1"
    assert "\ud800" not in text
    assert from_json(BenchReport, parsed) == report
    assert replace(load_report(history.benches, report.session), notes=(), power=report.power) == report
    assert set(safe_stem(report.cells[0].cell)) <= set(string.ascii_letters + string.digits + "._-")
    page = page_of(report.cells[0].runs[0].requests[0].answer)
    assert page is not None
    assert page.startswith("<!doctype html><HTML>")
    assert page.endswith("</HTML>")


def test_a_flood_is_cut_off() -> None:
    flood = [TextDelta(text="x" * (MOST_ANSWER_CHARS // 4), tokens=1)] * 8
    report, _ = bench({"a": FakeModel(pieces=flood)}, replace(QUICK, runs=1))
    (cell,) = report.cells
    assert cell.outcome == "answer failed"
    assert "characters" in cell.reason


@pytest.mark.parametrize(
    ("answer", "page"),
    [
        ("Sure!\n```html\n<!DOCTYPE html>\n<html>a</html>\n```\nEnjoy!", "<!DOCTYPE html>\n<html>a</html>"),
        ("<think>a <html> maybe</think><html><b>1</b></html>", "<html><b>1</b></html>"),
        ("```html\n<div>no document</div>\n```", "<div>no document</div>"),
        ("<!doctype html><p>never ended\n```", "<!doctype html><p>never ended"),
        ("<!doctype html><p>never ended", "<!doctype html><p>never ended"),
        ("no page at all", None),
        ("```python\nprint(1 < 2)\n```", None),
        ("<think>endless <html>", None),
    ],
)
def test_pages_are_taken_out_of_answers(answer: str, page: str | None) -> None:
    assert page_of(answer) == page


@pytest.mark.parametrize(
    "text",
    ["<a" * 130_000, "```" * 90_000, "\n```" * 60_000, "</html" + " " * 250_000],
    ids=["tags", "fences", "lines of fences", "blanks"],
)
def test_pages_are_found_in_time_proportional_to_the_answer(text: str) -> None:
    """What backtracks would take minutes here."""
    assert page_of(text) is None or page_of(text) != ""
    assert page_of("<html>" + text) is not None


def test_file_names_are_harmless_and_differ() -> None:
    def stem(key: str) -> str:
        return safe_stem(Cell(target=target(key), tier_tokens=0, concurrency=1, max_tokens=1))

    assert stem("../a/b") != stem("..-a-b")
    assert stem("///").startswith("model-")
    assert all(
        set(stem(key)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for key in "äß"
    )
    assert len(stem("x" * 5000)) < 100


def test_events_tell_the_story() -> None:
    events: list[BenchEvent] = []
    bench({"a": FakeModel()}, replace(QUICK, runs=2), on_event=events.append)
    kinds = [event.kind for event in events]
    assert kinds == ["load", "load", "warmup", "run", "run", "cell"]
    assert all((event.cell_number, event.cells) == (1, 1) for event in events)
    assert events[-1].result is not None
    assert len(events[-1].result.runs) == 2


def test_reports_are_compared_and_a_regression_found() -> None:
    fast, _ = bench({"a": FakeModel(token_s=0.02)})
    slow, _ = bench({"a": FakeModel(token_s=0.08)})
    medians = {name: summary.median for name, summary in fast.cells[0].summaries.items()}
    earlier = {"a": {name: [value * factor for factor in NEARLY_ONE] for name, value in medians.items()}}
    result = compare(fast, slow, earlier=earlier)
    regressed = {each.figure: each for each in result.regressions(0.05)}
    rate = regressed["decode_tokens_per_second"]
    assert rate.verdict == "worse"
    assert rate.p_value is not None
    assert rate.p_value < 0.05
    assert rate.change_ratio is not None
    assert rate.interval_ratio is not None
    assert rate.interval_ratio.low <= rate.change_ratio <= rate.interval_ratio.high < 0
    assert compare(slow, fast, earlier=earlier).regressions(0.05) == ()
    assert compare(fast, slow, earlier=earlier).regressions(1000.0) == ()
    assert compare(fast, slow).regressions(0.05) == ()  # nothing known of what sessions differ by
    same = compare(fast, fast)
    assert {each.verdict for each in same.comparisons} <= {"no difference", "too few runs"}
    assert result.only_first == result.only_second == ()


def test_cells_without_a_partner_are_named() -> None:
    both, _ = bench({"a": FakeModel(), "b": FakeModel()})
    one, _ = bench({"b": FakeModel()})
    result = compare(both, one)
    assert result.only_first == ("a",)
    assert {each.cell for each in result.comparisons} == {"b"}
