"""The tests themselves on other systems: all can be collected there, and what cannot run there says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.platforms import (
    MARKERS,
    POSIX_MODULES,
    files_of_tests,
    imported_at_once,
    reason_to_skip,
    unmarked_tests,
)

ROOT = Path(__file__).parent.parent
COLLECT = """
import importlib, os, signal, socket, sys
import pytest
modules, blocked, names = (text.split() for text in sys.argv[1:])

def import_all():
    for module in modules:
        try:
            importlib.import_module(module)
        except pytest.skip.Exception:
            pass

# The first time brings in all foreign packages, which have their own ways on each system.
import_all()
for module in list(sys.modules):
    if module == "tests" or module.startswith("tests."):
        del sys.modules[module]
for module in blocked:
    sys.modules[module] = None
for owner in (os, signal, socket):
    for name in names:
        if hasattr(owner, name):
            delattr(owner, name)
import_all()
"""
MADE_UP = """
import os, signal, pytest
def pipe(path): os.mkfifo(path)
@pytest.fixture
def piped(tmp_path): pipe(tmp_path)
def test_direct(process): process.send_signal(signal.SIGINT)
def test_by_a_fixture(piped): pass
def test_in_a_child(): run('os.kill(1, signal.SIGKILL)')
def test_plain(): pass
@pytest.mark.needs_posix('pipes')
def test_marked(piped): pass
class TestAll:
    async def test_one(self): import resource
"""
MISSING_ON_WINDOWS = (
    "AF_UNIX SIGALRM SIGCONT SIGHUP SIGKILL SIGSTOP SIGUSR1 SIGUSR2 SIGXCPU "
    "fork getegid geteuid getgid getuid killpg mkfifo openpty pthread_kill setsid"
)


@pytest.mark.slow
def test_every_test_can_be_collected_where_there_is_no_posix() -> None:
    files = [file.relative_to(ROOT).with_suffix("") for file in files_of_tests() if file.name != "__init__.py"]
    modules = " ".join(".".join(file.parts) for file in files)
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, modules, " ".join(POSIX_MODULES), MISSING_ON_WINDOWS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_test_module_imports_what_only_posix_has() -> None:
    wrong = {file.name: found for file in files_of_tests() if (found := POSIX_MODULES & set(imported_at_once(file)))}
    assert wrong == {}


@pytest.mark.slow
def test_what_needs_posix_says_so() -> None:
    wrong = [str(unmarked) for file in files_of_tests() for unmarked in unmarked_tests(file)]
    assert wrong == [], "\n" + "\n".join(wrong)


def test_what_a_test_uses_is_found_in_helpers_and_fixtures_too(tmp_path: Path) -> None:
    file = tmp_path / "test_made_up.py"
    file.write_text(MADE_UP, encoding="utf-8")
    found = {unmarked.test: set(unmarked.used) for unmarked in unmarked_tests(file)}
    assert found == {
        "test_direct": {"send_signal"},
        "test_by_a_fixture": {"mkfifo"},
        "test_in_a_child": {"SIGKILL"},
        "test_one": {"resource"},
    }


@pytest.mark.parametrize(
    ("platform", "skipped"), [("win32", set(MARKERS)), ("darwin", {"needs_linux"}), ("linux", set())]
)
def test_a_marker_skips_with_its_reason(platform: str, skipped: set[str]) -> None:
    reasons = {name: reason_to_skip([getattr(pytest.mark, name)("pipes").mark], platform) for name in MARKERS}
    assert reasons == {name: f"{name}: pipes" if name in skipped else None for name in MARKERS}
