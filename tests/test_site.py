"""The user's site is true: its commands are understood and run, page by page; its examples run and type-check."""

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
import yaml
from tools import write_settings_docs

from lmstrix import EmbeddedEngine
from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.earlier_words import rewritten
from lmstrix.cli.signatures import describe
from lmstrix.cli.words import parse
from tests.support.pages import blocks_of
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
SITE = ROOT / "src_docs"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.md"))
GENERATED = {"reference/commands.md", "reference/settings.md"}
RUN = [page for page in PAGES if page not in GENERATED]
WITHOUT_SERVER = {"how-to/without-lm-studio.md", "how-to/in-ci.md", "tutorial/without-a-model.md"}
"""Pages about starting the engine; on all others a server runs already."""
OF_EARLIER_WORDS = {"tutorial/from-lmstrix-1.md"}
"""Pages that show words of the earlier LMStrix on purpose."""
OF_OTHER_PROGRAMS = {"version", "help"}
MODELS = ("Qwen3-8B", "gemma-3-4b")


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models that the pages talk of: they answer at once, with what a script says; one makes embeddings."""
    folder = tmp_path_factory.mktemp("site") / "models"
    for name in MODELS:
        target = folder / "acme" / f"{name}-GGUF" / f"{name}-Q4_K_M.gguf"
        target.parent.mkdir(parents=True)
        shutil.copy(scripted_model(context_length=2048), target)
    embedding = folder / "acme" / "nomic-embed-text-GGUF" / "nomic-embed-text-Q8_0.gguf"
    embedding.parent.mkdir(parents=True)
    shutil.copy(tiny_model("bert"), embedding)
    return folder


@pytest.fixture(scope="module")
def engine(models_dir: Path) -> Iterator[EmbeddedEngine]:
    with EmbeddedEngine(models_dir) as running:
        yield running


@pytest.fixture
def surroundings(request: pytest.FixtureRequest, models_dir: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a page's reader: an own home, the page's files, and the server it takes for granted."""
    page = request.node.callspec.params["page"]
    for block in blocks_of(SITE / page):
        if block.title:
            (tmp_path / block.title).parent.mkdir(exist_ok=True)
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    user = tmp_path / "user"
    shutil.copytree(models_dir, user / "models")
    server = "embedded" if page in WITHOUT_SERVER else request.getfixturevalue("engine").address
    own = {"HOME": str(user), "LMSTRIX_HOME": str(tmp_path / "home"), "LMSTRIX_SERVER": server}
    if page not in WITHOUT_SERVER:
        own["LMSTRIX_MODELS_DIR"] = str(models_dir)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | own | {"PATH": programs, "COLUMNS": "120"}


def run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )


@pytest.mark.parametrize("page", RUN)
def test_every_command_of_a_page_is_one_that_lmstrix_understands(page: str) -> None:
    for block in blocks_of(SITE / page):
        for line in block.commands:
            words = shlex.split(line.replace("…", "x"))
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if "|" in words:
                words = words[words.index("|") + 1 :]
            if words[0] == "lmstrix":
                given = words[1 : words.index(">")] if ">" in words else words[1:]
                if page in OF_EARLIER_WORDS and (today := rewritten(given, COMMANDS, common_parameters())):
                    given = today.words
                assert parse(given, COMMANDS, common_parameters()).command is not None, line


@pytest.mark.parametrize("page", RUN)
def test_commands_in_a_text_begin_with_ones_there_are(page: str) -> None:
    known = {path[0] for path in COMMANDS} | {path[0] for path in COMMANDS if len(path) > 1}
    text = (SITE / page).read_text(encoding="utf-8")
    assert {name for name in re.findall(r"`lmstrix ([a-z]+)", text) if name not in known} == set()


@pytest.mark.parametrize("page", RUN)
def test_options_in_a_text_are_ones_there_are(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (SITE / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    flags = {p.flag for path in COMMANDS for p in describe(path, COMMANDS[path]).parameters}
    flags |= {p.flag for p in common_parameters()} | OF_OTHER_PROGRAMS
    named = {
        flag for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text) for flag in re.findall(r"--([a-z][\w-]+)", code)
    }
    if page not in OF_EARLIER_WORDS:
        assert {flag for flag in named if flag not in flags and flag.removeprefix("no-") not in flags} == set()
    for code in re.findall(r"(?<!`)`(lmstrix [^`\n…]+)`(?!`)", text):
        words = shlex.split(re.sub(r"\bN\b", "4096", code))[1:]
        if any(word.startswith("-") for word in words):
            assert parse(words, COMMANDS, common_parameters()).command is not None, code


@pytest.mark.slow
@pytest.mark.needs_posix("its commands are those of a POSIX shell")
@pytest.mark.parametrize("page", [page for page in RUN if any(block.commands for block in blocks_of(SITE / page))])
def test_the_commands_of_a_page_run(page: str, surroundings: dict[str, str], tmp_path: Path) -> None:
    lines = [line for block in blocks_of(SITE / page) if not block.needs for line in block.commands]
    # Each line is shown before it runs, so that a failure names it; the first failure ends the script.
    done = run(["bash", "-euvc", "\n".join(lines)], tmp_path, surroundings)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in RUN if any(b.language == "python" for b in blocks_of(SITE / p))])
def test_the_python_examples_of_a_page_run_and_type_check(
    page: str, surroundings: dict[str, str], tmp_path: Path
) -> None:
    files = []
    for number, block in enumerate(block for block in blocks_of(SITE / page) if block.language == "python"):
        if block.title:
            continue  # what a command is given to read, and has been by the test above
        file = tmp_path / f"example_{number}.py"
        file.write_text(block.text, encoding="utf-8")
        files.append(str(file))
        done = run([sys.executable, file.name], tmp_path, surroundings)
        assert done.returncode == 0, block.text + done.stderr
    if files:
        done = run([sys.executable, "-m", "mypy", "--strict", *files], ROOT, dict(os.environ))
        assert done.returncode == 0, done.stdout


def test_the_settings_page_is_current() -> None:
    page = write_settings_docs.PAGE.read_text(encoding="utf-8")
    assert page == write_settings_docs.page(), "run: python -m tools.write_settings_docs"


def test_every_page_is_in_the_menu_and_every_picture_is_there() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert sorted(re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE)) == PAGES
    assert yaml.safe_load(text)["docs_dir"] == SITE.name
    for page in PAGES:
        for place in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", (SITE / page).read_text(encoding="utf-8")):
            assert (SITE / page).parent.joinpath(place).resolve().is_file(), (page, place)


def test_pictures_are_small_and_all_are_used() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in [*SITE.rglob("*.md"), ROOT / "README.md"])
    pictures = [path for path in (SITE / "assets").iterdir() if path.suffix != ".css"]
    assert [path.name for path in pictures if f"assets/{path.name})" not in texts] == []
    large = [path for path in (SITE / "assets").iterdir() if path.stat().st_size > 200_000]
    assert large == []


def test_the_pages_workflow_publishes_what_make_docs_builds() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["pages"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make docs PYTHON=python"]
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["site_dir"]
    assert [step["with"]["path"] for step in steps if "path" in step.get("with", {})] == [site]
