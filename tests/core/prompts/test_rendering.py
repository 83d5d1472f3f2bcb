"""Filling prompts: precedence, values, braces, missing values, given text."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.prompts.parsing import parse
from lmstrix.core.prompts.rendering import fixed_text, render
from lmstrix.ground.errors import PromptError
from tests.core.prompts.filling import filled, library, refusal

if TYPE_CHECKING:
    from lmstrix.ground.documents import Value

# Values


def test_spaces_in_placeholders_are_allowed_everywhere() -> None:
    assert filled('a = "{{ b }}{{b}}{{  x  }}"\nb = "B"', "a", x="X") == "BBX"
    assert filled('a = "{% if x %}{{ b }}{{b}}{{  x  }}{% endif %}"\nb = "B"', "a", x="X") == "BBX"


@pytest.mark.parametrize("body", ["{{name}} {{topic}}", "{% if name %}{{name}} {{topic}}{% endif %}"])
def test_values_are_never_expanded_again(body: str) -> None:
    assert filled(f'a = "{body}"', "a", name="{{topic}}", topic="{{name}}{% if x %}") == "{{topic}} {{name}}{% if x %}"


@pytest.mark.parametrize("body", ["{{role}}", "{% if 1 %}{{role}}{% endif %}", "{{again}}"])
def test_the_caller_beats_the_default_beats_the_file(body: str) -> None:
    toml = f'role = "file"\nagain = "{{{{role}}}}"\n[p]\nprompt = "{body}"'
    assert filled(toml, "p", role="caller") == "caller"
    assert filled(toml, "p") == "file"
    assert filled(f"{toml}\ndefaults = {{role = 'default', again = 'default'}}", "p") == "default"


@pytest.mark.parametrize("wrap", ["{}", "{{% if 1 %}}{}{{% endif %}}"])
@pytest.mark.parametrize(
    ("value", "text"),
    [("3", "3"), ("2.5", "2.5"), ("true", "true"), ("[1, 'é']", '[1, "é"]'), ("1979-05-27", "1979-05-27")],
)
def test_values_of_the_file_print_the_same_with_and_without_logic(wrap: str, value: str, text: str) -> None:
    assert filled(f"v = {value}\na = '{wrap.format('{{v}}')}'", "a") == text


def test_list_positions_and_dotted_caller_names() -> None:
    toml = 'l = ["p", "q"]\na = "{{l.1}} {{t.x}} {{m.k}}"\n[t]\nx = "X"'
    given: dict[str, Value] = {"t.x": "Y", "m": {"k": 7}}
    assert filled(toml, "a", **given) == "q Y 7"


def test_keys_with_dashes_and_letters_of_any_script() -> None:
    toml = 'my-key = "K"\n"żółw" = "Z"\na = "{{my-key}} {{żółw}}"\nb = "{% if 1 %}{{my-key}} {{żółw}}{% endif %}"'
    assert filled(toml, "a") == filled(toml, "b") == "K Z"


@pytest.mark.parametrize("wrap", ["{}", "{{% if 1 %}}{}{{% endif %}}"])
@pytest.mark.parametrize(
    "braces",
    [
        '{"a": {"b": 1}}',
        '{{"a": 1}}',
        "f() {} {0} { }",
        "{{}}",
        r"{{\bf x}}",
        "awk '{print $1}'",
        "{text}",
        "}}{{",
        "{{{{",
    ],
)
def test_other_braces_reach_the_model_as_written(wrap: str, braces: str) -> None:
    document = {"a": wrap.format(braces + " {{x}}")}
    assert render(parse(document), ["a"], {"x": "X"}).text == braces + " X"


@pytest.mark.parametrize("wrap", ["{}", "{{% if 1 %}}{}{{% endif %}}"])
def test_three_braces_are_braces_around_a_value(wrap: str) -> None:
    assert render(parse({"a": wrap.format("{{{name}}}")}), ["a"], {"name": "Al"}).text == "{Al}"


def test_raw_sends_a_placeholder_as_it_is() -> None:
    assert filled('a = "{% raw %}{{x}}{% endraw %} {{x}}"', "a", x="1") == "{{x}} 1"


@pytest.mark.parametrize("name", ["data", "self", "params", "values", "source"])
def test_no_variable_name_is_special(name: str) -> None:
    assert filled(f'a = "{{{{{name}}}}}"', "a", **{name: "v"}) == "v"


@pytest.mark.parametrize("wrap", ["{}", "{{% if 1 %}}{}{{% endif %}}"])
@pytest.mark.parametrize("inside", ["text.__class__.__mro__", "text.__len__", "table.keys", "table.__class__"])
def test_objects_cannot_be_reached_into(wrap: str, inside: str) -> None:
    document = {"a": wrap.format("{{" + inside + "}}")}
    with pytest.raises(PromptError):
        render(parse(document), ["a"], {"text": "t", "table": {"k": 1}})


def test_a_value_of_another_type_is_refused() -> None:
    assert "object cannot be printed" in refusal('a = "{{x}}"', "a", x=object())  # type: ignore[arg-type]


def test_format_specifications_are_no_placeholders() -> None:
    assert filled('a = "{{text:>50000000}}"', "a") == "{{text:>50000000}}"


@pytest.mark.parametrize(
    "body", ["{{your name}}", "{{ a..b }}", "{{your\\nname}}", "{% if 1 %}{{your name}}{% endif %}"]
)
def test_what_is_nearly_a_placeholder_is_refused_with_the_spelling(body: str) -> None:
    message = refusal(f'a = "{body}"', "a")
    assert "is no placeholder" in message
    assert "{% raw %}" in message


# Missing values and given text


@pytest.mark.parametrize("wrap", ["{}", "{{% if 1 %}}{}{{% endif %}}"])
def test_all_missing_names_are_listed_at_once_with_suggestions(wrap: str) -> None:
    toml = f"""
    tone = "kind"
    part = "{wrap.format("{{deep}}")}"
    a = "{wrap.format("{{langauge}} {{tome}} {{part}}")}"
    """
    with pytest.raises(PromptError) as caught:
        render(library(toml), ["a"], {"language": "Polish"})
    assert sorted(caught.value.missing) == ["deep", "langauge", "tome"]
    assert "langauge (did you mean language?)" in str(caught.value)
    assert "tome (did you mean tone?)" in str(caught.value)
    assert "give them in `variables`" in str(caught.value)


def test_missing_text_says_how_to_give_it() -> None:
    assert "give it in `variables`" in refusal('a = "{{text}}"', "a")


def test_a_table_of_prompts_is_no_value() -> None:
    toml = '[code]\nreview = "{{code}}"'
    assert filled(toml, "code.review", code="x = 1") == "x = 1"
    assert "needs code" in refusal(toml, "code.review")


def test_tested_names_may_be_absent() -> None:
    toml = 'a = "{% if x %}{{x}}{% endif %}{{ y | default(1) }}{% if z is defined %}{{z}}{% endif %}."'
    assert filled(toml, "a") == "1."
    assert filled(toml, "a", x="X", y="Y", z="Z") == "XYZ."


def test_text_without_a_place_is_refused() -> None:
    assert "no {{text}} placeholder" in refusal('a = "x"', "a", text="t")
    assert "two braces instead of {text}" in refusal('a = "x {text}"', "a", text="t")
    assert "no {{text}} placeholder" in refusal('a = "x"', "a", text="")


def test_text_in_any_of_the_joined_prompts_is_enough() -> None:
    assert filled('a = "A"\nb = "{{text}}"', "a", "b", text="") == "A\n\n"


def test_used_and_unused_variables_are_told_apart() -> None:
    rendered = render(library('a = "{{x}}{% if y %}{% endif %}"'), ["a"], {"x": 1, "y": "", "z": 2})
    assert rendered.used == ("x", "y")
    assert rendered.unused == ("z",)


@given(st.text(alphabet="{}%# \n\"'ab.|>/!", max_size=30))
def test_any_text_parses_and_either_renders_or_says_why(body: str) -> None:
    found = parse({"p": body})
    with contextlib.suppress(PromptError):
        assert render(found, ["p"], {"a": "A", "b": "B"}).unused in {(), ("a",), ("b",), ("a", "b")}


def test_fixed_text_leaves_the_callers_places_empty() -> None:
    toml = """
    shared = "Shared."
    [a]
    prompt = "{{shared}} {{text}} {% for x in items %}{{x}}{% endfor %}End{{ y.z }}"
    system_prompt = "S {{t}}"
    """
    assert fixed_text(library(toml), "a") == "S \n\nShared.  End"
