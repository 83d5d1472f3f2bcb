"""What `infer` can be told, on the real engine: prompt files, dry runs, schemas, tools, conversations, deadlines."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder
from tests.cli.conftest import EMBEDDING, SCRIPTED, loaded_on
from tests.cli.processes import finish, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix import EmbeddedEngine
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

PROMPTS = """
sum = "2+3="
[greet]
system_prompt = "Be {{mood}}."
prompt = "{{opening}}, {{name}}!\\n{{text}}"
[greet.defaults]
mood = "kind"
opening = "Hello"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder commands run in, with prompts.toml in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "prompts.toml").write_text(PROMPTS, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


Cli = "Callable[..., Ran]"


def test_a_prompt_file_answers(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    assert cli("infer", "sum", "--file-prompt", "prompts.toml", "-m", SCRIPTED).ok().out == "5\n"
    assert cli("infer", "@prompts.toml:sum", "-m", SCRIPTED, "--save-response", "a.txt").ok().out == "5\n"
    assert (here / "a.txt").read_text(encoding="utf-8") == "5"


def test_a_dry_run_needs_no_server(cli: Callable[..., Ran], here: Path) -> None:
    words = ("infer", "greet", "--file-prompt", "prompts.toml", "--dict", "name='Ada, Countess'", "--dry-run")
    ran = cli(*words, "--var", "mood=a=b", "--text", "{{name}}").ok()
    assert ran.out == "Hello, Ada, Countess!\n{{name}}"
    assert "system prompt: Be a=b." in ran.err
    assert "about 10 tokens" in ran.err
    assert "nothing was sent" in ran.err
    told = cli(*words, "--text", "t", "--json").ok().json
    assert told["schema"] == "lmstrix.infer/1"
    assert (told["prompt"], told["prompt_tokens"], told["count_exact"]) == ("Hello, Ada, Countess!\nt", 9, False)
    assert (told["system_prompt"], told["counted_by"], told["model_key"]) == ("Be kind.", "bytes", None)


def test_a_loaded_model_counts_a_dry_run_exactly(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    told = cli("infer", "2+3=", "-m", SCRIPTED, "--dry-run", "--json").ok().json
    assert not told["count_exact"]
    sent = cli("infer", "2+3=", "-m", SCRIPTED, "--json").ok().json
    told = cli("infer", "2+3=", "--dry-run", "--json").ok().json
    assert (told["count_exact"], told["counted_by"]) == (True, "model")
    assert told["prompt_tokens"] == sent["prompt_tokens"]
    assert told["model_key"] == SCRIPTED


def test_stdin_and_files_as_text_and_context(cli: Callable[..., Ran], here: Path) -> None:
    (here / "a.txt").write_text("A\n", encoding="utf-8")
    (here / "b.txt").write_text("B", encoding="utf-8")
    piped = cli(
        "infer", "greet", "--file-prompt", "prompts.toml", "--var", "name=x", "--stdin", "--dry-run", stdin=b"T"
    )
    assert piped.ok().out == "Hello, x!\nT"
    words = ("infer", "Sum up:", "--dry-run", "--text-file", "a.txt")
    assert cli(*words).ok().out == "Sum up:\n\nA\n"
    assert cli(*words, "--context-file", "b.txt", "--context-file", "a.txt").ok().out == "B\n\nA\n\n\nSum up:\n\nA\n"


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["greet", "--file-prompt", "prompts.toml"], 1, "needs name, text"),
        (["nosuch", "--file-prompt", "prompts.toml"], 1, "has no prompt 'nosuch'"),
        (["sum", "--file-prompt", "prompts.toml", "--text", "x"], 1, "would be lost"),
        (["sum", "--file-prompt", "nosuch.toml"], 1, "no file at"),
        (["hi {{name}}", "--var", "nmae=b"], 1, "needs name (did you mean nmae?)"),
        (["hi", "--text", "x", "--text-file", "y"], 2, "not both"),
        (["hi", "--schema", "prompts.toml"], 2, "is not valid JSON"),
        (["hi", "--schema", "pydantic:nosuch:X"], 2, "cannot be imported"),
        (["hi", "--schema", "name, age number"], 2, "there are str, int, float, bool"),
        (["hi", "--schema", "name", "--schema-multi", "name"], 2, "not both"),
        (["hi", "--schema-multi", "name, name"], 2, "'name' twice"),
        (["hi", "--tools", "os"], 2, "no module:name"),
        (["hi", "--tools", "os:nosuch"], 2, "has no 'nosuch'"),
        (["hi", "--continue"], 2, "there is no conversation yet"),
        (["hi", "--save-response", "no/such/file"], 2, "there is no folder"),
        (["hi", "--out-ctx", "all"], 2, "is not a number"),
    ],
)
def test_wrong_words_are_told_before_anything_runs(
    cli: Callable[..., Ran], here: Path, words: list[str], code: int, part: str
) -> None:
    cli("infer", *words).failed(code, part)


def test_the_size_is_told_before_sending(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    ran = cli("infer", "2+3=", "-m", SCRIPTED, "--in-ctx", "1024", "--out-ctx", "max", "--verbose").ok()
    assert f"fits: {ran.err.split('fits: ')[1].split()[0]} of 1,024" in ran.lines


def test_what_does_not_fit_is_refused_with_three_ways_out(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    ran = cli("infer", "word " * 3000, "-m", SCRIPTED, "--in-ctx", "1024", "--quiet")
    ran.failed(1, "1,024", "--in-ctx", "--max-tokens", "shorten the prompt")
    assert loaded_on(engine.address) == []


def test_an_answer_of_a_shape(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    (here / "mood.json").write_text(json.dumps({"enum": ["cheerful"]}), encoding="utf-8")
    (here / "moods_of_test.py").write_text(
        "import enum\nclass Mood(enum.Enum):\n    DULL = 'dull'\n    GRIM = 'grim'\n", encoding="utf-8"
    )
    question = ("infer", "JSON, please", "-m", SCRIPTED, "--out-ctx", "40", "--schema")
    assert json.loads(cli(*question, "mood.json").ok().out) == "cheerful"
    assert json.loads(cli(*question, "pydantic:moods_of_test.py:Mood").ok().out) in ("dull", "grim")
    assert json.loads(cli(*question, '{"enum": ["inline"]}').ok().out) == "inline"


def test_an_answer_of_these_fields(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    question = ("infer", "JSON, please", "-m", SCRIPTED, "--seed", "1", "--out-ctx", "400")
    answer = json.loads(cli(*question, "--schema", "sunny bool: whether it shines, dry bool").ok().out)
    assert set(answer) == {"sunny", "dry"}
    assert isinstance(answer["sunny"], bool)


def test_an_answer_of_another_shape_fails(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    (here / "long.json").write_text(json.dumps({"type": "array", "items": {"type": "string"}}), encoding="utf-8")
    ran = cli("infer", "JSON, please", "-m", SCRIPTED, "--schema", "long.json", "--out-ctx", "1", "--quiet")
    assert (ran.code, len(ran.lines)) == (1, 1)
    assert ran.out  # it stays the answer
    assert "is no JSON" in ran.err
    assert "long.json" in ran.err


def test_tools_are_called(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    (here / "weather_of_test.py").write_text(
        'def get_weather(city: str) -> str:\n    """Weather now."""\n    return f"21 degrees in {city}"\n',
        encoding="utf-8",
    )
    ran = cli("infer", "the weather?", "-m", SCRIPTED, "--tools", "weather_of_test:get_weather").ok()
    assert ran.out == "It is 21 degrees in Paris today.\n"
    assert "get_weather" in ran.err
    assert "21 degrees in Paris" in ran.err


def test_a_conversation_goes_on(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    cli("infer", "2+3=", "-m", SCRIPTED, "--system-prompt", "Be brief.").ok()
    cli("infer", "hello", "--continue").ok()
    kept = json.loads((own_folder(home) / "conversations" / "infer.json").read_text(encoding="utf-8"))
    assert kept["schema"] == "lmstrix.conversation/1"
    assert [(message["role"], message["text"]) for message in kept["messages"]] == [
        ("system", "Be brief."),
        ("user", "2+3="),
        ("assistant", "5"),
        ("user", "hello"),
        ("assistant", "Hello! I am a tiny model with few words."),
    ]


def test_a_model_in_the_prompts_place(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan").ok()
    for more in ([], ["--dry-run"]):
        cli("infer", SCRIPTED, "-m", "Who are you?", *more).failed(
            1, f"'{SCRIPTED}', given as the prompt", "comes first"
        )
        cli("infer", "nothing", "-m", "Who are you?", *more).failed(1, "lmstrix list shows all")


def test_the_same_call_is_answered_from_the_cache(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    words = ("infer", "2+3=", "-m", SCRIPTED, "--cache", "--ttl", "0", "--json")
    first = cli(*words).ok().json
    again = cli(*words).ok()
    assert again.json == first
    assert "loading" not in again.err
    assert "loading" in cli(*words, "--seed", "1").ok().err


def test_a_model_without_eyes_is_shown_no_image(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan").ok()
    cli("infer", "what is it?", "--image", "cat.png", "-m", SCRIPTED).failed(2, "takes no images")
    cli("infer", "hi", "-m", EMBEDDING).failed(2, "embedding model")


def test_auto_model_chooses_one_that_answers(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    ran = cli("infer", "hello", "--auto-model", "--out-ctx", "3", "--json").ok()
    assert ran.json["model_key"] in (SCRIPTED, "tiny")
    assert "it is" in ran.err
    cli("infer", "hello", "--auto-model", "-m", "tiny").failed(2, "not both")


def test_reasoning_goes_to_stderr(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    ran = cli("infer", "think", "-m", SCRIPTED, "--stream").ok()
    assert ran.out.strip() == "The answer: five."
    assert "Two plus three makes five." in ran.err


@pytest.mark.parametrize(
    ("fault", "option", "limit", "told"),
    [
        ("hang", "--first-token-timeout", "200ms", "no first token within 0.2 s"),
        ("hang after 2 words", "--stream-timeout", "200ms", "no further token within 0.2 s"),
        ("hang after 2 words", "--timeout", "3s", "was not done within 3 s"),  # the scan and the load count too
    ],
)
def test_a_deadline_ends_a_stalled_answer(
    cli: Callable[..., Ran], faulty: FaultyServer, fault: str, option: str, limit: str, told: str
) -> None:
    faulty.faults.predict = fault
    cli("infer", "hi", "-m", "acme/tiny", "--quiet", option, limit).failed(1, told)


@pytest.mark.slow
@pytest.mark.needs_posix("signals to a process")
def test_interrupting_cancels_on_the_server(engine: EmbeddedEngine) -> None:
    running = start("infer", "a story", "-m", SCRIPTED, "--stream", "--ttl", "0")
    assert running.stdout is not None
    running.stdout.read(1)
    running.send_signal(signal.SIGINT)
    code, _, err = finish(running)
    assert (code, err.splitlines()[-1]) == (130, "lmstrix: interrupted")
    assert loaded_on(engine.address) == []


def test_the_only_model_there_is_need_not_be_named(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    cli("scan", "--quiet").ok()
    cli("infer", "2+3=").failed(2, "which model?")  # there are two that generate text
    registry = json.loads((home / "lmstrix.json").read_text(encoding="utf-8"))
    registry["models"] = {path: raw for path, raw in registry["models"].items() if "scripted" in path}
    (home / "lmstrix.json").write_text(json.dumps(registry), encoding="utf-8")
    assert cli("infer", "2+3=").ok().out == "5\n"
