"""What is handed out is whole: the sdist passes its tests, the wheel carries its data, CI installs what was tested."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
LOCAL = {"tests": ROOT, "bench": ROOT, "tools": ROOT, "examples": ROOT, "lmstrix": ROOT / "src"}
"""The packages tests import from here rather than from elsewhere, and the folder each stands in."""
SUBSET = ("tests/ground", "tests/test_public_api.py")
"""Tests that an unpacked sdist is tried with: settings and paths without a server, the Python API with one."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist and a wheel of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist's own folder, unpacked."""
    folder = tmp_path_factory.mktemp("unpacked")
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    (inner,) = folder.iterdir()
    return inner


@pytest.fixture(scope="module")
def wheel_names(built: Path) -> set[str]:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def imported_files() -> Iterator[Path]:
    """The file, relative to the root, of every module of ours that a test imports."""
    for test in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                # `from a.b import c` may name the module a.b.c, or something in a.b.
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                top, *_ = name.split(".")
                if top in LOCAL:
                    stem = LOCAL[top] / name.replace(".", "/")
                    yield from (
                        file.relative_to(ROOT)
                        for file in (stem.with_suffix(".py"), stem / "__init__.py")
                        if file.exists()
                    )


def kept(folder: Path) -> set[str]:
    """Every file of a folder that is written by hand, relative to the root."""
    passing = {"__pycache__", "node_modules"}
    files = (path for path in folder.rglob("*") if path.is_file() and not passing & set(path.parts))
    return {file.relative_to(ROOT).as_posix() for file in files}


def test_the_sdist_holds_what_its_tests_import_and_read(unpacked: Path) -> None:
    wanted = {file.as_posix() for file in imported_files()} | kept(ROOT / "tests") | kept(ROOT / "examples")
    assert len(wanted) > 100
    assert sorted(name for name in wanted if not (unpacked / name).is_file()) == []


def test_an_unpacked_sdist_passes_its_tests(unpacked: Path) -> None:
    # The sdist's own sources must win over the installed ones, and nothing of the outer run may lead the inner one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(unpacked / "src")
    found = subprocess.run(
        [sys.executable, "-c", "import lmstrix; print(lmstrix.__file__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(unpacked)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SUBSET],
        cwd=unpacked,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_wheel_holds_the_package_whole(wheel_names: set[str]) -> None:
    sources = {name.removeprefix("src/") for name in kept(ROOT / "src" / "lmstrix")}
    assert sorted(sources - wheel_names) == []
    assert "lmstrix/py.typed" in wheel_names
    assert any(name.startswith("lmstrix/data/") and name.endswith(".gguf") for name in wheel_names)
    assert any("/templates/" in name and name.endswith(".html") for name in wheel_names)


def test_the_wheel_holds_nothing_else(wheel_names: set[str]) -> None:
    assert sorted(n for n in wheel_names if not re.match(r"lmstrix(-[^/]+\.dist-info)?/", n)) == []


def test_ci_installs_versions_that_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert lines[1:] == sorted(lines[1:], key=str.lower)
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["engine"], *extras["dev"]]:
        wanted = Requirement(text)
        assert wanted.name in pins, f"{text}: run python -m tools.update_constraints"
        assert wanted.specifier.contains(pins[wanted.name], prereleases=True), f"{text}, not {pins[wanted.name]}"


def test_the_workflow_runs_what_make_check_runs() -> None:
    """Windows may lack make, so the workflow spells its commands out there; they must not drift apart."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = dict(re.findall(r"^(\w+) :?= (.*)$", makefile, re.MULTILINE)) | {"BIN": ""}
    (recipe,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    while "$(" in recipe:
        recipe = re.sub(r"\$\((\w+)\)/?", lambda name: variables[name[1]], recipe)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    spelled_out = [line.strip() for line in workflow.splitlines()]
    assert recipe.split("\n")[:-1]
    assert [command.strip() for command in recipe.splitlines() if command.strip() not in spelled_out] == []
