"""Names and shapes of the prompts in a file."""

from __future__ import annotations

import pytest

from lmstrix.core.prompts.library import RenderedPrompt, find
from lmstrix.core.prompts.rendering import render
from lmstrix.ground.errors import PromptError
from tests.core.prompts.filling import filled, library, refusal


def test_flat_nested_and_record_prompts_are_named_by_their_keys() -> None:
    found = library(
        """
        hello = "Hello"
        [code]
        review = "Review"
        [code.deep]
        prompt = "Deep"
        system_prompt = "Be deep about {{subject}}"
        description = "d"
        version = 2
        tags = ["x", "y"]
        defaults = {subject = "everything"}
        extra = "Extra"
        """
    )
    assert list(found.templates) == ["hello", "code.review", "code.deep", "code.deep.extra"]
    deep = found.templates["code.deep"]
    assert (deep.prompt, deep.description, deep.version, deep.tags) == ("Deep", "d", "2", ("x", "y"))
    assert deep.placeholders == ("subject",)
    assert find(found, "code.deep.prompt") is deep
    assert render(found, ["code.deep"], {}) == RenderedPrompt(text="Deep", system_prompt="Be deep about everything")


def test_a_file_may_be_one_prompt() -> None:
    one = library('prompt = "Hi {{who}}"\nsystem_prompt = "S"\n[defaults]\nwho = "you"')
    assert render(one, [], {}).text == "Hi you"
    assert render(one, ["prompt"], {}).system_prompt == "S"


def test_a_template_table_can_be_named_and_referenced() -> None:
    toml = 'a = "<{{t}}|{{t.template}}>"\n[t]\ntemplate = "T{{x}}"'
    assert filled(toml, "t", x="1") == filled(toml, "t.template", x="1") == "T1"
    assert filled(toml, "a", x="1") == "<T1|T1>"


def test_several_names_are_joined_with_a_blank_line_and_system_prompts_are_not_repeated() -> None:
    toml = """
    [a]
    prompt = "A"
    system_prompt = "S"
    [b]
    prompt = "B"
    system_prompt = "S"
    [c]
    prompt = "C"
    system_prompt = "T"
    """
    rendered = render(library(toml), ["c", "a", "b"], {})
    assert rendered.text == "C\n\nA\n\nB"
    assert rendered.system_prompt == "T\n\nS"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gret", "did you mean greet"),
        ("code", "it is a table; pick one of code.review, code.explain"),
        ("zzz", "it has greet, code.review, code.explain"),
    ],
)
def test_an_unknown_name_says_what_there_is(name: str, hint: str) -> None:
    assert hint in refusal('greet = "x"\n[code]\nreview = "r"\nexplain = "e"', name)


def test_without_a_name_several_prompts_are_listed() -> None:
    assert "name one of a, b" in refusal('a = "1"\nb = "2"')


@pytest.mark.parametrize(
    ("toml", "fact"),
    [
        ('[a]\nprompt = "x"\ndefaults = 3', "a.defaults is a number, expected a table"),
        ('[a]\nprompt = "x"\ntags = "t"', "a.tags must be a list"),
        ('[a]\nprompt = "x"\nsystem_prompt = ["s"]', "a.system_prompt is a list, expected text"),
        ('[a]\nprompt = "x"\nversion = [1]', "a.version is a list, expected text"),
        ('"a.b" = "1"\n[a]\nb = "2"', "two entries are called 'a.b'"),
        ("[" + ".".join("a" * 40) + ']\nx = "1"', "nested deeper"),
    ],
)
def test_a_wrong_shape_is_refused_by_name(toml: str, fact: str) -> None:
    with pytest.raises(PromptError, match=fact.replace(".", r"\.")):
        library(toml)
