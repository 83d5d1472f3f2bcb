"""What is handed out is whole: the sdist passes its tests, the wheel carries its data, CI installs what was tested."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from packaging.requirements import Requirement
from tools import make, try_extras

from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.words import parse
from lmstrix.ground.environment import unknown_variables
from tests.support.sources import parsed

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
        for node in ast.walk(parsed(test)):
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


@pytest.mark.slow
def test_the_sdist_holds_what_its_tests_import_and_read(unpacked: Path) -> None:
    wanted = {file.as_posix() for file in imported_files()} | kept(ROOT / "tests") | kept(ROOT / "examples")
    assert len(wanted) > 100
    assert sorted(name for name in wanted if not (unpacked / name).is_file()) == []


@pytest.mark.slow
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


def test_beside_the_package_the_wheel_holds_what_shells_and_man_look_for(wheel_names: set[str]) -> None:
    beside = sorted(n for n in wheel_names if not re.match(r"lmstrix(-[^/]+\.dist-info)?/", n))
    assert [name.partition(".data/data/share/")[2] for name in beside] == [
        "bash-completion/completions/lmstrix",
        "fish/vendor_completions.d/lmstrix.fish",
        "man/man1/lmstrix.1",
        "zsh/site-functions/_lmstrix",
    ]


def test_the_container_is_built_from_enough(tmp_path: Path) -> None:
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines()
    copied = [line.split()[1:] for line in lines if line.startswith("COPY ") and "--from" not in line]
    for *names, folder in copied:
        for name in names:
            target = tmp_path / folder / (Path(name).name if folder.endswith("/") else "")
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, target)
    kept = {
        line[1:] for line in (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    }
    assert kept == {name for *names, _ in copied for name in names}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "--directory", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_container_runs_lmstrix_without_rights_on_its_volumes() -> None:
    stages = (ROOT / "Containerfile").read_text(encoding="utf-8").partition("FROM ")[2].split("FROM ")
    build, final = ([line.split(" ", 1) for line in stage.splitlines() if " " in line] for stage in stages)
    words = {name: value for name, value in final if name.isupper()}
    environment = dict(pair.split("=", 1) for pair in words["ENV"].split())
    programs = environment.pop("PATH").split(":")[0]
    assert any(f"python -m venv {Path(programs).parent}" in value for name, value in build if name == "RUN")
    assert f"--from=build {Path(programs).parent} {Path(programs).parent}" in words["COPY"]
    assert unknown_variables(environment) is None
    assert json.loads(words["VOLUME"]) == [environment["LMSTRIX_HOME"], environment["LMSTRIX_MODELS_DIR"]]
    made = next(value for name, value in final if name == "RUN" and "useradd" in value)
    assert all(folder in made.partition("mkdir ")[2] for folder in json.loads(words["VOLUME"]))
    assert words["USER"] == "lmstrix"
    assert final.index(["USER", "lmstrix"]) > final.index(["RUN", made])
    assert json.loads(words["ENTRYPOINT"]) == ["lmstrix"]
    assert parse(json.loads(words["CMD"]), COMMANDS, common_parameters()).help_text


def test_every_extra_is_tried_before_a_release() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {try_extras.PLAIN, *project["optional-dependencies"]} == set(try_extras.USES)
    for uses in try_extras.USES.values():
        for program, *words in map(shlex.split, uses):
            assert program != "lmstrix" or parse(words, COMMANDS, common_parameters()).command is not None


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


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    return parsed


def command_lines(job: dict[str, Any]) -> list[list[str]]:
    """The words of every command that a job of the workflow runs."""
    lines = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
    return [shlex.split(line) for line in lines]


def targets_of(words: list[str]) -> list[str]:
    """What a command has make or tools/make.py make; nothing for other commands."""
    for start in (["make"], ["python", "tools/make.py"]):
        if words[: len(start)] == start:
            return [word for word in words[len(start) :] if "=" not in word]
    return []


def test_the_workflow_makes_what_there_is_to_make(workflow: dict[str, Any]) -> None:
    asked = {
        name: {target for words in command_lines(job) for target in targets_of(words)}
        for name, job in workflow["jobs"].items()
    }
    assert asked == {"linux": {"check"}, "desktop": {"install", "demo", "check"}, "lowest": {"check-lowest"}}
    assert set().union(*asked.values()) <= set(make.TARGETS)


def test_the_workflow_names_commands_and_folders_that_exist(workflow: dict[str, Any]) -> None:
    lines = [words for job in workflow["jobs"].values() for words in command_lines(job)]
    ours = [tuple(words[1:]) for words in lines if words[0] == "lmstrix"]
    assert len(ours) >= 4
    assert [words for words in ours if words[:1] not in COMMANDS and words[:2] not in COMMANDS] == []
    folders = [word for words in lines for word in words if word.startswith(("tests/", "src/"))]
    assert len(folders) >= 3
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_the_workflow_runs_on_what_the_project_names(workflow: dict[str, Any]) -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    pythons = [name.rpartition(" ")[2] for name in classifiers if name.startswith("Programming Language :: Python :: ")]
    linux, desktop = (workflow["jobs"][name]["strategy"]["matrix"] for name in ("linux", "desktop"))
    assert linux["python"] == pythons
    assert desktop["python"] == [pythons[0], pythons[-1]]
    assert [name.partition("-")[0] for name in desktop["os"]] == ["macos", "windows"]


@pytest.mark.parametrize(
    ("package", "system", "machine", "python", "wanted"),
    [
        ("tiktoken", "win32", "ARM64", "3.12", False),
        ("tiktoken", "win32", "AMD64", "3.12", True),
        ("tiktoken", "darwin", "arm64", "3.14", True),
        ("zeus-apple-silicon", "darwin", "arm64", "3.13", True),
        ("zeus-apple-silicon", "darwin", "arm64", "3.14", False),
        ("zeus-apple-silicon", "linux", "x86_64", "3.13", False),
    ],
)
def test_what_is_published_for_some_systems_is_asked_for_there(
    package: str, system: str, machine: str, python: str, wanted: bool
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["power"]]
    (marker,) = [found.marker for found in map(Requirement, texts) if found.name == package]
    assert marker is not None
    there = {"sys_platform": system, "platform_machine": machine, "python_version": python}
    assert marker.evaluate(there) is wanted
