"""`python tools/make.py` and `make` are one thing, and whoever has too old a Python is told so."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tools import make

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tools" / "make.py"
ANSWER_OF = make.answer_of


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose environment has yet to be made."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(make, "ROOT", tmp_path)
    monkeypatch.setattr(make, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(make, "VENV_LOWEST", tmp_path / ".venv-lowest")
    monkeypatch.setattr(make, "READY", tmp_path / ".venv" / ".ready")
    monkeypatch.setattr(make, "answer_of", lambda _python, _question: "3 11 0")
    monkeypatch.delenv("CONSTRAINTS", raising=False)
    return tmp_path


@pytest.fixture
def settings(project: Path) -> make.Settings:
    """Made where no CONSTRAINTS is left over from a `make CONSTRAINTS=...` that runs these tests."""
    return make.Settings({"PYTHON": "python-to-begin-with"})


@pytest.fixture
def commands(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What would have been run; making an environment makes its folder."""
    found: list[tuple[str, ...]] = []

    def run(*command: str, shown: bool = False) -> None:
        found.append(command)
        if command[1:3] == ("-m", "venv"):
            Path(make.program(Path(command[-1]), "python")).parent.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(make, "run", run)
    return found


def test_the_makefile_has_these_targets_and_nothing_of_its_own() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    ((targets, recipe),) = re.findall(r"^(\w[\w -]+):\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert phony.split() == targets.split() == list(make.TARGETS)
    assert recipe == "\t@$(PYTHON) tools/make.py $@ CONSTRAINTS=$(CONSTRAINTS)\n"


def test_an_older_python_understands_the_file_and_needs_nothing_else() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 9))
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    taken = [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in plain + taken} <= sys.stdlib_module_names


def test_too_old_a_python_is_named_with_the_way_out(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make, "answer_of", lambda _python, _question: "3 9 6")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert make.main(["demo", "PYTHON=python3"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("LMStrix needs Python 3.11 or newer; python3 is 3.9.6. Install one (https://www.python.org")
    assert not make.VENV.exists()
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/python3.12" if name == "python3.12" else None)
    assert make.main(["demo", "PYTHON=python3"]) == 1
    assert "python3.12 is installed: python3.12 tools/make.py, or make PYTHON=python3.12" in capsys.readouterr().err


def test_a_python_that_is_not_there_is_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make, "answer_of", ANSWER_OF)
    assert make.main(["demo", "PYTHON=/not/there/python"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("/not/there/python is no Python that can be used: ")


def test_the_environment_is_made_once_and_again_when_the_project_changed(
    project: Path, commands: list[tuple[str, ...]], settings: make.Settings
) -> None:
    make.install(settings)
    python = make.program(make.VENV, "python")
    assert commands == [
        ("python-to-begin-with", "-m", "venv", "--clear", str(make.VENV)),
        (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ".[engine,dev]"),
    ]
    commands.clear()
    make.install(settings)
    assert commands == []
    later = make.READY.stat().st_mtime + 10
    os.utime(project / "pyproject.toml", (later, later))
    Path(python).touch()
    make.install(make.Settings({"CONSTRAINTS": "constraints.txt"}))
    ((_, *words),) = commands  # the environment itself is kept
    assert words[-4:] == ["--constraint", "constraints.txt", "-e", ".[engine,dev]"]


def test_an_environment_of_too_old_a_python_is_made_anew(
    project: Path, commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, settings: make.Settings
) -> None:
    python = Path(make.program(make.VENV, "python"))
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(make, "answer_of", lambda asked, _question: "3 9 6" if asked == str(python) else "3 12 1")
    make.make_environment(settings, make.VENV)
    assert commands == [("python-to-begin-with", "-m", "venv", "--clear", str(make.VENV))]


def test_half_an_environment_is_not_left(
    project: Path, monkeypatch: pytest.MonkeyPatch, settings: make.Settings
) -> None:
    def without_pip(*command: str, shown: bool = False) -> None:
        Path(make.program(make.VENV, "python")).parent.mkdir(parents=True)
        raise make.Failed(status=1)

    monkeypatch.setattr(make, "run", without_pip)
    with pytest.raises(make.Failed):
        make.install(settings)
    assert not make.VENV.exists()


def test_programs_lie_elsewhere_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "WINDOWS", True)
    assert Path(make.program(make.VENV, "ruff")).parts[-3:] == (".venv", "Scripts", "ruff.exe")
    monkeypatch.setattr(make, "WINDOWS", False)
    assert Path(make.program(make.VENV, "ruff")).parts[-3:] == (".venv", "bin", "ruff")


def test_windows_on_arm_is_told_what_is_not_published_for_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*command: str, shown: bool = False) -> None:
        Path(make.program(make.VENV, "python")).parent.mkdir(parents=True, exist_ok=True)
        Path(make.program(make.VENV, "python")).touch()
        if "pip" in command:
            raise make.Failed(status=1)

    monkeypatch.setattr(make, "run", failing)
    answers = {True: "3 12 0", False: "win-arm64"}
    monkeypatch.setattr(make, "answer_of", lambda _python, question: answers["version_info" in question])
    assert make.main(["install"]) == 1
    said = capsys.readouterr().err
    assert "minijinja" in said
    assert "64-bit Python for x64" in said


def test_check_looks_at_each_system(commands: list[tuple[str, ...]], settings: make.Settings) -> None:
    make.check(settings)
    shown = [" ".join([Path(command[0]).stem, *command[1:]]) for command in commands[2:]]
    assert shown[0].startswith("ruff format --check ")
    assert [line for line in shown if line.startswith("mypy")] == [
        "mypy",
        "mypy --platform win32 --cache-dir .mypy_cache/win32 src",
        "mypy --platform darwin --cache-dir .mypy_cache/darwin src",
    ]
    assert shown[-1] == "python -m pytest -q -n 4 --dist loadfile"


def test_the_oldest_packages_have_an_environment_of_their_own(
    commands: list[tuple[str, ...]], settings: make.Settings
) -> None:
    make.check_lowest(settings)
    assert all(".venv-lowest" in " ".join(command) for command in commands)
    assert commands[2][-4:-2] == ("--resolution", "lowest-direct")
    assert commands[-1][1:3] == ("-m", "pytest")


def test_the_exit_status_is_that_of_the_command() -> None:
    make.run(sys.executable, "-c", "")
    with pytest.raises(make.Failed) as caught:
        make.run(sys.executable, "-c", "raise SystemExit(7)")
    assert caught.value.status == 7


def test_a_command_that_is_interrupted_may_tidy_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(subprocess.Popen[bytes]):
        waits = 0

        def wait(self, timeout: float | None = None) -> int:
            Interrupted.waits += 1
            if Interrupted.waits == 1:
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(make.Failed) as caught:
        make.run(sys.executable, "-c", "raise SystemExit(130)")
    assert caught.value.status == 130


@pytest.mark.parametrize("words", [["paint"], ["demo", "PYTHONS=3"]], ids=str)
def test_what_is_not_known_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert make.main(words) == 2
    assert capsys.readouterr().err.startswith(f"not known here: {words[-1].partition('=')[0]}\n")


def test_clean_removes_what_was_made_and_nothing_else(project: Path, settings: make.Settings) -> None:
    for name in (*make.LEFTOVERS, "src"):
        (project / name).mkdir()
    make.clean(settings)
    make.clean(settings)
    assert {path.name for path in project.iterdir()} == {"pyproject.toml", "src", "user-home"}


def test_what_it_runs_keeps_its_bytecode(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(make, "install", lambda _settings: None)
    kept: list[bool] = []
    monkeypatch.setattr(
        make, "run", lambda *_command, **_options: kept.append("PYTHONDONTWRITEBYTECODE" not in os.environ)
    )
    assert make.main(["test"]) == 0
    assert kept == [True]
