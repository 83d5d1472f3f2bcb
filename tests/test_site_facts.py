"""Tables and lists of the site that repeat what the code says: names, limits, verdicts, JSON keys, exit codes."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from lmstrix.core.benchmark.compare import Verdict
from lmstrix.core.benchmark.stats import median_interval
from lmstrix.core.context.verdict import Outcome
from lmstrix.core.prompts.checks import TAGS
from lmstrix.core.prompts.library import TEXT_KEYS
from lmstrix.core.prompts.limits import LIMITS
from lmstrix.core.prompts.lint import Code
from lmstrix.core.prompts.parsing import parse
from lmstrix.core.prompts.rendering import render
from lmstrix.ground import errors
from lmstrix.ground.choices import EndedBy
from lmstrix.ground.errors import LMStrixError, PromptError
from lmstrix.loaders.prompts import MAX_PROMPT_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

SITE = Path(__file__).parent.parent / "src_docs"


def text_of(page: str) -> str:
    return (SITE / page).read_text(encoding="utf-8")


def section(page: str, title: str) -> str:
    """What stands below a heading, up to the next one."""
    return re.split(r"^#+ .*$", text_of(page).split(f"# {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The rows of the tables in a text, without their heads."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and not set(line) <= set("|-"):
            yield cells


def code_in(text: str) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def test_the_limits_of_prompt_files() -> None:
    told = {row[0]: row[1] for row in rows(section("prompt-files.md", "Limits"))}
    assert told == {
        "what": "most",
        "the file": f"{MAX_PROMPT_FILE_BYTES // 2**20} MiB",
        "a finished text": f"{LIMITS.characters // 2**20} Mi characters",
        "tables in tables": str(LIMITS.table_depth),
        "references in references": str(LIMITS.reference_depth),
        "steps of logic": f"{LIMITS.fuel:,}, about 200,000 rounds of a loop",
    }
    assert f"nested {LIMITS.reference_depth} deep" in section("prompt-files.md", "References")


def test_the_tags_of_prompt_files() -> None:
    line = next(line for line in text_of("prompt-files.md").splitlines() if line.startswith("- Tags: "))
    named = {word for code in code_in(line) for word in code.split()}
    assert named == {tag for tag in TAGS if not tag.startswith("end")}


def test_the_filters_of_prompt_files() -> None:
    named = code_in(re.split(r"- Filters: |\.\n", section("prompt-files.md", "Logic"))[2])
    offered, left_out = named[: named.index("attr")], named[named.index("attr") :]
    arguments = {"replace": '("a", "b")', "default": "(1)", "truncate": "(length=9)"}

    def filtered(name: str) -> str:
        value = "points" if name in ("first", "last", "sort", "unique", "join", "length") else "name"
        body = f"{{{{ {value} | {name}{arguments.get(name, '')} }}}}"
        return render(parse({"p": body}), ["p"], {"name": "ada", "points": ["b", "a"]}).text

    assert len(offered) >= 15
    for name in offered:
        assert filtered(name) or name == "unique"
    for name in left_out:
        with pytest.raises(PromptError):
            filtered(name)


def test_what_lint_finds() -> None:
    codes = [code_in(row[0]) for row in rows(section("prompt-files.md", "Lint"))]
    assert sorted(code for (code,) in codes[1:]) == sorted(get_args(Code))
    assert {f'{key} = "…"' for key in TEXT_KEYS} <= set(code_in(text_of("prompt-files.md")))


def test_troubleshooting_names_outcomes_as_they_are_shown() -> None:
    words = {str(outcome) for outcome in Outcome}
    shown = {
        code
        for title in ("The model loads with another context than asked", "The load fails", "It loads, then breaks")
        for row in rows(section("troubleshooting.md", title))
        for code in code_in(row[0])
    }
    assert shown <= words
    # What is an outcome of the server or of the model is to be found by its symptom.
    elsewhere = {"ok", "interrupted", "model not found", "server unreachable", "connection lost"}
    assert words - elsewhere <= set(code_in(text_of("troubleshooting.md")))


def test_what_can_end_a_test_is_explained() -> None:
    told = {row[0] for row in rows(section("explanation/numbers.md", "What ended a test"))} - {
        "word",
        "memory (expected)",
    }
    assert told == {name.replace("_", " ") for name in get_args(EndedBy)}


def test_verdicts_and_the_fewest_runs_of_a_benchmark() -> None:
    table = section("explanation/benchmarks.md", "Is a difference real?")
    told = {word.strip() for row in rows(table) for word in row[0].split(",")} - {"verdict"}
    assert told == set(get_args(Verdict))
    assert "Six runs" in section("explanation/benchmarks.md", "Medians and intervals")
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) is not None


def test_the_exit_codes() -> None:
    told = {row[0] for row in rows(section("reference/json.md", "Exit codes"))} - {"code"}
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, LMStrixError)]
    assert told == {"0", "130"} | {str(kind.exit_code) for kind in kinds}
