"""No file of the folder a command runs in is executed in the place of a module that LMStrix imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lmstrix
from tests.support.sources import parsed

SOURCES = Path(lmstrix.__file__).parent
IMPORTED_LATE = ("json", "sqlite3", "tomllib", "dataclasses", "loguru", "fire", "lmstudio", "aiohttp", "asyncio")


def commands_of_python() -> list[tuple[str, list[ast.expr]]]:
    """The words of every call in the sources that starts our own interpreter."""
    found = []
    for file in SOURCES.rglob("*.py"):
        calls = (each for each in ast.walk(parsed(file)) if isinstance(each, ast.Call))
        found += [(file.name, call.args) for call in calls if ast.unparse(call.func) == "own_python"]
    return found


@pytest.mark.slow
def test_every_child_of_ours_leaves_out_the_working_folder() -> None:
    children = commands_of_python()
    assert {name for name, _ in children} >= {
        "daemon.py",
        "starting.py",
        "limited_process.py",
        "installation.py",
        "demo.py",
    }
    for name, words in children:
        assert ast.unparse(words[0]) in ("'-P'", "'-I'"), name


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with modules that leave a mark when they are imported."""
    folder = tmp_path / "cloned"
    folder.mkdir()
    for name in IMPORTED_LATE:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'a').write({name!r})\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("words", [["list"], ["doctor", "--quiet"], ["engine", "start"], ["engine", "stop"]], ids=str)
def test_modules_of_the_working_folder_are_not_run(hostile: Path, tmp_path: Path, words: list[str]) -> None:
    extra = ["--models-dir", str(tmp_path)] if words == ["engine", "start"] else []
    ran = subprocess.run(
        [sys.executable, "-m", "lmstrix", *words, *extra],
        cwd=hostile,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if extra:
        subprocess.run([sys.executable, "-P", "-m", "lmstrix", "engine", "stop"], check=False, timeout=60)
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "pwned").exists()
