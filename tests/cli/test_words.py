"""Words reach a command as the exact values they spell, or not at all."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.cli.kinds import Flag, Port, Seconds, Tokens, TokensOrRatio
from lmstrix.cli.signatures import Commands, describe
from lmstrix.cli.words import Invocation, parse
from lmstrix.ground.errors import UsageError

# original.md 4.11: every one of these was changed, dropped or refused by the earlier LMStrix.
PROMPTS = [
    "hello, world", "hello # x", "# Title\nbody", "[x]", "'quoted'", "123", "1e5", "3.10", "True", "None", "{a}",
    "0x10", "1_000", "(1)", "...", "{{text}}", "1,2", "- item", "ünïcödé 漢字 🙂", "007", "", " ", '"double"', "a=b",
    "--not an option", "-5", "@alice hi", "\\n", "a\tb", "%s", "{process.id}", "[/nope]",
]  # fmt: skip
DASHES = ["-x", "--", "-", "--stream", "-m", "--help"]


def infer(
    prompt: str | None = None,
    *,
    model: str | None = None,
    stream: bool = False,
    stdin: bool = False,
    out_ctx: TokensOrRatio | None = None,
    seed: int | None = None,
    temperature: float | None = None,
    stop: list[str] | None = None,
    shape: Literal["a", "b"] = "a",
    wait: Seconds | None = None,
    everything: Annotated[bool, Flag("all")] = False,
) -> None:
    """Ask a model.

    Args:
        prompt: What to ask.
        stream: Print as it comes.
    """


def engine_start(*, port: Port = 0, ctx: Tokens | None = None) -> None:
    """Start."""


def names(*models: str) -> None:
    """Many."""


def common(*, json: bool = False, server: str | None = None, help: bool = False) -> None:  # noqa: A002
    """Common."""


def names_sort(by: str) -> None:
    """Sort."""


COMMANDS: Commands = {
    ("infer",): infer,
    ("engine", "start"): engine_start,
    ("names",): names,
    ("names", "sort"): names_sort,
}
COMMON = describe(("x",), common).parameters


def read(*words: str) -> Invocation:
    return parse(words, COMMANDS, COMMON)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_stays_the_string_it_was(prompt: str) -> None:
    assert read("infer", prompt).options == {"prompt": prompt}
    assert read("infer", "-m", "x", prompt, "--stream").options == {"prompt": prompt, "model": "x", "stream": True}


@pytest.mark.parametrize("prompt", PROMPTS + DASHES)
def test_anything_may_follow_two_dashes_or_an_equals_sign(prompt: str) -> None:
    assert read("infer", "-m", "x", "--", prompt).options["prompt"] == prompt
    assert read("infer", f"--prompt={prompt}").options["prompt"] == prompt


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(prompt: str) -> None:
    assert read("infer", "--", prompt).options == {"prompt": prompt}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--out-ctx", "50%"], "out_ctx", 0.5),
        (["--out_ctx=32k"], "out_ctx", 32768),
        (["--seed", "-1"], "seed", -1),
        (["--temperature", "0"], "temperature", 0.0),
        (["--no-stream"], "stream", False),
        (["--stream=false"], "stream", False),
        (["--stop", "a,b", "--stop", "-"], "stop", ["a,b", "-"]),
        (["--shape", "b"], "shape", "b"),
        (["--wait", "2m"], "wait", 120.0),
        (["--all"], "everything", True),
        (["-m", "-x"], "model", "-x"),
    ],
)
def test_values_follow_annotations(words: list[str], name: str, value: Any) -> None:
    assert read("infer", "hi", *words).options[name] == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["infr"], "unknown command 'infr'; did you mean 'infer'?"),
        (["infer", "hi", "--temprature", "1"], "did you mean '--temperature'?"),
        (["infer", "-x"], "goes after --"),
        (["infer", "hi", "there"], "unexpected word 'there'"),
        (["infer", "hi", "--seed", "1.5"], "--seed: '1.5' is not a whole number"),
        (["infer", "hi", "--temperature", "nan"], "is not a number"),
        (["infer", "hi", "--out-ctx", "150%"], "more than 0%, at most 100%"),
        (["infer", "hi", "--out-ctx", "0%"], "more than 0%, at most 100%"),
        (["infer", "hi", "--out-ctx", "-5"], "-5 is below 0"),
        (["infer", "hi", "--out-ctx", "-five"], "is not a number"),
        (["infer", "hi", "--wait", "-1s"], "-1s is below 0"),
        (["infer", "hi", "--shape", "c"], "not one of a, b"),
        (["infer", "hi", "--model"], "--model needs a value"),
        (["infer", "hi", "--model", "--stream"], "--model needs a value"),
        (["infer", "hi", "--seed", "1", "--seed", "2"], "given twice"),
        (["infer", "hi", "--stream=maybe"], "not true or false"),
        (["infer", "\udcff"], "not valid UTF-8"),
        (["engine"], ""),
        (["engine", "strat"], "did you mean 'start'?"),
        (["engine", "start", "--port", "70000"], "not a port number"),
        (["engine", "start", "--ctx", "0"], "below the smallest"),
        (["engine", "start", "--ctx", "1.5"], "not a whole number"),
    ],
)
def test_bad_words_are_one_clear_line(words: list[str], message: str) -> None:
    if not message:
        assert "start" in read(*words).help_text
        return
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_common_options_stand_anywhere() -> None:
    for words in (["--json", "infer", "hi"], ["infer", "--json", "hi"], ["infer", "hi", "--json"]):
        assert read(*words).common == {"json": True}


def test_a_bare_dash_is_stdin_and_a_quoted_one_is_text() -> None:
    assert read("infer", "-").options == {"stdin": True}
    assert read("infer", "--", "-").options == {"prompt": "-"}
    assert read("names", "-").positionals == ("-",)


def test_remaining_words() -> None:
    assert read("names", "a", "b c").positionals == ("a", "b c")


def test_help_names_every_option_and_its_value() -> None:
    text = read("infer", "--help").help_text
    assert text == read("help", "infer").help_text
    assert "PROMPT  What to ask." in text
    for option in ("--stream", "--out-ctx N|N%", "--seed N", "--all", "-m, --model TEXT"):
        assert option in text
    assert "infer" in read().help_text
    assert "engine start" in read("--help").help_text


def test_a_command_may_be_a_group_too() -> None:
    assert read("names", "a", "sort").positionals == ("a", "sort")
    assert read("names", "sort", "age").options == {"by": "age"}
    assert read("names", "--", "sort").positionals == ("sort",)
    assert "lmstrix names sort BY" in read("names", "sort", "--help").help_text
    assert "lmstrix names [MODELS…]" in read("help", "names").help_text
