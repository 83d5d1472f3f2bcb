"""The one moving line: what is done, how far it is, what is left, and nothing where nothing can move."""

from __future__ import annotations

import re
import time

import pytest

from lmstrix.core.context.eta import TimeLeft
from lmstrix.core.context.report import Step
from lmstrix.core.context.verdict import Outcome
from lmstrix.core.registry.records import ModelRecord
from lmstrix.reports.console import Console
from lmstrix.reports.progress import ProgressLine
from lmstrix.reports.tests import ContextTestProgressLine

MODEL = ModelRecord("acme/tiny.gguf", {"model_key": "tiny"})


def test_a_line_tells_what_is_done_and_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # else Rich sees no terminal, and draws nothing
    monkeypatch.setenv("COLUMNS", "120")
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    with ProgressLine(Console(), live=True) as line:
        line.begin("planning")
        line.update("loading \x1b[2Jtiny", 0.0)
        now_s = 110.0
        line.update("loading \x1b[2Jtiny", 0.25)
    err = capsys.readouterr().err
    assert "loading ?[2Jtiny" in err
    assert "30 s left" in err
    assert "\x1b[2J" not in err


@pytest.mark.parametrize("console", [Console(quiet=True), Console(verbose=True), Console()])
def test_where_nothing_can_move_nothing_is_drawn(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine(console) as line:
        assert not line.live
        line.begin("loading tiny")
        line.update("loading tiny", 0.5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("console", "told"),
    [
        (Console(), "testing tiny (2/3)\n"),
        (Console(verbose=True), f"testing tiny (2/3)\ntiny (2/3): loading 4,096: {Outcome.OK} (in 2 s)\n"),
        (Console(quiet=True, verbose=True), ""),
    ],
)
def test_a_test_tells_its_steps_in_notes_where_no_line_moves(
    console: Console, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with ContextTestProgressLine(console, live=False) as line:
        line.model(MODEL, 2, 3)
        line.step(Step(model_key="tiny", kind="load", context_length=4096, ratio=0.5))
        line.step(Step(model_key="tiny", kind="load", context_length=4096, outcome=Outcome.OK, detail="in 2 s"))
    assert capsys.readouterr().err == told


def test_answering_is_named_and_moves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with ContextTestProgressLine(Console(), live=True) as line:
        line.model(MODEL, 1, 1)
        line.step(Step(model_key="tiny", kind="prefill", context_length=4096, ratio=1.0))
        for answered in (1, 34):
            line.step(
                Step(
                    model_key="tiny",
                    kind="answer",
                    context_length=4096,
                    ratio=answered / 160,
                    answered_tokens=answered,
                    max_tokens=160,
                )
            )
    assert "tiny: answering, 34 of at most 160 tokens" in capsys.readouterr().err


def test_an_ending_that_names_itself_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    step = Step(
        model_key="tiny",
        kind="recall",
        context_length=4096,
        outcome=Outcome.RECALL_LOST,
        detail="recall lost at the beginning (7 of 8)",
    )
    with ContextTestProgressLine(Console(verbose=True), live=False) as line:
        line.model(MODEL, 1, 1)
        line.step(step)
    assert capsys.readouterr().err == "tiny: recall at 4,096: recall lost at the beginning (7 of 8)\n"


@pytest.mark.parametrize(
    ("columns", "left", "shown"),
    [
        (80, TimeLeft(), "tiny (2/3): loading 4,096"),
        (80, TimeLeft(model_s=190.0), "tiny (2/3): loading 4,096 about 3 min left"),
        (80, TimeLeft(model_s=190.0, all_s=7000.0), "tiny (2/3): loading 4,096 about 3 min left (2 h for all)"),
        (80, TimeLeft(model_s=4.0, all_s=4.0), "tiny (2/3): loading 4,096 a few seconds left"),
        (40, TimeLeft(model_s=190.0, all_s=7000.0), "tiny: loading 4,096 about 3 min"),
    ],
)
def test_a_test_tells_how_long_it_will_still_take_where_that_is_known(
    columns: int, left: TimeLeft, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown in drawn(MODEL, columns, left, monkeypatch, capsys)


def test_a_long_name_gives_way_to_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = ModelRecord("acme/long.gguf", {"model_key": "acme/a-name-that-goes-on-and-on-and-on-instruct-q4_k_m"})
    for columns in (80, 40):
        line = drawn(long, columns, TimeLeft(model_s=190.0, all_s=7000.0), monkeypatch, capsys)
        assert "loading 4,096" in line
        assert "about 3 min" in line


def drawn(
    record: ModelRecord,
    columns: int,
    left: TimeLeft,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """What the line of a test shows on a terminal so wide: its last state, without bar and clock."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    with ContextTestProgressLine(Console(color=False), live=True) as line:
        line.model(record, 2, 3)
        line.time_left(left)
        line.step(Step(model_key="tiny", kind="load", context_length=4096))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    last = text.replace("\r", "\n").strip().splitlines()[-1]
    assert len(last) <= columns
    return " ".join(word for word in last.split() if not re.fullmatch(r"[━╸╺]+|[0-9]:[0-9:]+", word))
