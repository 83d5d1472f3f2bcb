"""What is written is true: the command page is current, README names real commands, examples type-check and run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tools import write_command_docs, write_man_page

from lmstrix import EmbeddedEngine
from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.command_groups import REST, grouped
from lmstrix.cli.examples import EXAMPLES
from lmstrix.cli.words import parse
from tests.support.model_files import put_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator

MAN = shutil.which("man")
ROOT = Path(__file__).parent.parent
PROGRAMS = {
    "find_limits.py": ([], "echo: 4,096 tokens"),
    "stream_answer.py": (["echo", "2+3="], "5"),
    "many_at_once.py": (["echo", "2+3=", "think"], "2+3= -> 5"),
    "notebook.py": ([], "5 2 tokens"),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    target = put_model(tmp_path_factory.mktemp("models"), "echo", scripted_model())
    with EmbeddedEngine(target.parent.parent.parent) as running:
        yield running


def test_the_command_page_is_current() -> None:
    page = write_command_docs.PAGE.read_text(encoding="utf-8")
    assert page == write_command_docs.page(), "run: python -m tools.write_command_docs"


def test_the_manual_page_is_current_and_whole() -> None:
    page = write_man_page.PAGE.read_text(encoding="utf-8")
    assert page == write_man_page.page(), "run: python -m tools.write_man_page"
    assert page.count(".SS ") == len(COMMANDS)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_manual_page_is_understood() -> None:
    command = ["groff", "-man", "-Tutf8", "-ww", "-z", str(write_man_page.PAGE)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


def test_every_command_stands_in_a_group_of_the_overview() -> None:
    assert REST not in dict(grouped(COMMANDS))


@pytest.mark.parametrize(("path", "lines"), EXAMPLES.items())
def test_the_examples_of_a_help_page_are_commands(path: tuple[str, ...], lines: tuple[str, ...]) -> None:
    for line in lines:
        program, *words = shlex.split(line)
        found = parse(words, COMMANDS, common_parameters()).command
        assert (program, found and found.path) == ("lmstrix", path), line


def test_every_command_that_takes_words_has_an_example() -> None:
    from lmstrix.cli.signatures import describe

    for path, function in COMMANDS.items():
        takes = [each.name for each in describe(path, function).parameters if each.positional]
        assert path in EXAMPLES or not takes, (path, takes)


def test_every_command_has_a_summary_and_every_option_a_text() -> None:
    from lmstrix.cli.signatures import describe

    for path, function in COMMANDS.items():
        command = describe(path, function)
        assert command.summary.endswith("."), path
        assert [p.name for p in command.parameters if not p.help] == [], path


def test_readme_names_only_commands_there_are() -> None:
    known = {path[0] for path in COMMANDS}
    for text in (ROOT / "README.md", ROOT / "docs" / "architecture.md"):
        named = re.findall(r"`?lmstrix ([a-z]+)", text.read_text(encoding="utf-8"))
        assert set(named) - known - {"import", "is"} == set(), text


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md"])
def test_every_place_a_document_names_is_there(name: str) -> None:
    """`folder/file.py` counts from the package or the repository; a folder is looked for where its first one is."""
    roots = (ROOT / "src" / "lmstrix", ROOT)
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", (ROOT / name).read_text(encoding="utf-8"))
    places = [
        word
        for word in named
        if word.endswith(".py") or ("/" in word and any((root / word.split("/")[0]).exists() for root in roots))
    ]
    assert [word for word in places if not any((root / word).exists() for root in roots)] == []


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "examples" / "python").glob("*.py")} == set(PROGRAMS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_runs(name: str, engine: EmbeddedEngine, home: Path, tmp_path: Path) -> None:
    words, expected = PROGRAMS[name]
    environment = os.environ | {"LMSTRIX_SERVER": engine.address, "LMSTRIX_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "python" / name), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_examples_type_check() -> None:
    done = subprocess.run(
        # Stricter than `make check`: in one cache each would throw away what the other has read.
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--cache-dir",
            ".mypy_cache/examples",
            *map(str, (ROOT / "examples" / "python").glob("*.py")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(MAN is None, reason="man is not installed")
@pytest.mark.parametrize("columns", ["60", "100"])
def test_the_man_page_is_set_without_warnings(columns: str) -> None:
    assert MAN is not None
    done = subprocess.run(
        [MAN, "--warnings", "-l", str(write_man_page.PAGE)],
        env=os.environ | {"MANWIDTH": columns},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "unrecognized option" in done.stderr or "illegal option" in done.stderr:
        pytest.skip("another man than man-db")
    assert (done.returncode, done.stderr) == (0, "")
    assert "lmstrix" in done.stdout
