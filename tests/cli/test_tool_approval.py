"""`infer --tools … --approve`: what is asked before a tool runs, and what each reply does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.types import ToolCall
from lmstrix.reports.tool_approval import written_call
from tests.cli.conftest import SCRIPTED, loaded_on
from tests.cli.terminals import on_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran

pytestmark = pytest.mark.slow

QUESTION = ("infer", "the weather?", "-m", SCRIPTED, "--tools", "weather_tool.py:get_weather", "--approve")
CHOICES = "[y]es, [n]o, [a]lways, [q]uit: "


@pytest.fixture(autouse=True)
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the tool, which writes this file when it is called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weather_tool.py").write_text(
        "from pathlib import Path\n"
        "def get_weather(city: str) -> str:\n"
        '    """Weather now."""\n'
        '    Path("called").write_text(city)\n'
        '    return f"21 degrees in {city}"\n',
        encoding="utf-8",
    )
    return tmp_path / "called"


def test_without_a_terminal_it_is_refused_before_anything_is_loaded(
    cli: Callable[..., Ran], engine: EmbeddedEngine
) -> None:
    cli(*QUESTION).failed(2, "--approve asks on the terminal")
    cli("infer", "hi", "--approve").failed(2, "no effect without --tools")
    assert loaded_on(engine.address) == []


@pytest.mark.needs_posix("no pseudo-terminals")
@pytest.mark.parametrize("reply", ["y", "YES", "a"])
def test_what_is_approved_runs(engine: EmbeddedEngine, home: Path, called: Path, reply: str) -> None:
    with on_terminal(engine.address, home, *QUESTION, "--log-file", "log.txt") as screen:
        assert 'The model wants to run get_weather(city="Paris")' in screen.wait_for(CHOICES)
        screen.type(f"what?\n{reply}\n")
        screen.wait_for(CHOICES)
        screen.wait_for("It is 21 degrees in Paris today.")
    assert called.read_text() == "Paris"
    assert "tool get_weather: approved" in called.with_name("log.txt").read_text(encoding="utf-8")


@pytest.mark.needs_posix("no pseudo-terminals")
def test_what_is_denied_does_not_run_and_the_model_hears_of_it(
    engine: EmbeddedEngine, home: Path, called: Path
) -> None:
    with on_terminal(engine.address, home, *QUESTION, "--quiet", "--log-file", "log.txt") as screen:
        screen.wait_for(CHOICES)
        screen.type("n\n")
    assert not called.exists()
    assert "tool get_weather: denied" in called.with_name("log.txt").read_text(encoding="utf-8")
    (kept,) = (home / "lmstrix" / "conversations").glob("*.json")
    assert "The user denied this call" in kept.read_text(encoding="utf-8")


@pytest.mark.needs_posix("no pseudo-terminals")
@pytest.mark.parametrize("reply", ["q\n", "\x04"])
def test_the_whole_answer_may_be_ended(engine: EmbeddedEngine, home: Path, called: Path, reply: str) -> None:
    with on_terminal(engine.address, home, *QUESTION, exit_code=1) as screen:
        screen.wait_for(CHOICES)
        screen.type(reply)
        screen.wait_for("ended at the call of get_weather, as you chose; it was not run")
    assert not called.exists()


@pytest.mark.needs_posix("no pseudo-terminals")
def test_an_interrupt_at_the_question_ends_it(engine: EmbeddedEngine, home: Path, called: Path) -> None:
    with on_terminal(engine.address, home, *QUESTION, exit_code=130) as screen:
        screen.wait_for(CHOICES)
        screen.type("\x03")
    assert not called.exists()


def test_a_call_is_shown_whole_and_drives_no_terminal() -> None:
    long = "x" * 5000
    shown = written_call(
        ToolCall(
            name="run\x1b[2J", arguments={"text": "a\nb\x1b]0;t\x07\u202eevil\u200b", "東京": [1, None], "long": long}
        )
    )
    assert shown.startswith('run\\u001b[2J(text="a\\nb\\u001b]0;t\\u0007\\u202eevil\\u200b", 東京=[1, null], long="xxx')
    assert long in shown
    assert shown.isprintable()
