"""How an answer is shown: streamed on a terminal, plain through pipes, only its code; what the short options mean."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from lmstrix.cli.app import COMMANDS
from lmstrix.cli.model_options import ELSEWHERE
from lmstrix.cli.options import SamplingOptions
from lmstrix.cli.signatures import describe, options_of
from lmstrix.ground.paths import own_folder
from tests.cli.conftest import SCRIPTED
from tests.cli.processes import finish, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

MODEL = "acme/tiny"
THOUGHT = "Two plus three"
CODE = "Here:\n\n```python\nprint(1)\n```\n\nor\n\n```sh\necho 2\n```\n"


def answering(faulty: FaultyServer, text: str) -> None:
    fragment = {"content": text, "tokensCount": 1, "containsDrafted": False, "reasoningType": "none"}
    faulty.script = [{"type": "fragment", "fragment": fragment | {"isStructural": False}}]


def test_extract_prints_the_code_alone(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    answering(faulty, CODE)
    ask = ("infer", "hi", "-m", MODEL)
    ran = cli(*ask, "-x").ok()
    assert ran.out == "print(1)\n"
    assert "the answer has 2 code blocks; this is the first" in ran.err
    assert cli(*ask, "--extract-last").ok().out == "echo 2\n"
    told = cli(*ask, "-x", "--json").ok().json
    assert (told["code"], told["text"]) == ("print(1)\n", CODE)
    assert cli(*ask).ok().out == CODE
    cli(*ask, "-x", "--extract-last").failed(2, "not both")


def test_extract_fails_where_there_is_no_code(cli: Callable[..., Ran], faulty: FaultyServer, home: Path) -> None:
    answering(faulty, "none at all")
    cli("infer", "hi", "-m", MODEL, "-x", "--quiet").failed(1, "no code block")
    kept = json.loads((own_folder(home) / "conversations" / "infer.json").read_text(encoding="utf-8"))
    assert kept["messages"][-1]["text"] == "none at all"  # an answer is not lost for want of code


def test_through_a_pipe_markdown_stays_what_it_is(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    answering(faulty, "# Title\n\n**bold**\n")
    for words in ((), ("--markdown",), ("--markdown", "--stream")):
        assert cli("infer", "hi", "-m", MODEL, *words).ok().out == "# Title\n\n**bold**\n"
    assert cli("chat", "-m", MODEL, "--markdown", stdin=b"hi\n").ok().out == "# Title\n\n**bold**\n"


def test_short_options_mean_what_they_mean_to_users_of_llm(
    cli: Callable[..., Ran], engine: EmbeddedEngine, tmp_path: Path, home: Path
) -> None:
    cli("scan", "--quiet").ok()
    (tmp_path / "notes.txt").write_text("Notes.\n", encoding="utf-8")
    ask = ("infer", "2+3=", "-m", SCRIPTED, "-s", "Be short.", "-f", str(tmp_path / "notes.txt"))
    told = cli(*ask, "--dry-run", "--json").ok().json
    assert (told["system_prompt"], told["prompt"]) == ("Be short.", "Notes.\n\n\n2+3=")
    cli("infer", "2+3=", "-m", SCRIPTED).ok()
    before = cli("infer", "again", "-c", "--dry-run", "--json").ok().json["prompt_tokens"]
    assert before > cli("infer", "again", "-m", SCRIPTED, "--dry-run", "--json").ok().json["prompt_tokens"]
    for words in (("-o", "max_tokens", "3"), ("-o", "max-tokens=3")):
        assert cli("infer", "a story", "-m", SCRIPTED, *words, "--json").ok().json["completion_tokens"] == 3
    cli("infer", "hi", "-o", "temperature").failed(2, "-o temperature 0.7")
    cli("infer", "hi", "-o", "--dry-run").failed(2, "-o needs the name of an option")
    cli("infer", "hi", "-o", "seed", "--dry-run").failed(2, "-o seed needs a value")
    cli("infer", "hi", "-o", "temperature", "hot").failed(2, "--temperature")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("temprature", "did you mean 'temperature'?"),
        ("temp", "did you mean 'temperature'?"),
        ("topk", "did you mean 'top-k'?"),
        ("num_ctx", "did you mean 'in-ctx'?"),
        ("num_predict", "did you mean 'max-tokens'?"),
        ("json_object", "did you mean 'schema'?"),
        ("zzz", "infer: -o sets no option 'zzz' (--help lists them)"),
    ],
)
def test_an_unknown_model_option_is_told_the_nearest(cli: Callable[..., Ran], name: str, told: str) -> None:
    for words in ((name, "3"), (f"{name}=3",)):
        cli("infer", "hi", "-o", *words).failed(2, f"-o sets no option '{name}'", told)


def test_every_model_option_can_be_set_in_all_that_asks() -> None:
    sampling = {each.flag for each in options_of(SamplingOptions)}
    for path in (("infer",), ("chat",), ("batch",)):
        assert sampling <= {each.flag for each in describe(path, COMMANDS[path]).parameters}
    assert set(ELSEWHERE.values()) <= {each.flag for each in describe(("infer",), COMMANDS["infer",]).parameters}


def test_no_log_keeps_nothing(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    assert cli("infer", "2+3=", "-m", SCRIPTED, "-n").ok().out == "5\n"
    assert cli("chat", "-m", SCRIPTED, "-n", stdin=b"2+3=\n").ok().out == "5\n"
    assert cli("logs", "--json").ok().json["calls"] == []
    assert not (own_folder(home) / "conversations").exists()


@pytest.mark.parametrize(
    ("words", "is_shown"),
    [
        ((), False),
        (("--stream",), True),
        (("--stream", "--reasoning", "hide"), False),
        (("-R", "show"), True),
        (("-R", "show", "--json"), True),
        (("--json",), False),
    ],
)
def test_reasoning_is_shown_or_hidden_and_never_part_of_the_answer(
    cli: Callable[..., Ran], engine: EmbeddedEngine, words: tuple[str, ...], is_shown: bool
) -> None:
    ran = cli("infer", "think", "-m", SCRIPTED, *words).ok()
    assert (THOUGHT in ran.err) == is_shown
    if "--json" in words:
        assert THOUGHT in ran.json["reasoning"]
    else:
        assert ran.out.strip() == "The answer: five."


@pytest.mark.parametrize(("words", "is_shown"), [((), True), (("-R", "hide"), False), (("--json",), False)])
def test_reasoning_in_a_chat(
    cli: Callable[..., Ran], engine: EmbeddedEngine, words: tuple[str, ...], is_shown: bool
) -> None:
    ran = cli("chat", "-m", SCRIPTED, *words, stdin=b"think\n").ok()
    assert (THOUGHT in ran.err) == is_shown


def test_penalties_and_thinking_reach_the_server(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("infer", "hi", "-m", MODEL, "--presence-penalty", "0.5", "--frequency-penalty=-0.25", "--no-think").ok()
    asked = str(faulty.seen)
    for name, value in (("presencePenalty", 0.5), ("frequencyPenalty", -0.25)):
        setting = {"key": f"llm.prediction.llama.{name}", "value": {"checked": True, "value": value}}
        assert str(setting) in asked
    assert str({"key": "llm.prediction.reasoning.enableThinking", "value": False}) in asked
    cli("infer", "hi", "-m", MODEL, "--presence-penalty", "1000").failed(2, "--presence-penalty")


@pytest.mark.slow
@pytest.mark.needs_posix("no pseudo-terminals")
def test_a_terminal_gets_the_answer_as_it_comes(engine: EmbeddedEngine) -> None:
    """What is streamed leaves no time for the line that counts the tokens of an answer."""
    import pty

    for words, is_streamed in (((), True), (("--markdown",), True), (("--no-stream",), False)):
        terminal, other_side = pty.openpty()
        limit = ("--max-tokens", "120")
        running = start("infer", "a story", "-m", SCRIPTED, *limit, *words, stdout=other_side, stderr=other_side)
        os.close(other_side)
        seen = b""
        try:
            while data := os.read(terminal, 65536):
                seen += data
        except OSError:  # Linux says so when the other side has left
            pass
        os.close(terminal)
        assert finish(running)[0] == 0
        assert b"Once there was a river" in seen
        assert (b"answering" not in seen) == is_streamed, words
