"""References of a file's texts to its own keys: cycles, sizes, masking, and what toml-topl is given."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
import topl
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.prompts.lint import lint
from lmstrix.core.prompts.parsing import parse
from lmstrix.core.prompts.rendering import render
from lmstrix.ground.errors import PromptError
from tests.core.prompts.filling import filled, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

# References: cycles, size


@pytest.mark.parametrize(
    ("toml", "circle"),
    [
        ('a = "{{b}}"\nb = "{{a}}"', "a → b → a"),
        ('a = "{{b}}"\nb = "{{c}}"\nc = "{{b}}"', "b → c → b"),
        ('a = "{% if 1 %}{{b}}{% endif %}"\nb = "{{a}}"', "a → b → a"),
        ("a = \"{% include 'b' %}\"\nb = \"{% include 'a' %}\"", "a → b → a"),
    ],
)
def test_cycles_are_named_by_their_path(toml: str, circle: str) -> None:
    assert circle in refusal(toml, "a")


OWN_NAME = """
code = "Review: {{code}}"
both = "{{code}} and {{both}}"
[table]
prompt = "A {{table}}"
system_prompt = "Of {{table}}."
[loud]
prompt = "{{ loud | upper }}{% if loud %}!{% endif %}"
[usual]
prompt = "As {{usual}}"
[usual.defaults]
usual = "ever"
"""


def test_a_prompt_and_its_variable_may_share_a_name() -> None:
    assert filled(OWN_NAME, "code", code="x") == "Review: x"
    assert filled(OWN_NAME, "table", table="x") == "A x"
    assert filled(OWN_NAME, "loud", loud="x") == "X!"
    assert filled(OWN_NAME, "usual") == "As ever"
    for name in ("code", "table", "loud"):
        assert refusal(OWN_NAME, name) == f"p.toml: {name!r} needs {name}: give it in `variables`"
    # Elsewhere the name still means the prompt, which then needs its variable.
    assert refusal(OWN_NAME, "both", both="y").startswith("p.toml: 'both' needs code: ")


def test_lint_sees_no_circle_where_a_prompt_and_its_variable_share_a_name() -> None:
    found = {
        (each.severity, each.prompt, each.message) for each in lint(parse(tomllib.loads(OWN_NAME), source="p.toml"))
    }
    assert {severity for severity, _, _ in found} == {"note"}
    assert ("note", "code", "the caller has to give code") in found
    assert ("note", "table", "the caller has to give table") in found
    assert not any(prompt == "usual" for _, prompt, _ in found)


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


# toml-topl: when it is asked, and what it is given


@pytest.fixture
def given_to_topl(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What each call of toml-topl was given; the calls are real."""
    calls: list[dict[str, str]] = []
    resolve = topl.resolve_placeholders

    def noted(texts: dict[str, str]) -> topl.TOPLConfig:
        calls.append(dict(texts))
        return resolve(texts)

    monkeypatch.setattr(topl, "resolve_placeholders", noted)
    return calls


@pytest.mark.parametrize(
    ("document", "imported"),
    [
        ({"p": "plain {}"}, False),
        ({"p": "{{x}} and {{y.z}}", "other": "{{p}}"}, False),
        ({"p": "{% if x %}{{x}}{{other}}{% endif %}", "other": "O {{x}}"}, False),
        ({"p": {"prompt": "{{x}} {{role}}", "defaults": {"role": "r"}}, "role": "R"}, False),
        ({"p": "{{x}} {{other}}", "other": "O"}, True),
        ({"p": "{{count}}", "count": 3}, True),
        ({"p": "{% if x %}{{other}}{% endif %}", "other": "{{deep}}", "deep": "D"}, True),
    ],
)
def test_toml_topl_is_imported_for_references_only(document: dict[str, object], imported: bool) -> None:
    code = f"""if True:
        import sys
        from lmstrix.core.prompts.parsing import parse
        from lmstrix.core.prompts.rendering import render
        library = parse({document!r})
        assert "topl" not in sys.modules
        render(library, ["p"], {{"x": "X", "y": {{"z": 1}}}})
        print("topl" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{imported}\n"


def test_one_call_resolves_every_reference(given_to_topl: list[dict[str, str]]) -> None:
    toml = """
    a = "{{b}}, {{c}}"
    b = "b {{c}} {{ x }}"
    c = "c {{d.prompt}}{{n}}"
    n = 7
    unasked = "{{a}}"
    [d]
    prompt = "d"
    [e]
    prompt = "{{b}}!"
    system_prompt = "{{c}}?"
    """
    assert filled(toml, "a", "e", x="X") == "b c d7 X, c d7\n\nb c d7 X!"
    (texts,) = given_to_topl
    assert sorted(re.sub("[0-9]+", "0", text) for text in texts.values()) == sorted(
        ["{{0}}, {{0}}", "b {{0}} X", "c {{0}}{{0}}", "0", "d", "{{0}}!", "{{0}}?"]
    )


def test_text_with_logic_gets_what_it_refers_to_from_one_call(given_to_topl: list[dict[str, str]]) -> None:
    toml = """
    p = "{% if b %}{{b}} {{t.c}}{% endif %}"
    b = "b {{d}}"
    d = "D"
    t.c = "c {{d}}"
    """
    assert filled(toml, "p") == "b D c D"
    assert len(given_to_topl) == 1


def test_text_with_logic_between_texts_without(given_to_topl: list[dict[str, str]]) -> None:
    toml = """
    a = "<{{logic}}|{{b}}>"
    logic = "{% if b %}{{ b | upper }}{% endif %}"
    b = "b{{d}}"
    d = "d"
    """
    assert filled(toml, "a") == "<BD|bd>"
    assert len(given_to_topl) == 2


@pytest.mark.parametrize("value", ["V", "", "{{b}}", "{{1}}", "{", "\x001;", "x" * 20_000, "{{b}}" * 5_000])
def test_what_the_caller_gives_beats_the_file_and_stays_as_given(
    value: str, given_to_topl: list[dict[str, str]]
) -> None:
    toml = 'a = "{{b}}|{{c}}|{{t.x}}"\nb = "file b"\nc = "c{{b}}"\n[t]\nx = "file x"'
    assert filled(toml, "a", **{"b": value, "t.x": value}) == f"{value}|c{value}|{value}"
    assert "file" not in str(given_to_topl)
    assert sum(map(len, given_to_topl[0].values())) < 200


def test_a_caller_may_give_every_reference_a_value(given_to_topl: list[dict[str, str]]) -> None:
    assert filled('a = "{{b}}{{c}}"\nb = "{{a}}"\nc = "{{c}}"', "a", b="B", c="C") == "BC"
    assert given_to_topl == []


HOSTILE = [
    "{a.__class__}",
    "{a.__class__.__mro__}",
    "{0}",
    "{}",
    "{a!r:>50000000}",
    "{{0}}",
    "{{1}}",
    "{{{1}}}",
    "{{a:>50000000}}",
    '{"a": {"b": [1, {}]}}',
    '{{"a": 1}}',
    "{",
    "}",
    "{{",
    "}}",
    "}}{{",
    "{{}}",
    "\x00",
    "\x001;",
    "\x00{{1}};",
    "%s %(a)s $a ${a}",
    "\\1 \\g<0> \\",
    "żółw 😀 \u202e \ud800",
    "a\r\nb\rc\n\n\t",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_other_braces_stay_as_written_beside_references(hostile: str, given_to_topl: list[dict[str, str]]) -> None:
    document = {"a": f"{hostile}{{{{b}}}}{hostile} {{{{x}}}}", "b": f"{hostile}{{{{c}}}}{hostile}", "c": hostile}
    b = hostile * 3
    assert render(parse(document), ["a"], {"x": hostile}).text == f"{hostile}{b}{hostile} {hostile}"
    assert not set("{}") & set(re.sub(r"\{\{[0-9]+\}\}", "", "".join(given_to_topl[0].values())))


def test_placeholders_in_the_files_lists_and_defaults_are_no_references() -> None:
    toml = 'l = ["{{b}}"]\nb = "B"\n[a]\nprompt = "{{l.0}} {{d}} {{b}}"\ndefaults = {d = "{{b}}"}'
    assert filled(toml, "a") == "{{b}} {{b}} B"


def test_keys_with_dots_dashes_and_letters_of_any_script_are_resolved() -> None:
    toml = 'a = "{{b.c}} {{my-key}} {{żółw.x}}"\n"b.c" = "1"\nb = "2"\nmy-key = "{{b}}"\n"żółw" = {x = "4"}'
    assert filled(toml, "a") == "1 2 4"


@pytest.mark.parametrize(
    "toml",
    [
        "\n".join(f'e{n} = "{f"{{{{e{n + 1}}}}}" * 10}"' for n in range(20)) + '\ne20 = "0123456789"',
        'e0 = "{{e0}}{{e0}}"',
        'e0 = "{{e1}}"\ne1 = "{{e0}}{{e0}}"',
        "\n".join(f'e{n} = "x{{{{e{n + 1}}}}}"' for n in range(100)) + '\ne100 = "end"',
    ],
)
def test_a_bomb_a_cycle_and_a_long_chain_are_refused_before_toml_topl_is_asked(
    toml: str, given_to_topl: list[dict[str, str]]
) -> None:
    assert "e0" in refusal(toml, "e0")
    assert given_to_topl == []


def test_doubling_nothing_is_nothing() -> None:
    levels = "\n".join(f'e{n} = "{f"{{{{e{n + 1}}}}}" * 10}"' for n in range(40))
    assert filled(f'{levels}\ne40 = "{{{{x}}}}"', "e0", x="") == ""


def test_the_longest_chain_resolves() -> None:
    chain = "\n".join(f'k{n} = "{{x{{{{k{n + 1}}}}}"' for n in range(63))
    assert filled(f'k63 = "end {{{{y}}}}"\n{chain}', "k0", y=1) == "{x" * 63 + "end 1"


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


ANY_TEXT = st.text(st.sampled_from("{}\0;0123ab %\\\n\ré😀") | st.characters(), max_size=12).filter(
    lambda text: "{{" not in text and "{%" not in text and "{#" not in text
)


@given(ANY_TEXT, ANY_TEXT, st.text(max_size=12), st.text(max_size=12))
def test_every_character_survives(first: str, second: str, third: str, given_value: str) -> None:
    document = {"a": f"{first} {{{{b}}}} {second} {{{{x}}}} {{{{l.0}}}}", "b": f"{second} {{{{x}}}}", "l": [third]}
    rendered = render(parse(document), ["a"], {"x": given_value}).text
    assert rendered == f"{first} {second} {given_value} {second} {given_value} {third}"
