"""The shape of the source tree: imports point down, in no circle; files, classes and folders stay within bounds.

Every import counts alike, also one inside a function or under TYPE_CHECKING: a reader follows types too, and a circle
of types ties modules together as firmly as one of calls. `from lmstrix.x import y` is an import of the module
lmstrix.x.y if there is one, else of lmstrix.x. A package's `__init__` is a module like any other.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.sources import parsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOURCE = Path(__file__).parent.parent / "src" / "lmstrix"
ROOT = SOURCE.name
ROWS = (
    ("__main__",),
    ("cli",),
    ("earlier",),
    ("python",),
    ("service",),
    ("engine", "gateway", "fleet", "reports"),
    ("api", "core", "loaders"),
    ("ground",),
)
LEVEL = {part: len(ROWS) - index for index, row in enumerate(ROWS) for part in row}
MAY_IMPORT_ROOT = {"__main__", "cli", "python"}
OWNERS = {
    "lmstudio": {"api"},
    "xllamacpp": {"engine"},
    "fire": {"cli"},
    "rich": {"reports"},
    "aiohttp": {"engine"},
    "httpx": {"api", "engine"},
}
"""Foreign libraries that one part hides from all others; httpx has two, each speaking to servers of its own."""
MOST_LINES = 500
MOST_PUBLIC_METHODS = 20
WIDE_ON_PURPOSE = {"LMStrixService", "LMStrix", "AsyncLMStrix"}
"""Facades: one line per use case, so as wide as the program."""


class Import(NamedTuple):
    """One module that another imports, and the line where it does."""

    place: str
    importer: str
    imported: str

    def __str__(self) -> str:
        return f"{self.place} imports {self.imported}"


def module_files(source: Path = SOURCE) -> dict[str, Path]:
    """Every module by its dotted name; a package's is that of its `__init__`."""
    files = {}
    for file in sorted(source.rglob("*.py")):
        words = file.relative_to(source.parent).with_suffix("").parts
        files[".".join(words[:-1] if words[-1] == "__init__" else words)] = file
    return files


@cache
def imports(source: Path = SOURCE) -> tuple[Import, ...]:
    """Every import of every module, of our own modules and of foreign ones."""
    files = module_files(source)
    found = []
    for importer, file in files.items():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Import):
                imported = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}:{node.lineno}: a relative import"
                module = str(node.module)
                dotted = {f"{module}.{alias.name}" for alias in node.names}
                imported = {name if name in files else module for name in dotted}
                # Whatever is taken from the root, the root is named.
                imported |= {ROOT} & {module}
            else:
                continue
            place = f"{file.relative_to(source).as_posix()}:{node.lineno}"
            found += [Import(place, importer, name) for name in sorted(imported)]
    return tuple(found)


def part_of(module: str) -> str:
    """The member of a row that a module of ours belongs to; the package root belongs to none."""
    return module.partition(".")[2].partition(".")[0]


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == ROOT


def against_the_rows(found: Iterable[Import]) -> list[str]:
    """Imports that point up or sideways. The package root has a rule of its own, and may import everything."""
    wrong = []
    for each in found:
        above, below = part_of(each.importer), part_of(each.imported)
        if is_ours(each.imported) and above and below and above != below and LEVEL[below] >= LEVEL[above]:
            wrong.append(f"{each} ({'up' if LEVEL[below] > LEVEL[above] else 'sideways'})")
    return wrong


def of_the_root(found: Iterable[Import]) -> list[str]:
    """Imports of the package root from below the parts that stand for it."""
    return [str(each) for each in found if each.imported == ROOT and part_of(each.importer) not in MAY_IMPORT_ROOT]


def circles(found: Iterable[Import]) -> list[list[Import]]:
    """The imports within each strongly connected component: in each of these, every module reaches every other."""
    edges: Mapping[str, list[Import]] = defaultdict(list)
    for each in found:
        if is_ours(each.imported):
            edges[each.importer].append(each)
    reached: dict[str, set[str]] = {}
    for start in list(edges):
        waiting, seen = [start], set[str]()
        while waiting:
            for each in edges.get(waiting.pop(), ()):
                if each.imported not in seen:
                    seen.add(each.imported)
                    waiting.append(each.imported)
        reached[start] = seen
    components = {
        frozenset(other for other in seen if start in reached.get(other, ()))
        for start, seen in reached.items()
        if start in seen
    }
    return [
        [each for module in sorted(component) for each in edges[module] if each.imported in component]
        for component in sorted(components, key=sorted)
    ]


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(each) in ("property", "cached_property") for each in function.decorator_list)


def expect_none(wrong: Iterable[object]) -> None:
    """Fail with one line for each thing that is wrong, and nothing else that would hide them."""
    lines = [str(each) for each in wrong]
    if lines:
        pytest.fail("\n" + "\n".join(lines), pytrace=False)


def test_every_module_has_a_row() -> None:
    assert {part_of(module) for module in module_files()} - {""} <= set(LEVEL)


def test_imports_point_down() -> None:
    expect_none(against_the_rows(imports()))


def test_nothing_below_imports_the_package_root() -> None:
    expect_none(of_the_root(imports()))


def test_no_modules_import_each_other_in_a_circle() -> None:
    expect_none(line for circle in circles(imports()) for line in (f"{len(circle)} imports in a circle:", *circle))


@pytest.mark.parametrize(("library", "owners"), sorted(OWNERS.items()))
def test_a_foreign_library_has_its_owners(library: str, owners: set[str]) -> None:
    users = (each for each in imports() if each.imported.partition(".")[0] == library)
    expect_none(each for each in users if part_of(each.importer) not in owners)


def test_no_file_is_too_long() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in module_files().values()}
    expect_none(
        f"{file.relative_to(SOURCE)}: {length} lines" for file, length in lengths.items() if length > MOST_LINES
    )


def test_no_class_is_too_wide() -> None:
    wrong = []
    for module, file in module_files().items():
        for node in ast.walk(parsed(file)):
            if not isinstance(node, ast.ClassDef) or node.name in WIDE_ON_PURPOSE:
                continue
            # A Protocol says what there is to do once; what implements it is another matter.
            if any(ast.unparse(base).partition("[")[0] == "Protocol" for base in node.bases):
                continue
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            # A property is read like a field; overloads and the two halves of a platform switch share one name.
            public = {each.name for each in methods if not each.name.startswith("_") and not is_property(each)}
            if len(public) > MOST_PUBLIC_METHODS:
                wrong.append(f"{module}.{node.name}: {len(public)} public methods")
    expect_none(wrong)


def test_every_folder_says_what_is_in_it() -> None:
    folders = {file.parent for file in module_files().values()}
    texts = {folder: folder / "__init__.py" for folder in folders}
    wrong = [
        folder.relative_to(SOURCE.parent)
        for folder, file in sorted(texts.items())
        if not file.exists() or not ast.get_docstring(parsed(file))
    ]
    expect_none(wrong)


# --- these rules, on trees made to break them -------------------------------------------------------------------------


def tree(folder: Path, **modules: str) -> Path:
    """A package of modules, named with two underscores for each dot."""
    source = folder / ROOT
    for name, text in ({"__init__": ""} | modules).items():
        file = source / f"{name if name == '__init__' else name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return source


@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        ("from lmstrix.service.testing import x", "core/a.py:1 imports lmstrix.service.testing (up)"),
        ("import lmstrix.api.client", "core/a.py:1 imports lmstrix.api.client (sideways)"),
        ("def f():\n    from lmstrix.api import client", "core/a.py:2 imports lmstrix.api.client (sideways)"),
        ("if TYPE_CHECKING:\n    from lmstrix.cli import app", "core/a.py:2 imports lmstrix.cli (up)"),
        ("from lmstrix import service", "core/a.py:1 imports lmstrix.service (up)"),
        ("from lmstrix.ground import types", None),
        ("from lmstrix.core import b", None),
        ("import json, lmstudio", None),
    ],
)
def test_an_import_up_or_sideways_is_found(tmp_path: Path, statement: str, wrong: str | None) -> None:
    source = tree(tmp_path, core__a=statement, core__b="", api__client="", service__testing="", ground__types="")
    (source / "service" / "__init__.py").write_text("", encoding="utf-8")
    assert against_the_rows(imports(source)) == ([] if wrong is None else [wrong])


def test_an_import_of_the_root_is_found(tmp_path: Path) -> None:
    source = tree(
        tmp_path,
        python__client="import lmstrix",
        cli__app="from lmstrix import LMStrix",
        core__a="import lmstrix.ground.types",
        engine__a="import lmstrix",
        ground__types="from lmstrix import __version__",
        service__a="from lmstrix import ground",
    )
    assert of_the_root(imports(source)) == [
        "engine/a.py:1 imports lmstrix",
        "ground/types.py:1 imports lmstrix",
        "service/a.py:1 imports lmstrix",
    ]


def test_every_circle_is_found(tmp_path: Path) -> None:
    source = tree(
        tmp_path,
        core__a="from lmstrix.core import b",
        core__b="def f():\n    import lmstrix.core.c",
        core__c="if True:\n    from lmstrix.core.a import x",
        core__d="from lmstrix.core.a import x",
        ground__one="from lmstrix.ground.two import x",
        ground__two="from lmstrix.ground import one",
    )
    assert [[str(each) for each in circle] for circle in circles(imports(source))] == [
        [
            "core/a.py:1 imports lmstrix.core.b",
            "core/b.py:2 imports lmstrix.core.c",
            "core/c.py:2 imports lmstrix.core.a",
        ],
        ["ground/one.py:1 imports lmstrix.ground.two", "ground/two.py:1 imports lmstrix.ground.one"],
    ]
