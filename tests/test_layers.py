"""Imports point down, never sideways or up (docs/architecture.md shows the layers)."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parent.parent / "src" / "lmstrix"
ROWS = [
    {"__main__"},
    {"cli"},
    {"python"},
    {"service"},
    {"engine", "gateway", "reports"},
    {"api", "core", "loaders"},
    {"ground"},
]
LEVEL = {name: len(ROWS) - index for index, row in enumerate(ROWS) for name in row}
GROUND = ROWS[-1]
FOREIGN = {"lmstudio": "api", "xllamacpp": "engine", "fire": "cli", "rich": "reports", "aiohttp": "engine"}


def part_of(module: str) -> str:
    """The row member a dotted module belongs to."""
    return module.split(".")[1] if "." in module else ""


def imports() -> Iterator[tuple[str, str, str]]:
    for file in sorted(SOURCE.rglob("*.py")):
        relative = file.relative_to(SOURCE)
        own = relative.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((str(relative), own, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{relative}: relative import"
                yield str(relative), own, node.module or ""


def test_every_module_has_a_row() -> None:
    members = {path.name.removesuffix(".py") for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert members - {"__init__", "__pycache__", "data", "py.typed"} <= set(LEVEL)


def test_imports_point_down() -> None:
    wrong = []
    for file, own, module in imports():
        if not module.startswith("lmstrix") or own == "__init__":
            continue
        part = part_of(module)
        if part in ("", own):
            continue
        sideways = LEVEL[part] == LEVEL[own] and part not in GROUND
        if LEVEL[part] > LEVEL[own] or sideways:
            wrong.append(f"{file} imports {module}")
    assert not wrong


@pytest.mark.parametrize(("library", "owner"), sorted(FOREIGN.items()))
def test_a_foreign_library_has_one_owner(library: str, owner: str) -> None:
    users = {own for _, own, module in imports() if module.split(".")[0] == library}
    assert users <= {owner}
