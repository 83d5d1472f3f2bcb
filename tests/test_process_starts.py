"""Every process is started by one layer, which knows how: no window on Windows, no orphan, the right interpreter."""

from __future__ import annotations

import ast
from pathlib import Path

import lmstrix
from tests.support.sources import parsed

SOURCES = Path(lmstrix.__file__).parent
LAYER = {"ground/processes.py", "ground/child_processes.py"}
FORKS = {"engine/llama/child.py": {"os.fork"}}
"""The child's watcher: a part of itself, which runs nothing else."""
MODULES = {"subprocess", "multiprocessing", "pty"}
CALLS = {"os.system", "os.popen", "os.fork", "os.forkpty", "os.startfile", "os.posix_spawn", "os.posix_spawnp"}
FAMILIES = ("os.exec", "os.spawn", "asyncio.create_subprocess_", "loop.subprocess_")
INTERPRETERS = {"sys.executable", "sys._base_executable"}


def starts(file: Path) -> set[str]:
    """What a module uses to start processes."""
    found: set[str] = set()
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} & MODULES
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in CALLS | INTERPRETERS or name.startswith(FAMILIES):
                found.add(name)
    return found


def test_only_the_layer_starts_processes() -> None:
    modules = {file.relative_to(SOURCES).as_posix(): file for file in SOURCES.rglob("*.py")}
    assert set(modules) >= LAYER
    found = {name: starts(file) - FORKS.get(name, set()) for name, file in modules.items() if name not in LAYER}
    assert {name: used for name, used in found.items() if used} == {}


def test_what_starts_processes_is_recognized(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "def f():\n    from subprocess import run\n    run([sys.executable])\n"
        "async def g():\n    await asyncio.create_subprocess_exec('x')\nos.execv('x', [])\n"
    )
    assert starts(file) == {"subprocess", "sys.executable", "asyncio.create_subprocess_exec", "os.execv"}
