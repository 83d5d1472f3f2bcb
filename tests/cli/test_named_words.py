"""What a message, a help text or the documentation tells the user to type exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import lmstrix
from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.signatures import describe
from tests.support.sources import parsed

SOURCE = Path(lmstrix.__file__).parent
ROOT = Path(__file__).parents[2]
FOREIGN_OPTIONS = {
    *("--help", "--version"),  # of every program
    *("--force-reinstall", "--user"),  # of pip and of systemd, which remedies name
    *("--samplers", "--query-gpu"),  # of the tools that read power and cards
    *("--home", "--default-context", "--jit-ttl", "--headroom"),  # of python -m lmstrix.engine, which the daemon starts
    *("--x", "--no-x", "--no-", "--word"),  # what comments and code call an option, whichever it is
}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
COMMAND = re.compile(r"(?<![\w./\"-])lmstrix ((?:[a-z]+)(?: [a-z]+)?)")


def own_options() -> set[str]:
    """Each option of each command, by either of its names, also in its negative form."""
    parameters = [p for path, function in COMMANDS.items() for p in describe(path, function).parameters]
    flags = {name for p in (*parameters, *common_parameters()) for name in (p.flag, p.name.replace("_", "-"))}
    return {f"--{flag}" for flag in flags} | {f"--no-{flag}" for flag in flags}


def texts() -> list[tuple[str, str]]:
    """Every text literal of the program with its place, docstrings of commands included."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        if "engine/__main__" in file.as_posix():
            continue  # has options of its own, which its parser knows
        if "earlier/migration" in file.as_posix():
            continue  # names what is no more; each of its rows has a test of its own
        tree = parsed(file)
        found += [
            (f"{file.relative_to(SOURCE)}:{node.lineno}", node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return found


@pytest.mark.slow
def test_every_option_that_a_text_names_exists() -> None:
    own = own_options() | FOREIGN_OPTIONS
    wrong = [(place, word) for place, text in texts() for word in OPTION.findall(text) if word not in own]
    assert wrong == []


def test_every_command_that_a_text_names_exists() -> None:
    heads = {path[0] for path in COMMANDS}
    wrong = [
        (place, words)
        for place, text in texts()
        for words in COMMAND.findall(text)
        if words.split()[0] not in heads and place != "__init__.py:1"  # "lmstrix imports nothing"
    ]
    assert wrong == []


@pytest.mark.parametrize("page", ["README.md", "docs/optimizer.md", "docs/architecture.md"])
def test_every_option_of_a_lmstrix_line_in_the_documentation_exists(page: str) -> None:
    own = own_options()
    lines = [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if "lmstrix " in line]
    assert [(line, word) for line in lines for word in OPTION.findall(line) if word not in own] == []
