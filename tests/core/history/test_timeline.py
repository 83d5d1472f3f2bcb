"""What led to a result, in order, from the rows of the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.core.history import History, Probe
from lmstrix.core.history.timeline import HistoryEvent, timeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lmstrix.ground.types import AttemptKind

MODEL, CONFIGURATION = "a/b/c.gguf", "embedded"


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "lmstrix.db") as opened:
        yield opened


def attempt(history: History, run_id: str, kind: AttemptKind, tokens: int) -> int:
    return history.journal.intend(
        run_id, MODEL, CONFIGURATION, kind=kind, context_length=tokens, predicted_bytes=1000 * tokens
    )


def probe(history: History, run_id: str, tokens: int, *, passed: bool) -> None:
    details = {"outcome": "ok" if passed else "recall lost", "reason": "8 of 8" if passed else "1 of 8"}
    history.journal.add_probe(
        Probe(
            model_path=MODEL,
            configuration=CONFIGURATION,
            context_length=tokens,
            passed=passed,
            prompt_tokens=tokens - 3,
            score_ratio=1.0 if passed else 0.125,
            details=details,
        ),
        run_id=run_id,
    )


def events(history: History, *, newest_run_only: bool = True, dead: tuple[int, ...] = ()) -> list[HistoryEvent]:
    journal = history.journal
    return timeline(
        journal.intents(model_path=MODEL), journal.probes(MODEL), dead=dead, newest_run_only=newest_run_only
    )


def one_test(history: History, tokens: int) -> None:
    """A load that failed, one that held, and its filling with two prompts."""
    run_id = history.journal.begin_run("test")
    too_long = attempt(history, run_id, "load", 2 * tokens)
    history.journal.settle(too_long, "out of memory at load", proves="bad", details={"detail": "failed to allocate"})
    history.journal.settle(attempt(history, run_id, "load", tokens), "ok", proves="good")
    filling = attempt(history, run_id, "prefill", tokens)
    probe(history, run_id, tokens // 2, passed=True)
    probe(history, run_id, tokens, passed=False)
    history.journal.settle(filling, "recall lost", proves="good", details={"detail": "1 of 8"})


def test_the_newest_run_alone_in_the_order_it_happened(history: History) -> None:
    one_test(history, 1000)
    one_test(history, 4000)
    told = events(history)
    assert [(event.kind, event.tokens, event.outcome) for event in told] == [
        ("load", 8000, "out of memory at load"),
        ("load", 4000, "ok"),
        ("prefill", 4000, "recall lost"),
        ("probe", 1997, "ok"),
        ("probe", 3997, "recall lost"),
    ]
    assert told[0].detail == "failed to allocate"
    assert told[0].predicted_bytes == 8_000_000
    assert told[0].elapsed_s is not None
    assert told[0].elapsed_s >= 0
    assert told[-1].score_ratio == 0.125
    assert told[-1].detail == "1 of 8"
    assert len(events(history, newest_run_only=False)) == 10


def test_what_never_ended_is_told_from_what_is_under_way(history: History) -> None:
    run_id = history.journal.begin_run("test")
    died = attempt(history, run_id, "load", 4000)
    attempt(history, run_id, "load", 2000)
    assert [event.outcome for event in events(history, dead=(died,))] == ["never ended", "under way"]
    # Settled by a later test, whose moment is not when this one ended.
    history.journal.settle(died, "process_died", proves="bad")
    told = events(history)[0]
    assert (told.outcome, told.elapsed_s, told.proves) == ("process died", None, "bad")


def test_no_test_has_no_events(history: History) -> None:
    assert events(history) == []
