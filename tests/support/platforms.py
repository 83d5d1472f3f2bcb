"""Which systems a test runs on, said by the marker it carries, and which calls make it need one.

    @pytest.mark.needs_posix("pipes in the file system")
    @pytest.mark.needs_linux("reads /proc")

Each has its reason, which is shown where the test is skipped. `unmarked_tests` reads a test's source, and those of the
helpers and fixtures it uses, for what Windows does not have.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support.sources import parsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

ROOT = Path(__file__).parent.parent.parent
MARKERS = ("needs_posix", "needs_linux")
POSIX_MODULES = frozenset(("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"))
_CALLED = frozenset(
    (
        "chmod",
        "fchmod",
        "fork",
        "geteuid",
        "getuid",
        "killpg",
        "mkfifo",
        "openpty",
        "pthread_kill",
        "send_signal",
        "symlink",
        "symlink_to",
    )
)
"""Functions and methods that Windows lacks, or has under another meaning."""
_NAMED = frozenset(("SIGKILL", "SIGHUP", "SIGSTOP", "SIGCONT", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "AF_UNIX"))
_LINUX_FILES = ("/dev/full", "/proc/")


def reason_to_skip(marks: Iterable[pytest.Mark], platform: str) -> str | None:
    """Why a test with these marks does not run on a system (as sys.platform names it); None where it does."""
    for mark in marks:
        lacking = {"needs_posix": platform == "win32", "needs_linux": platform != "linux"}.get(mark.name, False)
        if lacking:
            (reason,) = mark.args
            return f"{mark.name}: {reason}"
    return None


class Unmarked(NamedTuple):
    """A test that uses what not every system has, and what that is."""

    file: Path
    line: int
    test: str
    used: frozenset[str]

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.test} uses {', '.join(sorted(self.used))}"


def files_of_tests() -> list[Path]:
    return sorted(file for file in (ROOT / "tests").rglob("*.py") if "data" not in file.parts)


def unmarked_tests(file: Path) -> Iterator[Unmarked]:
    """The tests of a file that need a system which no marker names."""
    tree = parsed(file)
    if any(isinstance(node, ast.Assign) and _is_pytestmark(node) and _is_marker(node.value) for node in tree.body):
        return
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not _is_marked(node)]
    for body in [tree.body, *(node.body for node in classes)]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                used = frozenset(_used(file, node.name))
                if used and not _is_marked(node):
                    yield Unmarked(file, node.lineno, node.name, used)


def imported_at_once(file: Path) -> Iterator[str]:
    """Modules that a file imports when it is imported itself."""
    waiting: list[ast.AST] = list(parsed(file).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting.extend(ast.iter_child_nodes(node))


def _is_pytestmark(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)


def _is_marker(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Attribute) and part.attr in MARKERS for part in ast.walk(node))


def _is_marked(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return any(_is_marker(decorator) for decorator in node.decorator_list)


@cache
def _functions(file: Path) -> dict[str, ast.AST]:
    return {
        node.name: node
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


@cache
def _origins(file: Path) -> dict[str, Path]:
    """Where the names come from that a file takes from other files of the tests; fixtures from the conftests above."""
    origins: dict[str, Path] = {}
    # From the outermost: the nearest of two fixtures is the one that counts.
    for folder in reversed([folder for folder in file.parents if folder.is_relative_to(ROOT / "tests")]):
        conftest = folder / "conftest.py"
        if conftest.exists() and conftest != file:
            origins |= dict.fromkeys(_functions(conftest), conftest)
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tests."):
            origin = ROOT / (str(node.module).replace(".", "/") + ".py")
            if origin.exists():
                origins |= {alias.asname or alias.name: origin for alias in node.names}
    return origins


def _used(file: Path, name: str) -> set[str]:
    """What a function uses of the system, and what those use that it names."""
    used: set[str] = set()
    waiting, seen = [(file, name)], {(file, name)}
    while waiting:
        directly, named = _facts(*waiting.pop())
        used |= directly
        waiting += named - seen
        seen |= named
    return used


@cache
def _facts(file: Path, name: str) -> tuple[frozenset[str], frozenset[tuple[Path, str]]]:
    """What a function uses itself, and the functions of the tests that it names."""
    here = _functions(file).get(name)
    used: set[str] = set()
    named: set[tuple[Path, str]] = set()
    for node in ast.walk(here) if here is not None else ():
        used |= _used_directly(node)
        other = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else None
        if other in _functions(file):
            named.add((file, str(other)))
        elif other in _origins(file):
            named.add((_origins(file)[str(other)], str(other)))
    return frozenset(used), frozenset(named)


def _used_directly(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Attribute) and node.attr in _CALLED | _NAMED:
        return {node.attr}
    if isinstance(node, ast.keyword) and node.arg == "preexec_fn":
        return {"preexec_fn"}
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & POSIX_MODULES
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        # Also in the code of a child, which is a text here.
        signals = {name for name in _NAMED if f"signal.{name}" in node.value}
        return signals | ({node.value} if node.value.startswith(_LINUX_FILES) else set())
    return set()
