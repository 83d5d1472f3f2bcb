"""Messages name what their reader can change: options on the command line, parameters and methods in Python."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lmstrix
from lmstrix import LMStrix, LMStrixError, UsageError
from lmstrix.cli.app import COMMANDS
from lmstrix.cli.signatures import describe
from lmstrix.cli.wording import OptionWording
from lmstrix.core.answers.load_policy import output_limit
from lmstrix.ground.wording import WORDING, call, parameter, variables
from tests.support.sources import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Ran

SOURCE = Path(lmstrix.__file__).parent
SPEAK_TO_THE_TERMINAL = ("cli", "reports", "engine", "earlier", "__main__.py")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
SYSTEM_COMMANDS = {"core/benchmark/power_apple.py", "core/benchmark/environment.py", "core/memory/cards.py"}
"""What they pass to other programs."""
FOR_PIP = "--force-reinstall"


@pytest.fixture
def words_of() -> Iterator[Callable[[str], None]]:
    """Speak as while a command runs."""
    before = WORDING.get()

    def speak(command: str) -> None:
        path = tuple(command.split())
        WORDING.set(OptionWording(describe(path, COMMANDS[path])))

    yield speak
    WORDING.set(before)


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """The texts of a module, those in f-strings too, without docstrings."""
    tree = parsed(file)
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def test_no_message_below_the_command_line_names_an_option() -> None:
    named = [
        f"{place}:{line} {text!r}"
        for file in sorted(SOURCE.rglob("*.py"))
        if (place := file.relative_to(SOURCE).as_posix()).partition("/")[0] not in SPEAK_TO_THE_TERMINAL
        if place not in SYSTEM_COMMANDS
        for line, text in texts(file)
        if OPTION.search(text.replace(FOR_PIP, ""))
    ]
    assert named == []


def test_python_reads_python() -> None:
    assert parameter("timeout_s") == "`timeout_s`"
    assert parameter("force", True) == "`force=True`"
    assert parameter("models", "all") == "`models='all'`"
    assert call("test_model", "qwen") == "`test_model('qwen')`"
    assert call("test_all", switches=["resume"]) == "`test_all(resume=True)`"
    assert variables(["text", "name"]) == "give them in `variables`"


@pytest.mark.parametrize(
    ("command", "name", "value", "written"),
    [
        ("infer", "max_tokens", None, "--max-tokens"),
        ("infer", "context_length", None, "--in-ctx"),
        ("load", "context_length", None, "--ctx"),
        ("test", "context_length", None, "--ctx"),
        ("test", "force", True, "--force"),
        ("test", "resume", None, "--continue"),
        ("infer", "timeout_s", None, "--timeout"),
        ("infer", "model", None, "-m MODEL"),
        ("infer", "images", None, "--image"),
        ("bench", "tiers", None, "--context-tiers"),
        ("batch", "models", "all", "--models all"),
        ("scan", "models_dir", None, "--models-dir"),
    ],
)
def test_a_command_reads_its_own_options(
    words_of: Callable[[str], None], command: str, name: str, value: str | int | None, written: str
) -> None:
    words_of(command)
    assert parameter(name, value) == written


def test_a_command_reads_commands(words_of: Callable[[str], None]) -> None:
    words_of("infer")
    assert call("test_model", "qwen") == "lmstrix test qwen"
    assert call("benches.history") == "lmstrix bench history"
    assert variables(["text"]) == "give text with --text, --text-file or stdin"
    assert variables(["text", "name"]).endswith("the others with --var NAME=VALUE")
    words_of("test")
    assert call("test_all", switches=["resume"]) == "lmstrix test --all --continue"
    words_of("prompts render")  # which reads no text
    assert variables(["text"]) == "give them with --var NAME=VALUE"


def test_every_option_that_messages_name_is_one(words_of: Callable[[str], None]) -> None:
    """A parameter that no command has would be shown as an option that nobody can give."""
    from lmstrix.cli.app import common_parameters

    known = {f"--{each.flag}" for each in common_parameters()} | {"-m MODEL", "--no-stdin"}
    for path, function in COMMANDS.items():
        for each in describe(path, function).parameters:
            known |= {f"--{each.flag}", f"--{each.name.replace('_', '-')}"}
    words_of("infer")
    named = {
        node.args[0].value
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "parameter"
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    }
    assert len(named) > 30
    assert {name for name in named if parameter(name) not in known} == set()


def test_the_same_refusal_in_both_languages(words_of: Callable[[str], None]) -> None:
    def refusal() -> str:
        with pytest.raises(LMStrixError) as caught:
            output_limit(100, context_length=64, prompt_tokens=10)
        return str(caught.value)

    assert "(`max_tokens`)" in refusal()
    words_of("infer")
    assert "(--max-tokens)" in refusal()


def test_a_command_leaves_pythons_words_behind_it(cli: Callable[..., Ran], home: Path) -> None:
    cli("infer", "hi", "--raw", "--system-prompt", "Be brief.").failed(2, "--raw", "--system-prompt")
    with LMStrix(home=home) as lms, pytest.raises(UsageError, match="leave out `raw` or `system_prompt`"):
        lms.infer("hi", "m", raw=True, system_prompt="Be brief.")


def test_an_option_is_refused_by_the_name_it_was_given(cli: Callable[..., Ran]) -> None:
    cli("infer", "hi", "--out-ctx", "0").failed(2, "--out-ctx")
    cli("infer", "hi", "--max-tokens", "0").failed(2, "--max-tokens")
    cli("infer", "hi", "--out-ctx", "5", "--max-tokens", "6").failed(2, "given twice")
