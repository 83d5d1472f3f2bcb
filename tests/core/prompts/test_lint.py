"""What lint finds in a prompt file."""

from __future__ import annotations

import tomllib

import pytest

from lmstrix.core.prompts.lint import lint
from lmstrix.core.prompts.parsing import parse


def findings(toml: str) -> list[tuple[str, str, str]]:
    return [(found.severity, found.code, found.prompt) for found in lint(parse(tomllib.loads(toml)))]


def messages(toml: str) -> str:
    return "\n".join(found.message for found in lint(parse(tomllib.loads(toml))))


def test_a_sound_file_has_no_findings() -> None:
    assert findings('base = "B"\n[a]\nprompt = "{{base}} {{text}} {{tone}}"\ndefaults = {tone = "kind"}') == []


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ('a = "{{b}}"\nb = "{{a}}"', [("error", "resolution", "a"), ("error", "resolution", "b")]),
        ('a = "{% if x %}"', [("error", "syntax", "a")]),
        ('a = "{{your name}}"', [("error", "syntax", "a")]),
        ('a = "{% include \'x\' %}"', [("error", "syntax", "a")]),
        ('a = "{{topic}} {{length}}"', [("note", "undeclared", "a")]),
        ('[a]\nprompt = "{{langauge}}"\ndefaults = {language = "x"}', [
            ("warning", "undeclared", "a"),
            ("warning", "unused-default", "a"),
        ]),
        ('[a]\nprompt = "{text}"', [("warning", "single-braces", "a")]),
        ('[a]\nprompt = " "', [("warning", "empty", "a")]),
        ('[a]\nprompt = "x"\nsytem_prompt = "y"', [("warning", "field", "a.sytem_prompt")]),
    ],
)  # fmt: skip
def test_findings(toml: str, expected: list[tuple[str, str, str]]) -> None:
    assert findings(toml) == expected


def test_messages_name_the_fact() -> None:
    assert "a → b → a" in messages('a = "{{b}}"\nb = "{{a}}"')
    assert "did you mean language?" in messages('[a]\nprompt = "{{langauge}}"\ndefaults = {language = "x"}')
    assert "the caller has to give topic, length" in messages('a = "{{topic}} {{length}}"')
    assert "a placeholder is {{text}}" in messages('a = "{text}"')


def test_a_default_asked_for_only_by_the_system_prompt_or_a_condition_is_used() -> None:
    toml = """
    [a]
    prompt = "{% if brief %}x{% endif %}"
    system_prompt = "{{tone}}"
    defaults = {tone = "kind", brief = true}
    """
    assert findings(toml) == []
