"""Where a prompt comes from: words, files, variables and pipes, and how they are joined."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.processes import finish, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder commands run in, with a text and a prompt file in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "notes.txt").write_text("Notes {{x}}\n")
    (folder / "p.toml").write_text('sum = "Sum up: {{text}}"\nlist = "{% for i in items %}{{ i }};{% endfor %}"\n')
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def sent(cli: Callable[..., Ran], here: Path) -> Callable[..., str]:
    """What `infer` with these words would send."""

    def dry_run(*words: str, stdin: bytes = b"") -> str:
        return cli("infer", *words, "--dry-run", stdin=stdin).ok().out

    return dry_run


@pytest.mark.parametrize(
    ("words", "stdin", "prompt"),
    [
        (["summarise"], b"Notes {{x}}\n", "summarise\n\nNotes {{x}}\n"),
        (["summarise", "-"], b"Notes", "summarise\n\nNotes"),
        (["summarise"], b"", "summarise"),
        (["summarise"], b" \n", "summarise"),
        (["summarise", "--no-stdin"], b"Notes", "summarise"),
        ([], b"Notes", "Notes"),
        (["-"], b"@p.toml:sum", "@p.toml:sum"),
        ([], b"@p.toml:sum", "@p.toml:sum"),
        (["Summarise: {{text}} Briefly."], b"Notes {{x}}", "Summarise: Notes {{x}} Briefly."),
        (["@p.toml:sum"], b"Notes {{x}}", "Sum up: Notes {{x}}"),
        (["sum", "--file-prompt", "p.toml"], b"Notes", "Sum up: Notes"),
        (["--text-file", "notes.txt"], b"", "Notes {{x}}\n"),
        (["--text", "alone"], b"", "alone"),
        (["--text-file", "notes.txt"], b"What?", "What?\n\nNotes {{x}}\n"),
        (["Summarise: {{text}}", "--text", "T"], b"", "Summarise: T"),
        (["Summarise: {{ text | upper }}", "--text", "t"], b"", "Summarise: T"),
        (["Summarise: {{text}}", "--text-file", "notes.txt"], b"", "Summarise: Notes {{x}}\n"),
        (["Summarise:", "--text-file", "notes.txt"], b"", "Summarise:\n\nNotes {{x}}\n"),
        (["{{text}} and {{this}}"], b"", "{{text}} and {{this}}"),
        (["{{context}} {% x", "--text", "t"], b"", "{{context}} {% x\n\nt"),
        (["Hi {{name}}", "--var", "name={{text}}"], b"", "Hi {{text}}"),
        (["Hi {{name}}: {{text}}", "--var", "name=Ada"], b"T", "Hi Ada: T"),
        (["Hi {{name}}", "--var", "name=Ada"], b"T", "Hi Ada\n\nT"),
        (["list", "--file-prompt", "p.toml", "--var", 'items:=[1, "b", {"c": null}]'], b"", '1;b;{"c": null};'),
        (["{{#each order.items}}{{this.n}}{{/each}}", "--var", 'order:={"items": [{"n": 1}]}'], b"", "1"),
        (["{{n + 1}}", "--var", "n:=41"], b"", "42"),
        (["{{n}}", "--var", "n=:=1"], b"", ":=1"),
    ],
)
def test_what_is_sent(sent: Callable[..., str], words: list[str], stdin: bytes, prompt: str) -> None:
    assert sent(*words, stdin=stdin) == prompt


@pytest.mark.parametrize(
    ("words", "stdin", "code", "parts"),
    [
        ([], b"", 2, ["infer needs a PROMPT"]),
        (["hi", "-"], b"", 2, ["stdin is empty"]),
        (["hi", "-f", "empty.txt"], b"", 2, ["--context-file: empty.txt is empty; leave it out"]),
        (["hi", "--text-file", "empty.txt"], b"", 2, ["--text-file: empty.txt is empty; leave it out"]),
        (["hi", "--text-file", "-"], b"", 2, ["--text-file: stdin is empty; leave it out"]),
        (["hi", "-m", ""], b"", 2, ["--model: the text is empty"]),
        (["hi", "--text", "T"], b"piped", 2, ["not from two", "--no-stdin"]),
        (["sum", "--file-prompt", "p.toml", "--text-file", "notes.txt"], b"piped", 2, ["not from two"]),
        (["@p.toml:list", "--var", "items=x"], b"piped", 1, ["would be lost"]),
        (["hi"], b"caf\xe9", 2, ["not valid UTF-8", "byte 3"]),
        (["Hi {{name}}", "--var", "x=1"], b"", 1, ["the prompt: ", "needs name", "--var NAME=VALUE"]),
        (["{{x}}", "--var", "x:=[1"], b"", 2, ["--var: '[1'", "is not valid JSON", "x=TEXT"]),
        (["{{x}}", "--var", "x:=" + "[" * 5000 + "]" * 5000], b"", 2, ["too deeply"]),
        (["{{x}}", "--var", "x:=" + "9" * 100_000], b"", 2, ["4,300 digits"]),
        (["{{x}}", "--vars-file", "nosuch.json"], b"", 1, ["no file at nosuch.json"]),
        (["{% set y = 'abcdefghij' %}" + "{% set y = y ~ y %}" * 30, "--var", "x=1"], b"", 1, ["could build"]),
    ],
)
def test_what_is_refused(
    cli: Callable[..., Ran], here: Path, words: list[str], stdin: bytes, code: int, parts: list[str]
) -> None:
    (here / "empty.txt").write_text(" \n", encoding="utf-8")
    cli("infer", *words, stdin=stdin).failed(code, *parts)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.json", json.dumps({"items": ["a", 2], "who": {"name": "Ada"}})),
        ("v.toml", 'items = ["a", 2]\n[who]\nname = "Ada"\n'),
    ],
)
def test_variables_from_a_file(sent: Callable[..., str], here: Path, name: str, content: str) -> None:
    (here / name).write_text(content)
    prompt = "{% for i in items %}{{ i }} {% endfor %}{{ who.name }}"
    assert sent(prompt, "--vars-file", name) == "a 2 Ada"
    assert sent(prompt, "--vars-file", name, "--var", "items:=[]") == "Ada"


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("v.json", "[1]", "a table of variables by name"),
        ("v.json", '{"a": ' * 5000 + "1" + "}" * 5000, "too deeply"),
        ("v.json", '{"a": ' + "9" * 100_000 + "}", "4,300 digits"),
        ("v.toml", "a = " + "[" * 5000 + "]" * 5000, "too deeply"),
        ("v.toml", "a = 0x" + "9" * 100_000, "4,300 digits"),
        ("v.txt", "a: 1", "is not valid TOML"),
    ],
    ids=range(6),
)
def test_a_file_of_variables_that_is_none(
    cli: Callable[..., Ran], here: Path, name: str, content: str, part: str
) -> None:
    (here / name).write_text(content)
    cli("infer", "{{a}}", "--vars-file", name).failed(1, name, part)


@pytest.mark.parametrize("content", ["a = " + "[" * 5000 + "]" * 5000, "a = " + "9" * 100_000], ids=["deep", "long"])
def test_a_hostile_prompt_file_is_one_line(cli: Callable[..., Ran], here: Path, content: str) -> None:
    (here / "h.toml").write_text(content)
    for words in (["prompts", "list", "h.toml"], ["prompts", "lint", "h.toml"], ["infer", "@h.toml:a"]):
        cli(*words).failed(1, "h.toml")


def test_a_file_of_standard_input_is_read_and_a_device_is_not(here: Path) -> None:
    with (here / "notes.txt").open("rb") as notes:
        code, out, err = finish(start("infer", "summarise", "--dry-run", stdin=notes))
    assert (code, out.strip()) == (0, "summarise\n\nNotes {{x}}"), err
    with open("/dev/zero", "rb") as zeros:  # noqa: PTH123 - a device
        code, out, err = finish(start("infer", "summarise", "--dry-run", stdin=zeros))
    assert (code, out.strip()) == (0, "summarise"), err


def test_a_pipe_that_stays_silent_is_waited_for_and_told(here: Path) -> None:
    process = start("infer", "summarise", "--dry-run", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    assert b"waiting for the text on stdin" in process.stderr.readline()
    process.stdin.write(b"late")
    code, out, _ = finish(process)
    assert (code, out.strip()) == (0, "summarise\n\nlate")


def test_a_text_without_end_is_refused(here: Path) -> None:
    reader, writer = os.pipe()
    process = start("infer", "summarise", "--dry-run", stdin=reader)
    os.close(reader)
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            os.write(writer, b"y\n" * 30_000)
    except BrokenPipeError:
        pass
    finally:
        os.close(writer)
    code, _, err = finish(process)
    assert (code, "longer than 64" in err) == (2, True), err
