"""Prompt files from disk, the words that name them, and the example files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.prompts.lint import lint
from lmstrix.core.prompts.parsing import parse
from lmstrix.core.prompts.rendering import render
from lmstrix.ground.errors import PromptError, UsageError
from lmstrix.loaders.prompts import (
    PromptReference,
    load_document,
    load_part,
    parse_dict,
    parse_names,
    parse_reference,
    parse_variable,
)

if TYPE_CHECKING:
    from lmstrix.core.prompts.library import PromptLibrary

EXAMPLES = Path(__file__).parents[2] / "examples" / "prompts"


def opened(path: Path) -> PromptLibrary:
    document = load_document(path)
    return parse(document.tables, source=document.source)


# Files


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_bytes(b'\xef\xbb\xbfa = "\xc3\xa9"')
    assert load_document(file).tables == {"a": "é"}


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b'a = "1"\nb = \n', "is not valid TOML: .*line 2"),
        (b'a = "one\ntwo"', "line 1.*triple quotes"),
        (b'a = "1"\n[a]', "is not valid TOML"),
        (b'a = "\xff"', "is not UTF-8: byte 0xff at offset 5"),
        (b"\xff\xfea", "is not UTF-16"),
        (b'a = "\x00"', "zero byte at character 5"),
        (b"a = " + b"[" * 100_000, "nests its values too deeply"),
        (b"#" * (4 * 2**20 + 1), "larger than 4.00 MiB"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, content: bytes, fact: str) -> None:
    file = tmp_path / "p.toml"
    file.write_bytes(content)
    with pytest.raises(PromptError, match=fact) as caught:
        load_document(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no file at"):
        load_document(tmp_path / "none.toml")
    with pytest.raises(PromptError, match="is a folder"):
        load_document(tmp_path)


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_parts_come_from_the_same_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "part.txt").write_text("Part", encoding="utf-8")
    secret = tmp_path / "secret.txt"
    secret.write_text("secret", encoding="utf-8")
    (folder / "link.txt").symlink_to(secret)
    assert load_part(folder, "part.txt") == "Part"
    assert load_part(folder, "none.txt") is None
    for name in ["../secret.txt", str(secret), "..", ".", ".hidden", "a/b.txt", r"a\b.txt", "c:x", "", "link.txt"]:
        with pytest.raises(PromptError):
            load_part(folder, name)


# The examples


@pytest.mark.parametrize(
    ("file", "names", "variables", "fragments"),
    [
        ("prompts.toml", "greetings.formal", {"name": "Ada", "topic": "tides"}, ["Ada", "tides?"]),
        ("prompts.toml", "greetings.casual", {"name": "Ada", "topic": "tides"}, ["Hi Ada!"]),
        (
            "prompts.toml",
            "templates.instruction",
            {"domain": "law", "style": "dry", "concept": "torts", "level": "no"},
            ["You know law inside out.\n\nGive a dry account of torts"],
        ),
        ("prompts.toml", "code.review", {"language": "C", "code": "{{x}} {0}"}, ["\n{{x}} {0}\n"]),
        ("prompts.toml", "code.explain", {"language": "C", "code": "a"}, ["this C code does: a"]),
        ("prompts.toml", "research.summarize", {"topic": "t", "text": "T", "length": "short"}, ["\nT\n"]),
        ("prompts.toml", "qa.simple,qa.simple", {"question": "Why?"}, ["Why?\n\nWhy?"]),
        ("adam.toml", "propositions", {"text": "T"}, ["<how-to-think>", "<input>\nT\n</input>"]),
        ("adam.toml", "think,proofread", {"text": "T"}, ["check --fix {{}}`", "{print $1}", '{"id": {"n": 1}}']),
        ("adam.toml", "commands", {}, ["Braces that hold no name"]),
        ("analysis.toml", "sentiment", {"text": "T"}, ["Give 1 reason(s).", "Review: T"]),
        ("analysis.toml", "keywords", {"text": "T", "count": "7"}, ["At most 7".lower(), '{"keywords": ["tide"']),
        (
            "logic.toml",
            "letter",
            {"name": "ada", "formal": "yes"},
            ["formal letter to Ada.\n1. one version in English\n2. one version in Polish\n", "under 120 words"],
        ),
        ("logic.toml", "letter", {"name": "ada", "formal": ""}, ["note to ada"]),
        (
            "logic.toml",
            "letter_handlebars",
            {"name": "ada", "formal": "yes", "words": "9"},
            ["formal letter to Ada.\n0: one version in English\n", "under 9 words"],
        ),
        (
            "logic.toml",
            "translate",
            {"language": "Polish", "text": "T"},
            ["# Task\nTranslate into Polish: T\n\n# Answer\n"],
        ),
    ],
)
def test_examples_render(file: str, names: str, variables: dict[str, str], fragments: list[str]) -> None:
    rendered = render(opened(EXAMPLES / file), parse_names(names), variables)
    for fragment in fragments:
        assert fragment in rendered.text
    assert rendered.unused == ()


def test_the_system_prompt_of_an_example() -> None:
    rendered = render(opened(EXAMPLES / "analysis.toml"), ["sentiment"], {"text": "T", "language": "Polish"})
    assert rendered.system_prompt == "You judge the mood of reviews. Answer in Polish."


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.toml")), ids=lambda file: file.name)
def test_examples_have_neither_errors_nor_warnings(file: Path) -> None:
    assert [found for found in lint(opened(file)) if found.severity != "note"] == []


# Words of the command line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@p.toml", PromptReference(path=Path("p.toml"), names=())),
        ("@p.toml:a", PromptReference(path=Path("p.toml"), names=("a",))),
        ("@dir x/p.toml:a.b, c", PromptReference(path=Path("dir x/p.toml"), names=("a.b", "c"))),
        (r"@C:\x\P.TOML:a", PromptReference(path=Path(r"C:\x\P.TOML"), names=("a",))),
        ("@someone hello", None),
        ("see @p.toml", None),
        ("@p.toml:a\nmore", None),
        ("@p.toml is a file", None),
        ("@p.json:a", None),
        ("", None),
    ],
)
def test_references(text: str, expected: PromptReference | None) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize("text", ["a,,b", ",", "a,", " "])
def test_empty_names_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="empty prompt name"):
        parse_names(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1,b=2", {"a": "1", "b": "2"}),
        ("a=1, b = two words ,c=", {"a": "1", "b": "two words", "c": ""}),
        ("a='x, y',b=\"p, 'q'\"", {"a": "x, y", "b": "p, 'q'"}),
        (r"a='it\'s \\ \n'", {"a": r"it's \ \n"}),
        ("a=it's,b=x=y", {"a": "it's", "b": "x=y"}),
        ("a=' x ',", {"a": " x "}),
        ("a={{b}}", {"a": "{{b}}"}),
        ("two words=1,k.x=2", {"two words": "1", "k.x": "2"}),
    ],
)
def test_dict(text: str, expected: dict[str, str]) -> None:
    assert parse_dict(text) == expected


@pytest.mark.parametrize("text", ["", "5", "a,b", "a=1,b", "=1", "a=1,,b=2", "a=1,a=2", "a='x, y"])
def test_what_is_no_dict_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="`variables`"):
        parse_dict(text)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_.-]*", fullmatch=True), st.text(), min_size=1))
def test_quoted_values_survive_dict(values: dict[str, str]) -> None:
    escaped = {key: value.replace("\\", r"\\").replace("'", r"\'") for key, value in values.items()}
    assert parse_dict(",".join(f"{key}='{value}'" for key, value in escaped.items())) == values


def test_variables_are_taken_as_they_are() -> None:
    assert parse_variable("a= x,'y'=z ") == ("a", " x,'y'=z ")
    assert parse_variable('a:=[1, {"b": true}]') == ("a", [1, {"b": True}])
    assert parse_variable("a=:=1") == ("a", ":=1")
    for text in ["a", "=1", ""]:
        with pytest.raises(UsageError, match="`var`"):
            parse_variable(text)
