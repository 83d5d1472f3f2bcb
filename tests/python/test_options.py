"""The keyword options of the Python API: typed, and in step with the records they fill."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import lmstrix
from lmstrix.core.answers.recommend import Wish
from lmstrix.core.answers.request import InferRequest
from lmstrix.core.benchmark.records import BenchRequest
from lmstrix.ground.loads import LoadConfig
from lmstrix.python import options
from lmstrix.service.due_tests import ContextTestRequest

ROOT = Path(__file__).parents[2]
WRONG_CALLS = ROOT / "tests" / "data" / "wrong_calls.py"
# Other settings than those of `make check`: in one cache each would throw away what the other has read.
MYPY = (sys.executable, "-m", "mypy", "--strict", "--cache-dir", ".mypy_cache/wrong_calls")
TYPE_ERROR = re.compile(r"wrong_calls\.py:(\d+): error: .*\[([a-z-]+)\]$", re.MULTILINE)


@pytest.mark.parametrize(
    ("keywords", "record", "positional"),
    [
        (options.AnswerKeywords, InferRequest, {"prompt", "model", "tools", "max_rounds"}),
        (options.LoadKeywords, LoadConfig, {"context_length"}),
        (options.ContextTestKeywords, ContextTestRequest, set()),
        (options.WishKeywords, Wish, set()),
        (options.BenchKeywords, BenchRequest, set()),
    ],
)
def test_options_are_the_fields_of_their_record(keywords: type, record: type, positional: set[str]) -> None:
    names = keywords.__optional_keys__ | keywords.__required_keys__  # type: ignore[attr-defined]  # of a TypedDict
    assert names == {field.name for field in fields(record)} - positional


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(lmstrix.__file__).parent / "py.typed").is_file()


def test_a_type_checker_finds_every_wrong_call() -> None:
    """Each line of the file that ends with a comment "error: code" is a mistake; mypy names these and no others."""
    lines = WRONG_CALLS.read_text(encoding="utf-8").splitlines()
    marked = {number: line.rpartition("# error: ")[2] for number, line in enumerate(lines, 1) if "# error: " in line}
    assert len(marked) > 10
    done = subprocess.run(
        [*MYPY, "--no-pretty", "--config-file", "", str(WRONG_CALLS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {int(number): code for number, code in TYPE_ERROR.findall(done.stdout)}
    assert found == marked, done.stdout + done.stderr
