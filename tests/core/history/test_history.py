"""lmstrix.db: the journal outlives the machine, and nothing in it is lost or mistaken."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstrix.core.history import CallRecord, Conditions, History, Probe
from lmstrix.core.history.schema import MIGRATIONS
from lmstrix.ground.errors import HistoryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lmstrix.core.history.journal import Proves
    from lmstrix.ground.types import AttemptKind

MODEL, OTHER = "a/b/c-Q4_0.gguf", "x/y/z-Q4_0.gguf"
CONFIGURATION = "lmstudio"
GIB = 2**30
LOAD_BYTES = 8 * GIB
TIGHT = Conditions(free_bytes=8 * GIB, engine_version="0.4.21", guardrail="high", boot_id="boot 1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "lmstrix.db"


@pytest.fixture
def history(file: Path) -> Iterator[History]:
    with History(file) as opened:
        yield opened


def intend(
    history: History,
    context_length: int,
    *,
    model: str = MODEL,
    kind: AttemptKind = "load",
    conditions: Conditions = TIGHT,
) -> int:
    """An attempt with just enough memory free, so that its failure is no surprise."""
    journal = history.journal
    return journal.intend(
        journal.begin_run("test"),
        model,
        CONFIGURATION,
        kind=kind,
        context_length=context_length,
        predicted_bytes=LOAD_BYTES,
        conditions=conditions,
    )


def known_bad(history: History, model: str = MODEL, *, present: Conditions = TIGHT) -> int | None:
    failure = history.journal.known_bad(model, CONFIGURATION, present)
    return failure.context_length if failure else None


def child(file: Path, code: str) -> subprocess.Popen[str]:
    """A process that has the history open as `h` and its journal as `j`."""
    prelude = (
        "import sys, os, signal, pathlib\nfrom lmstrix.core.history import *\n"
        "h = History(pathlib.Path(sys.argv[1])); j = h.journal\n"
        "def intend(n): return j.intend(j.begin_run('test'), sys.argv[2], 'lmstudio', kind='load', context_length=n,"
        " predicted_bytes=8 * 2**30, conditions=Conditions(free_bytes=8 * 2**30))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, str(file), MODEL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> int:
    _, errors = process.communicate("")
    assert errors == ""
    return process.returncode


def pretend_reboot(file: Path) -> None:
    """Make everything written so far come from before the machine last started."""
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE runs SET boot = 'earlier', process = 'earlier/1'")
        connection.execute("UPDATE testers SET process = 'earlier/1'")
    connection.close()


# The journal


def test_an_attempt_is_followed_from_intent_to_outcome(history: History) -> None:
    run_id = history.journal.begin_run("test", details={"plan": [MODEL, OTHER]})
    intent_id = history.journal.intend(
        run_id, MODEL, CONFIGURATION, kind="prefill", context_length=4096, predicted_bytes=7, details={"a": 1, "b": 1}
    )
    (open_intent,) = history.journal.intents(run_id=run_id)
    assert (open_intent.kind, open_intent.context_length, open_intent.predicted_bytes) == ("prefill", 4096, 7)
    assert (open_intent.outcome, open_intent.proves, open_intent.finished_at) == (None, None, None)
    history.journal.settle(intent_id, "ok", proves="good", details={"b": 2, "c": 3})
    (settled,) = history.journal.intents(model_path=MODEL)
    assert (settled.outcome, settled.proves, settled.details) == ("ok", "good", {"a": 1, "b": 2, "c": 3})
    assert settled.finished_at is not None
    assert settled.finished_at >= settled.started_at > datetime.now(UTC) - timedelta(minutes=5)
    assert history.journal.intents(model_path=OTHER) == []


def test_runs_can_be_taken_up_again(history: History) -> None:
    assert history.journal.last_run("test") is None
    history.journal.end_run(history.journal.begin_run("test"), "ok")
    run_id = history.journal.begin_run("test", details={"plan": [MODEL, OTHER]})
    history.journal.begin_run("bench")
    history.journal.finish_model(run_id, MODEL, "failed")
    history.journal.finish_model(run_id, MODEL, "ok")
    run = history.journal.last_run("test")
    assert run is not None
    assert (run.run_id, run.outcome, run.finished_at, run.alive) == (run_id, None, None, True)
    assert run.details == {"plan": [MODEL, OTHER]}
    assert history.journal.finished_models(run_id) == {MODEL: "ok"}
    history.journal.end_run(run_id, "interrupted")
    ended = history.journal.last_run("test")
    assert ended is not None
    assert ended.outcome == "interrupted"
    assert ended.finished_at is not None


def test_our_own_attempts_are_not_unfinished(history: History) -> None:
    intend(history, 4096)
    assert history.journal.unfinished() == []
    assert known_bad(history) is None


def test_another_tester_at_work_is_not_taken_for_dead(history: History, file: Path) -> None:
    tester = child(file, "intend(4096); print('ready', flush=True); sys.stdin.read()")
    assert tester.stdout is not None
    assert tester.stdout.readline() == "ready\n"
    assert len(history.journal.intents(model_path=MODEL)) == 1
    assert history.journal.unfinished() == []
    assert finish(tester) == 0
    assert len(history.journal.unfinished()) == 1


@pytest.mark.needs_posix("signals to a process")
def test_a_tester_killed_once_proves_nothing_and_killed_twice_does(history: History, file: Path) -> None:
    killed = "j.settle(intend(8192), 'ok', proves='good'); intend(16384); os.kill(os.getpid(), signal.SIGKILL)"
    finish(child(file, killed))
    (intent,) = history.journal.unfinished()
    assert (intent.context_length, intent.outcome, intent.machine_went_down) == (16384, None, False)
    assert known_bad(history) is None
    run = history.journal.last_run("test")
    assert run is not None
    assert (run.alive, run.finished_at) == (False, None)
    assert [one.proves for one in history.journal.settle_unfinished()] == [None]
    assert known_bad(history) is None
    finish(child(file, killed))
    assert known_bad(history) == 16384  # before and after it is settled
    history.journal.settle_unfinished()
    assert known_bad(history) == 16384
    assert known_bad(history, OTHER) is None
    assert history.journal.known_bad(MODEL, "embedded", TIGHT) is None


def test_an_attempt_from_before_the_machine_started_took_it_down(history: History, file: Path) -> None:
    intend(history, 30_000, conditions=replace(TIGHT, boot_id="earlier"))
    intend(history, 20_000, conditions=replace(TIGHT, boot_id=None))  # on another machine, which did not go down
    pretend_reboot(file)
    assert [intent.machine_went_down for intent in history.journal.settle_unfinished()] == [True, False]
    assert history.journal.unfinished() == []
    intent, _ = history.journal.intents(model_path=MODEL)
    assert (intent.outcome, intent.proves, intent.machine_went_down) == ("machine_down", "bad", True)
    failure = history.journal.known_bad(MODEL, CONFIGURATION, replace(TIGHT, boot_id="the next but one"))
    assert failure is not None
    assert (failure.context_length, failure.took_machine_down) == (30_000, True)
    assert known_bad(history, present=Conditions(free_bytes=7 * GIB)) == 30_000
    assert known_bad(history, present=Conditions(free_bytes=16 * GIB)) is None
    assert known_bad(history, present=replace(TIGHT, engine_version="0.4.22")) is None


def test_what_another_host_left_open_is_not_judged(history: History, file: Path) -> None:
    intend(history, 30_000)
    with history.journal.tester_lock("theirs"):
        pretend_reboot(file)
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE runs SET host = 'elsewhere'")
            connection.execute("UPDATE testers SET host = 'elsewhere'")
        connection.close()
        assert history.journal.unfinished() == []
        with history.journal.tester_lock("ours"):
            pass


def test_a_later_success_disproves_a_bad_length(history: History) -> None:
    journal = history.journal
    for length, proves, expected in [
        (30_000, "bad", 30_000),
        (20_000, "bad", 20_000),
        (16_000, "good", 20_000),
        (25_000, "nothing", 20_000),
        (20_000, "good", None),
        (40_000, "bad", 40_000),
    ]:
        journal.settle(intend(history, length), "x", proves=proves)  # type: ignore[arg-type] # a literal above
        assert known_bad(history) == expected


def test_that_a_length_loads_does_not_say_that_it_can_be_filled(history: History) -> None:
    steps: list[tuple[AttemptKind, Proves, int | None]] = [
        ("load", "good", None),
        ("prefill", "doubt", None),
        ("load", "good", None),
        ("prefill", "doubt", 30_000),
        ("load", "good", 30_000),
        ("prefill", "good", None),
    ]
    for kind, proves, expected in steps:
        history.journal.settle(intend(history, 30_000, kind=kind), "x", proves=proves)
        assert known_bad(history) == expected


def test_doubts_about_shorter_lengths_are_doubts_about_longer_ones(history: History) -> None:
    for length, expected in [(20_000, None), (10_000, 20_000), (5000, 10_000)]:
        history.journal.settle(intend(history, length), "engine died at load", proves="doubt")
        assert known_bad(history) == expected


@pytest.mark.parametrize(
    "changed",
    [
        {"free_bytes": 10 * GIB},
        {"engine_version": "0.4.22"},
        {"guardrail": "off"},
        {"boot_id": "boot 2"},
        {"free_bytes": None},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_failure_is_held_against_a_length_while_conditions_are_the_same(
    history: History, changed: dict[str, Any]
) -> None:
    history.journal.settle(intend(history, 20_000), "out of memory at load", proves="bad")
    failure = history.journal.known_bad(MODEL, CONFIGURATION, TIGHT)
    assert failure is not None
    assert (failure.context_length, failure.free_bytes) == (20_000, 8 * GIB)
    assert (failure.outcome, failure.took_machine_down) == ("out of memory at load", False)
    assert known_bad(history, present=replace(TIGHT, free_bytes=8 * GIB + 200 * 2**20)) == 20_000  # that is noise
    assert known_bad(history, present=replace(TIGHT, free_bytes=2 * GIB)) == 20_000
    assert known_bad(history, present=Conditions(free_bytes=8 * GIB)) == 20_000  # nothing is known to have changed
    assert known_bad(history, present=replace(TIGHT, **changed)) is None
    assert known_bad(history) == 20_000


@pytest.mark.parametrize("free_bytes", [None, 64 * GIB], ids=["unknown", "plenty"])
def test_a_failure_that_free_memory_does_not_explain_is_met_anew(history: History, free_bytes: int | None) -> None:
    elsewhere = replace(TIGHT, free_bytes=free_bytes)
    for _ in range(2):
        history.journal.settle(intend(history, 20_000, conditions=elsewhere), "out of memory at load", proves="bad")
    assert known_bad(history, present=elsewhere) is None


def test_a_file_of_the_first_version_is_read(file: Path) -> None:
    file.parent.mkdir(parents=True)
    connection = sqlite3.connect(file)
    for statement in MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 1")
    day = "'2026-01-01T00:00:00+00:00'"
    connection.execute(f"INSERT INTO runs VALUES ('r', 'test', 'h', 1, 'p', 'that boot', {day}, NULL, NULL, '{{}}')")
    row = f"INSERT INTO intents VALUES (NULL, 'r', ?, 'lmstudio', 'load', ?, 7, {day}, NULL, ?, 'bad', '{{}}')"
    for length, outcome in [(8192, "refused by guardrail"), (20_000, "machine_down")]:
        connection.execute(row, (MODEL, length, outcome))
    connection.commit()
    connection.close()
    with History(file) as history:
        refused, _ = history.journal.intents(model_path=MODEL)
        assert (refused.intent_id, refused.context_length, refused.predicted_bytes) == (1, 8192, 7)
        assert refused.conditions == Conditions(boot_id="that boot")
        assert known_bad(history) == 20_000  # what was free when the other one failed is not known
        history.journal.settle(intend(history, 20_000), "ok", proves="good")
        assert known_bad(history) is None


def test_tests_can_be_forgotten(history: History, file: Path) -> None:
    history.journal.settle(intend(history, 4096), "oom", proves="bad")
    history.journal.settle(intend(history, 4096, model=OTHER), "oom", proves="bad")
    history.journal.add_probe(Probe(model_path=MODEL, configuration=CONFIGURATION, context_length=1, passed=True))
    under_way = intend(history, 8192)
    history.journal.forget_tests(MODEL)
    assert [intent.intent_id for intent in history.journal.intents(model_path=MODEL)] == [under_way]
    assert history.journal.probes(MODEL) == []
    assert known_bad(history, OTHER) == 4096
    pretend_reboot(file)
    history.journal.forget_tests(MODEL)
    assert known_bad(history) is None


def test_probes_are_kept(history: History) -> None:
    probe = Probe(
        model_path=MODEL,
        configuration=CONFIGURATION,
        context_length=4096,
        prompt_tokens=3900,
        score_ratio=0.875,
        passed=True,
        measured_at=datetime(2026, 1, 2, tzinfo=UTC),
        details={"depths": [0.1, 0.5]},
    )
    invalid = Probe(model_path=MODEL, configuration="embedded", context_length=8192, passed=False)
    history.journal.add_probe(probe, run_id=history.journal.begin_run("test"))
    history.journal.add_probe(invalid)
    assert history.journal.probes(MODEL, configuration=CONFIGURATION) == [probe]
    assert [(p.context_length, p.passed, p.score_ratio) for p in history.journal.probes(MODEL)] == [
        (4096, True, 0.875),
        (8192, False, None),
    ]


# One tester at a time


def test_only_one_tests_at_a_time(history: History, file: Path) -> None:
    with history.journal.tester_lock("test tiny"):
        with pytest.raises(HistoryError, match=r"'test tiny', process \d+, since 20"), history.journal.tester_lock("b"):
            pass
        other = child(file, "with j.tester_lock('c'): pass")
        _, errors = other.communicate()
        assert "Another test is running here: 'test tiny'" in errors
    with history.journal.tester_lock("again"):
        pass


@pytest.mark.needs_posix("signals to a process")
def test_a_dead_holder_holds_nothing(history: History, file: Path) -> None:
    finish(child(file, "with j.tester_lock('x'): os.kill(os.getpid(), signal.SIGKILL)"))
    with history.journal.tester_lock("mine"):
        pretend_reboot(file)
        with history.journal.tester_lock("after the machine started anew"):
            pass


def test_testers_racing_for_the_lock_get_it_one_by_one(file: Path) -> None:
    code = (
        "import time\nfrom lmstrix.ground.errors import HistoryError\nwon = 0\n"
        "while won < 5:\n"
        "    try:\n"
        "        with j.tester_lock('race'):\n"
        "            flag = os.open(sys.argv[1] + '.flag', os.O_CREAT | os.O_EXCL)\n"
        "            os.close(flag); time.sleep(0.002); os.unlink(sys.argv[1] + '.flag'); won += 1\n"
        "    except HistoryError: time.sleep(0.001)\n"
    )
    assert [finish(process) for process in [child(file, code) for _ in range(3)]] == [0, 0, 0]


# Beliefs, benches, models that move


def test_beliefs_are_kept_for_each_machine_and_engine(history: History) -> None:
    assert history.beliefs.load("m1", "lmstudio") is None
    history.beliefs.save("m1", "lmstudio", {"overhead_bytes": 1})
    history.beliefs.save("m1", "lmstudio", {"overhead_bytes": 2, "slopes": {"llama": 1.01}})
    history.beliefs.save("m1", "embedded", {"overhead_bytes": 3})
    assert history.beliefs.load("m1", "lmstudio") == {"overhead_bytes": 2, "slopes": {"llama": 1.01}}
    assert history.beliefs.load("m1", "embedded") == {"overhead_bytes": 3}


def test_bench_runs_keep_every_sample(history: History) -> None:
    benches = history.benches
    first = benches.begin(
        "s1", model_path=MODEL, model_key="c", configuration=CONFIGURATION, details={"prompt": "html"}
    )
    second = benches.begin("s1", model_path=OTHER, model_key="z", configuration=CONFIGURATION, context_length=4096)
    benches.add_sample(first, 0, {"ttft_s": 9.0}, warmup=True)
    benches.add_sample(first, 1, {"ttft_s": 0.2, "energy_j": None})
    benches.add_sample(first, 1, {"ttft_s": 0.3})
    benches.end(first, "ok", summary={"ttft_s": 0.3})
    assert [(s.number, s.warmup, s.sample) for s in benches.samples(first)] == [
        (0, True, {"ttft_s": 9.0}),
        (1, False, {"ttft_s": 0.3}),
    ]
    assert [run.bench_id for run in benches.runs(session="s1")] == [second, first]
    assert [run.bench_id for run in benches.runs(limit=1)] == [second]
    (run,) = benches.runs(model_path=MODEL)
    assert (run.outcome, run.summary, run.details) == ("ok", {"ttft_s": 0.3}, {"prompt": "html"})
    assert run.finished_at is not None
    assert benches.runs(model_path=OTHER)[0].finished_at is None
    assert benches.runs(session="other") == []


def test_a_moved_model_takes_its_history_along(history: History) -> None:
    history.journal.settle(intend(history, 4096), "oom", proves="bad")
    history.calls.add(CallRecord(model_path=MODEL, model_key="c", outcome="ok", prompt="p"))
    history.benches.begin("s", model_path=MODEL, model_key="c", configuration=CONFIGURATION)
    history.move_model(MODEL, OTHER)
    assert known_bad(history, OTHER) == 4096
    assert known_bad(history) is None
    assert [logged.call.model_path for logged in history.calls.search("p")] == [OTHER]
    assert len(history.benches.runs(model_path=OTHER)) == 1


# The inference log


def call(prompt: str, answer: str = "", *, outcome: str = "ok", model: str = MODEL, **values: object) -> CallRecord:
    return CallRecord(model_path=model, model_key="k", outcome=outcome, prompt=prompt, answer=answer, **values)  # type: ignore[arg-type] # fields by name


def test_calls_are_found_by_their_words(history: History) -> None:
    history.calls.add(call("the quick fox", "jumps"))
    history.calls.add(call("a slow dog", "sleeps over the fox"))
    history.calls.add(call("secret fox"), keep_texts=False)
    assert [logged.call.prompt for logged in history.calls.search("fox")] == ["the quick fox", "a slow dog"]
    assert [logged.call.answer for logged in history.calls.search("FOX slow")] == ["sleeps over the fox"]
    assert history.calls.search("secret") == []
    assert history.calls.search("  ") == []
    latest = history.calls.latest(limit=2)
    assert [logged.call.prompt for logged in latest] == ["", "a slow dog"]
    assert latest[1].called_at > datetime.now(UTC) - timedelta(minutes=5)


def test_words_are_found_by_their_beginnings(history: History) -> None:
    history.calls.add(call("the quick brown fox", "jumps over"))
    history.calls.add(call("quarantine", "well-known facts"), called_at=datetime(2026, 1, 1, tzinfo=UTC))

    def found(words: str) -> list[str]:
        return sorted(logged.call.prompt for logged in history.calls.search(words))

    assert found("qu") == ["quarantine", "the quick brown fox"]
    assert found("bro jum") == ["the quick brown fox"]
    assert found("well-kno") == ["quarantine"]
    assert found("uick") == []
    assert found("foxes") == []


def test_texts_without_spaces_are_found_by_any_part(history: History) -> None:
    history.calls.add(call("日本の首都はどこですか", "東京です。Tokyo"))
    history.calls.add(call("今日の天気", "晴れです"), called_at=datetime(2026, 1, 1, tzinfo=UTC))
    history.calls.add(call("ประเทศไทยอยู่ที่ไหน", "เอเชีย", model=OTHER))
    history.calls.add(call("日本 secret"), keep_texts=False)

    def found(words: str, model: str | None = None) -> list[str]:
        return [logged.call.prompt for logged in history.calls.search(words, model_path=model)]

    assert found("首都") == ["日本の首都はどこですか"]
    assert found("です") == ["日本の首都はどこですか", "今日の天気"]
    assert found("首都 TOKYO") == ["日本の首都はどこですか"]
    assert found("首都 天気") == []
    assert found("ไทย") == ["ประเทศไทยอยู่ที่ไหน"]
    assert found("ไทย", MODEL) == []
    assert found("%本_") == []


def test_a_search_may_be_of_one_model(history: History) -> None:
    for model in (MODEL, OTHER):
        history.calls.add(call("the same words", model=model))
    (logged,) = history.calls.search("same", model_path=OTHER)
    assert logged.call.model_path == OTHER


def test_a_call_is_found_by_its_number(history: History) -> None:
    number = history.calls.add(call("first"))
    history.calls.add(call("second"))
    found = history.calls.find(number)
    assert found is not None
    assert found.call.prompt == "first"
    assert history.calls.find(99) is None


def test_a_call_survives_the_round_trip(history: History) -> None:
    full = call(
        "p\x00q",
        "Ω",
        stop_reason="eosFound",
        context_length=4096,
        prompt_tokens=3,
        completion_tokens=2,
        ttft_s=0.5,
        total_s=1.0,
        decode_tokens_per_second=30.0,
        details={"temperature": 0.0},
    )
    call_id = history.calls.add(full, called_at=datetime(2026, 1, 1, tzinfo=UTC))
    (logged,) = history.calls.latest(model_path=MODEL)
    assert (logged.call_id, logged.call, logged.called_at) == (call_id, full, datetime(2026, 1, 1, tzinfo=UTC))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(), st.text())
def test_any_text_can_be_logged_and_searched(history: History, prompt: str, words: str) -> None:
    before = len(history.calls.latest(limit=1000))
    history.calls.add(call(prompt + "\ud800", words))
    history.calls.search(words + "\ud800")
    history.calls.search(prompt + ' " * ( NEAR')
    history.calls.search(words + "漢 % _ \\")
    assert len(history.calls.latest(limit=1000)) == before + 1


def test_old_calls_are_dropped(history: History) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    for days in range(10):
        history.calls.add(call(f"day {days}"), called_at=now - timedelta(days=days))
    assert history.calls.prune(before=now - timedelta(days=6, hours=1)) == 3
    assert history.calls.prune(keep=2) == 5
    assert [logged.call.prompt for logged in history.calls.latest()] == ["day 0", "day 1"]
    assert [logged.call.prompt for logged in history.calls.search("day")] == ["day 1", "day 0"]


def test_statistics_count_what_was_measured(history: History) -> None:
    history.calls.add(
        call("12345678", prompt_tokens=2, completion_tokens=10, ttft_s=0.2, decode_tokens_per_second=20.0)
    )
    history.calls.add(call("12345678", prompt_tokens=4, completion_tokens=5, ttft_s=0.4), keep_texts=False)
    history.calls.add(call("uncounted"))
    history.calls.add(call("x", outcome="stalled", ttft_s=60.0))
    history.calls.add(call("y", outcome="stalled", model=OTHER))
    first, second = history.calls.statistics()
    assert (first.model_path, first.calls, first.failures) == (MODEL, 4, 1)
    assert (first.prompt_tokens, first.completion_tokens) == (6, 15)
    assert first.mean_ttft_s == pytest.approx(0.3)
    assert first.mean_decode_tokens_per_second == 20.0
    assert (second.failures, second.mean_ttft_s) == (1, None)
    assert history.calls.statistics(model_path=OTHER) == [second]


# The file


def test_a_history_is_kept_from_one_opening_to_the_next(file: Path) -> None:
    with History(file) as first:
        intend(first, 4096)
        assert first.set_aside is None
    with History(file) as second:
        assert len(second.journal.intents()) == 1


@pytest.mark.parametrize("content", [b"this is no database " * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_file_is_moved_aside(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    with History(file) as history:
        assert history.set_aside is not None
        assert history.set_aside.name.startswith("lmstrix.db.corrupt-")
        assert history.set_aside.read_bytes() == content
        assert intend(history, 1) == 1


def test_damage_found_later_is_one_line(file: Path) -> None:
    with History(file) as history:
        for number in range(200):
            history.calls.add(call(f"text {number} " * 50))
    content = bytearray(file.read_bytes())
    half = len(content) // 2
    content[half:] = b"\xff" * half
    file.write_bytes(content)
    with History(file) as history, pytest.raises(HistoryError, match="damaged; move it away") as caught:
        history.calls.latest(limit=1000)
    assert "\n" not in str(caught.value)


def test_a_newer_file_is_refused_and_left_alone(file: Path) -> None:
    History(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(HistoryError, match="schema version 99"):
        History(file)
    assert file.exists()
    assert not list(file.parent.glob("*.corrupt-*"))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match="check its folder"):
        History(tmp_path / "file" / "lmstrix.db")
    (tmp_path / "lmstrix.db").mkdir()
    with pytest.raises(HistoryError, match="check that its folder exists"):
        History(tmp_path / "lmstrix.db")


@pytest.mark.needs_posix("limits on what a process may write")
def test_a_full_disk_fails_the_write_and_nothing_else(history: History) -> None:
    intend(history, 4096)
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))  # stands in for a full disk
    try:
        with pytest.raises(HistoryError, match="free some disk space"):
            history.calls.add(call("x" * 500_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(history.journal.intents()) == 1
    intend(history, 8192)
    assert len(history.journal.intents()) == 2


def test_a_closed_history_says_so(file: Path) -> None:
    history = History(file)
    history.close()
    with pytest.raises(HistoryError, match="closed"):
        history.calls.latest()


def test_processes_opening_a_new_file_at_once_all_write(file: Path) -> None:
    code = "run = j.begin_run('test')\nfor n in range(1, 21): j.intend(run, 'm', 'c', kind='load', context_length=n)"
    assert [finish(process) for process in [child(file, code) for _ in range(3)]] == [0, 0, 0]
    with History(file) as history:
        assert len(history.journal.intents(model_path="m")) == 60


def test_a_failed_transaction_leaves_nothing(history: History) -> None:
    run_id = history.journal.begin_run("test")
    with pytest.raises(HistoryError):
        history.journal.intend("no such run", MODEL, CONFIGURATION, kind="load", context_length=1)
    assert history.journal.intents(run_id=run_id) == []
    assert history.journal.intents() == []
