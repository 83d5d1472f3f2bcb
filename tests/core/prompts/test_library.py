"""Rules of prompt files: names, precedence, references, missing values, limits."""

from __future__ import annotations

import contextlib
import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.prompts.library import PromptLibrary, RenderedPrompt, find, fixed_text, parse, render
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping


def library(toml: str, parts: Mapping[str, str] | None = None) -> PromptLibrary:
    return parse(tomllib.loads(toml), source="p.toml", parts=parts)


def filled(toml: str, *names: str, **variables: object) -> str:
    return render(library(toml), names, variables).text


def refusal(toml: str, *names: str, **variables: object) -> str:
    with pytest.raises(PromptError) as caught:
        render(library(toml), names, variables)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Names and shapes


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
    assert filled(toml, "a", **{"t.x": "Y", "m": {"k": 7}}) == "q Y 7"


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
    assert "object cannot be printed" in refusal('a = "{{x}}"', "a", x=object())


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
    assert "--var NAME=VALUE" in str(caught.value)


def test_missing_text_says_how_to_give_it() -> None:
    assert "--text, --text-file or stdin" in refusal('a = "{{text}}"', "a")


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


# References: cycles, size


@pytest.mark.parametrize(
    ("toml", "circle"),
    [
        ('a = "{{a}}"', "a → a"),
        ('a = "x{{a}}"', "a → a"),
        ('a = "{{b}}"\nb = "{{a}}"', "a → b → a"),
        ('a = "{{b}}"\nb = "{{c}}"\nc = "{{b}}"', "b → c → b"),
        ('a = "{% if 1 %}{{b}}{% endif %}"\nb = "{{a}}"', "a → b → a"),
        ("a = \"{% include 'b' %}\"\nb = \"{% include 'a' %}\"", "a → b → a"),
    ],
)
def test_cycles_are_named_by_their_path(toml: str, circle: str) -> None:
    assert circle in refusal(toml, "a")


def test_a_given_variable_breaks_a_cycle() -> None:
    assert filled('a = "{{b}}"\nb = "{{a}}"', "a", b="B") == "B"


def test_a_doubling_file_is_refused_with_its_path() -> None:
    levels = "\n".join(f'e{n} = "' + f"{{{{e{n + 1}}}}}" * 10 + '"' for n in range(20))
    message = refusal(f'{levels}\ne20 = "0123456789"', "e0")
    assert "grows past" in message
    assert "e0 → e1 → " in message


def test_a_long_chain_is_refused() -> None:
    chain = "\n".join(f'k{n} = "x{{{{k{n + 1}}}}}"' for n in range(5000))
    assert "nested deeper than 64" in refusal(f'{chain}\nk5000 = "end"', "k0")


def test_a_chain_of_fifteen_resolves_in_any_order() -> None:
    chain = "\n".join(f'k{n} = "x{{{{k{n + 1}}}}}"' for n in range(15))
    assert filled(f'k15 = "end"\n{chain}', "k0") == "x" * 15 + "end"


# The resolver against a model of it

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
PIECES = st.lists(
    st.one_of(NAMES.map("{{%s}}".__mod__), st.sampled_from(["x", "{", "}", " ", "\n", "{}", "é"])), max_size=5
)
FILES = st.dictionaries(NAMES, PIECES.map("".join), min_size=1)


def expected(file: Mapping[str, str], variables: Mapping[str, str], name: str, way: tuple[str, ...] = ()) -> str:
    """Slow and plain: replace the leftmost placeholder by its finished value, from left to right."""
    if name in variables:
        return variables[name]
    if name in way:
        raise RecursionError
    if name not in file:
        raise KeyError(name)
    rest, done = file[name], ""
    while "{{" in rest:
        begin = rest.index("{{")
        found = next((key for key in "abcde" if rest.startswith(f"{{{{{key}}}}}", begin)), None)
        if not found:
            done, rest = done + rest[: begin + 1], rest[begin + 1 :]
            continue
        done += rest[:begin] + expected(file, variables, found, (*way, name))
        rest = rest[begin + len(found) + 4 :]
    return done + rest


@given(FILES, st.dictionaries(NAMES, st.text(max_size=8)), st.booleans())
def test_the_resolver_agrees_with_its_model(
    file: Mapping[str, str], variables: Mapping[str, str], with_logic: bool
) -> None:
    name = next(iter(file))
    variables = {key: value for key, value in variables.items() if key != name}
    document = {key: body + "{{ '' | upper }}" if with_logic else body for key, body in file.items()}
    try:
        text = expected(file, variables, name)
    except (RecursionError, KeyError):
        with pytest.raises(PromptError):
            render(parse(document), [name], variables)
    else:
        assert render(parse(document), [name], variables).text == text


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
