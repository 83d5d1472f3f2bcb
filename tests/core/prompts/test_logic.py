"""Logic in prompts: choices, loops, parts, inheritance, Handlebars spellings, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.core.prompts.limits import LIMITS
from lmstrix.core.prompts.parsing import parse
from lmstrix.core.prompts.rendering import render
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from lmstrix.ground.documents import Value


def filled(body: str, parts: dict[str, str] | None = None, /, **variables: Value) -> str:
    return render(parse({"p": body}, parts=parts), ["p"], variables).text


def refusal(body: str, parts: dict[str, str] | None = None, /, **variables: Value) -> str:
    with pytest.raises(PromptError) as caught:
        filled(body, parts, **variables)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{% if x == 'a' %}A{% elif x %}B{% else %}C{% endif %}", "A"),
        ("{% if not x %}A{% endif %}.", "."),
        (
            "{% for i in l %}{{ loop.index }}{{ i }}{% if not loop.last %}, {% endif %}{% else %}none{% endfor %}",
            "1p, 2q",
        ),
        ("{% for k, v in t | items %}{{ k }}={{ v }};{% endfor %}", "one=1;two=2;"),
        ("{{ x | upper }} {{ l | join(', ') }} {{ l | length }} {{ t | tojson }}", 'A p, q 2 {"one": 1, "two": 2}'),
        ("{{ x | replace('a', 'é<') }} {{ '<é' | tojson }}", 'é< "<é"'),
        ("{{ 'one two three' | truncate(9) }}|{{ 'a\\nb' | indent(2) }}", "one...|a\n  b"),
        ("{% set y = x ~ '!' %}{{ y }}{% with z = l[0] %}{{ z }}{% endwith %}", "a!p"),
        ("{% filter upper %}{{ x }}{% endfilter %}{% filter replace('q', 'r') %}q{% endfilter %}", "Ar"),
        ("{% for y in l if y != 'p' %}{{ y }}{% endfor %}{{ [t] | map(attribute='one') | join }}", "q1"),
        ("{% if (x == 'a') and not (x in ('b', 'c')) %}{{ loop_ | default('') }}ok{% endif %}", "ok"),
        ("{{ 'yes' if x in ['a', 'b'] else 'no' }} {{ t.one + 2 }}", "yes 3"),
        ("a\n{% if x %}\nb\n{% endif %}\nc\n", "a\nb\nc\n"),
        ("a {#- unseen -#}\n{# gone #}\nb", "ab"),
        ("{{ x -}}  b", "ab"),
        ("{{ t.two }} {{ l.0 }} {{ t['one'] }}", "2 p 1"),
    ],
)
def test_logic(body: str, text: str) -> None:
    assert filled(body, x="a", l=["p", "q"], t={"one": 1, "two": 2}) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{{#if x}}A{{else}}B{{/if}}", "A"),
        ("{{#if no}}A{{else if x}}B{{else}}C{{/if}}", "B"),
        ("{{#unless x}}A{{else}}B{{/unless}}", "B"),
        ("{{#each l}}{{@index}}{{this}}{{#unless @last}}{{/unless}}{{/each}}", None),
        ("{{#each l}}{{@index}}{{this}} {{/each}}", "0p 1q "),
        ("{{#each l as |item|}}{{item}}{{#if x}}!{{/if}}{{/each}}", "p!q!"),
        ("{{#each people}}{{this.name}} {{/each}}", "Ada Al "),
        ("{{> part}}", "P a"),
        ("{{!-- {{x}} --}}{{! note }}A", "A"),
        ("{{#if my-key}}{{my-key}}{{/if}}", "K"),
    ],
)
def test_handlebars_spellings_are_translated(body: str, text: str | None) -> None:
    values: dict[str, Value] = {
        "x": "a",
        "no": "",
        "l": ["p", "q"],
        "people": [{"name": "Ada"}, {"name": "Al"}],
        "my-key": "K",
    }
    if text is None:
        assert "is not offered" in refusal(body, {"part": "P {{x}}"}, **values)
    else:
        assert filled(body, {"part": "P {{x}}"}, **values) == text


@pytest.mark.parametrize(
    ("body", "ours"),
    [
        ("{{#if (eq a b)}}x{{/if}}", "{% if a == b %}"),
        ("{{#with a}}x{{/with}}", "{{ table.key }}"),
        ("{{#list a}}x{{/list}}", "{% for item in items %}"),
        ("{{#each a}}{{../b}}{{/each}}", "{{ name }}"),
        ("{{^a}}x{{/a}}", "{% if not name %}"),
        ("{{&a}}", "{{ name }}"),
        ("{{@root.a}}", "{{ loop.index }}"),
        ("{{#if a}}x", "add {{/if}}"),
        ("x{{/if}}", "closes nothing"),
        ("{{#if a}}x{{/each}}", "closes nothing"),
        ("{{else}}", "outside {{#if}}"),
        ("{{> a b}}", '{% include "name" %}'),
        ("{{> (lookup . 'x')}}", '{% include "name" %}'),
        ("{% if 1 %}{{upper name}}{% endif %}", "{{ name | upper }}"),
    ],
)
def test_other_handlebars_spellings_are_refused_with_ours(body: str, ours: str) -> None:
    assert ours in refusal(body, a="1", b="2")


def test_parts_and_layouts() -> None:
    parts = {"head": "Head {{x}}. ", "layout": "[{% block body %}none{% endblock %}]"}
    assert filled('{% include "head" %}{% include "head" %}', parts, x="1") == "Head 1. Head 1. "
    assert filled('{% extends "layout" %}{% block body %}{{ super() }}+{{x}}{% endblock %}', parts, x="1") == "[none+1]"
    assert "neither a prompt of this file nor a file" in refusal('{% include "nope" %}')
    assert "in 'head'" in refusal('{% include "head" %}', {"head": "{% fro x %}"})


def test_a_file_tells_which_parts_it_lacks() -> None:
    library = parse({"p": '{% include "a.txt" %}{{> b }}', "q": "{% extends 'c' %}", "b": "B"})
    assert library.missing_parts == ("a.txt", "c")


@pytest.mark.parametrize(
    ("body", "fact"),
    [
        ("a\nb {% if x %}", "line 2: syntax error"),
        ("a\n{{ x | nope }}", "unknown filter"),
        ("{% fro x in y %}", "did you mean for?"),
        ("{% if x", "never closed"),
        ("{% if 1 %}{% endif %}{% if x", "never closed"),
        ("{% include x %}", "with the name in quotes"),
        ("{{ x | replace(1) }}", "cannot use"),
        ("{{ x | replace(1, 2) }}", "cannot use"),
        ("{{ x | join(1) }}", "cannot use"),
        ("{{ x | indent(x) }}", "cannot use"),
        ("{% if x.y.z %}{% endif %}", "needs x.y.z"),
    ],
)
def test_mistakes_name_their_place(body: str, fact: str) -> None:
    assert fact in refusal(body, x={"y": 1} if "x.y" in body else "1")


@pytest.mark.parametrize(
    "body",
    [
        "{% macro m() %}{% endmacro %}",
        "{% import 'p' as q %}",
        "{% from 'p' import q %}",
        "{% for i in l recursive %}{{ loop(l) }}{% endfor %}",
        "{% block b %}{{ self.b() }}{% endblock %}",
        "{{ x * 3 }}",
        "{{ x.upper() }}",
        "{{ t.items() }}",
        "{{ t['clear']() }}",
        "{% for k in t.keys %}{% endfor %}",
        "{{ debug() }}",
        "{{ namespace(a=1) }}",
        "{{ '%099d' | format(1) }}",
        "{{ x | attr('y') }}",
        "{% set if = x %}",
        "{% for else in l %}{% endfor %}",
        "{% with and = x %}{% endwith %}",
        "{{ not ~ if }}",
    ],
)
def test_what_recurses_multiplies_or_reaches_into_objects_is_refused(body: str) -> None:
    table = {"k": "v"}
    refusal(body, x="1", l=[[]], t=table)
    assert table == {"k": "v"}


@pytest.mark.parametrize(
    "body",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ big }}{% endfor %}",
        "{% for i in range(99999) %}" + "literal " * 4000 + "{% endfor %}",
        "{% for i in range(99999) %}{% include 'part' %}{% endfor %}",
        "{% set a = big ~ big %}" + "{% set a = a ~ a %}" * 30,
        "{% for a in [[big, big]] %}" + "{% for a in [[a, a]] %}" * 30 + "{{ a | string }}" + "{% endfor %}" * 31,
        "{{ " + "[" * 40 + "big" + "] | tojson" * 40 + " }}",
        "{{ big | replace('x', big) }}",
        "{{ big | list | join(big) }}",
        "{{ big | indent(999999999, true) }}",
        "{% set block = big ~ big %}" + "{% set block = block ~ block %}" * 30,
        "{% set range = big %}" + "{% set range = range + range %}" * 30,
        "{% with a = big + big, b = a + a, c = b + b, d = c + c, e = d + d, f = e + e, g = f + f %}{% endwith %}",
        "{{ big | list | map('replace', 'x', big) | list | length }}",
        "{{ range(99999) | map(attribute='x') | map('default', big) | map('upper') | list | length }}",
        "{% for i in range(99999) %}{% if big | replace('x', 'y') %}{% endif %}{% endfor %}",
        "{{ big | truncate(3, true, big) | indent(99999999999, true) }}",
        "{% set q %}{{ big }}{{ big }}{% endset %}" + "{% set q %}{{ q }}{{ q }}{% endset %}" * 30,
    ],
)
def test_expansion_bombs_are_refused_with_the_prompt_named(body: str) -> None:
    message = refusal(body, {"part": "part " * 10_000}, big="x" * 100_000)
    assert message.startswith("prompts: p:")


def test_names_of_methods_are_names_of_keys() -> None:
    names = ["items", "keys", "values", "get", "pop", "update", "copy", "index", "count"]
    table: dict[str, Value] = {name: f"<{name}>" for name in names}
    printed = "".join(f"{{{{ t.{name} }}}}" for name in names)
    assert filled("{% if t %}" + printed + "{% endif %}", t=table) == "".join(table.values())  # type: ignore[arg-type]
    assert filled("{{#each t.items}}{{this.values}}{{/each}}", t={"items": [{"values": 1}, {"values": 2}]}) == "12"
    asked = "".join(f"{{% if row.{name} %}}{name}{{% endif %}}" for name in names)
    assert filled("{% for row in rows %}" + asked + "{% endfor %}", rows=[{"a": 1}, [1]]) == ""
    assert filled("{% for row in rows %}{% for i in row.items %}{{ i }}{% endfor %}{% endfor %}", rows=[{"a": 1}]) == ""


def test_what_templates_do_with_tables_stays_possible() -> None:
    tables: dict[str, Value] = {"t": {"b": {"c": [1, {"d": 2}]}}, "l": [{"b": 1}]}
    assert filled("{% for k, v in t | items %}{{ k }}={{ v }}{% endfor %}", **tables) == 'b={"c": [1, {"d": 2}]}'
    assert filled("{% if t is mapping and l is sequence %}{{ t | tojson }}{{ l }}{% endif %}", **tables) == (
        '{"b": {"c": [1, {"d": 2}]}}[{"b": 1}]'
    )
    assert filled("{{ t | length }}{{ t | dictsort }}{{ l | first }}{{ t.b.c[1].d }}", **tables) == (
        '1[["b", {"c": [1, {"d": 2}]}]]{"b": 1}2'
    )


def test_values_that_cannot_be_printed_are_one_line() -> None:
    ring: list[Value] = []
    ring.append(ring)
    deep: Value = []
    for _ in range(5000):
        deep = [deep]
    for value in (ring, deep, 10**5000, [10**5000]):
        for body in ("{{x}}", "{% if 1 %}{{x}}{% endif %}", "{{ x | tojson }}"):
            assert len(refusal(body, x=value)) < 200


DOUBLED = "{% set x = x ~ x %}" * 28


@pytest.mark.parametrize(
    "body",
    [
        "{% set x = 'abcdefghij' %}" + DOUBLED,
        "{% set x = 1 %}" + DOUBLED,
        "{% set x = y | default('abcdefghij') %}" + DOUBLED,
        "{% set x, y = 'abcdefghij', 1 %}" + "{% set x, y = x ~ x, 1 %}" * 28,
        "{% set x %}abcdefghij{% endset %}" + DOUBLED,
        "{% set x = 'abcdefghij' %}" + "{% set x %}{{ x ~ x }}{% endset %}" * 28,
        "{% set x %}{% for i in range(9) %}abcdefghij{% endfor %}{% endset %}" + DOUBLED,
        "{% set x = 'a' | replace('a', 'abcdefghij') %}" + DOUBLED,
        "{% set x = 'abcdefghij' %}" + "{% set x = x[::1] ~ x[::1] %}" * 28,
        "{% set x = 'abcdefghij' %}" + "{% set x = x ~ x if x else x %}" * 28,
        "{% set x = ['abcdefghij'] %}" + "{% set x = x + x %}" * 28,
        "{% set x = ['abcdefghij'] %}" + "{% set x = [x, x] %}" * 28 + "{{ x }}",
        "{% set x = {'a': 'abcdefghij'} %}" + "{% set x = {'a': x, 'b': x} %}" * 28 + "{{ x | tojson }}",
        "{% with x = 'abcdefghij' %}" + "{% with x = x ~ x %}" * 28 + "{% endwith %}" * 29,
        "{% for x in ['abcdefghij'] %}" + "{% for x in [x ~ x] %}" * 28 + "{% endfor %}" * 29,
        "{% for x in ['abcdefghij'] %}{% for y in [1, 2] %}" + DOUBLED + "{% endfor %}{% endfor %}",
        "{% set x = 'abcdefghij' %}{% include 'doubled' %}",
        "{% set x = 'abcdefghij' %}" + "{% include 'once' %}" * 28,
        "{% set x = 'abcdefghij' %}{% set z %}" + "{% include 'once' %}" * 28 + "{{ x }}{% endset %}",
        "{% block b %}{% set x = 'abcdefghij' %}" + DOUBLED + "{% endblock %}",
        "{% extends 'layout' %}{% block b %}" + DOUBLED + "{% endblock %}",
        "{% set x = range(99999) | list %}" + "{% set x = x + x %}" * 20,
    ],
)
def test_what_doubles_a_literal_is_refused_before_it_runs(body: str) -> None:
    parts = {
        "doubled": DOUBLED,
        "once": "{% set x = x ~ x %}",
        "layout": "{% set x = 'a' %}{% block b %}{% endblock %}",
    }
    assert "could build a value of more than" in refusal(body, parts)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{{ " + " ~ ', ' ~ ".join(["x"] * 60) + " }}", ", ".join(["a"] * 60)),
        ("".join(f"{{% set y{n} = x ~ '{n}' %}}{{{{ y{n} }}}} " for n in range(60)), None),
        ("{% set y = x %}{% for i in range(3) %}{% set y = y ~ y %}{{ y }} {% endfor %}", "aa aa aa "),
        ("{% set q %}{% for i in range(3) %}{{ x }}{% endfor %}{% endset %}{{ q ~ '!' }}", "aaa!"),
        ("{% set y = 'a' ~ x %}" + "{% set y = y ~ 'b' ~ x %}" * 60 + "{{ y }}", "aa" + "ba" * 60),
        ("{% set y %}{% endset %}" + "{% set y = y ~ x %}" * 60 + "{{ y }}", "a" * 60),
    ],
)
def test_what_joins_a_little_is_not(body: str, text: str | None) -> None:
    assert filled(body, x="a") == text or text is None


def test_a_value_that_a_part_takes_over_counts() -> None:
    body = "{% if no %}{% set x = 'a' %}{% endif %}" + "{% include 'once' %}" * 9
    assert "could build" in refusal(body, {"once": "{% if x %}{% set x = x ~ x %}{% endif %}"}, x="x" * 2**20, no=False)


def test_includes_that_set_values_end_soon() -> None:
    parts = {f"e{n}": f"{{% include 'e{n + 1}' %}}" * 10 for n in range(12)} | {"e12": "{% set x = 1 %}"}
    assert "include fewer parts" in refusal("{% include 'e0' %}", parts)
    chain = {f"e{n}": f"{{% include 'e{n + 1}' %}}" for n in range(2000)} | {"e2000": "end"}
    assert "nested deeper" in refusal("{% include 'e0' %}", chain)


def test_a_large_text_passes_through_logic() -> None:
    text = "é" * 10_000_000
    assert len(filled("{% if text %}<{{ text }}>{% endif %}", text=text)) == len(text) + 2
    assert len(text) < LIMITS.characters


def test_a_bomb_of_includes_is_refused() -> None:
    parts = {f"e{n}": f"{{% include 'e{n + 1}' %}}" * 10 for n in range(12)}
    parts["e12"] = "0123456789"
    assert "too long" in refusal("{% include 'e0' %}", parts)
