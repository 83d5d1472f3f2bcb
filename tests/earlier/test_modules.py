"""The earlier modules, row by row of the migration table: there with a warning, or gone with a word on what to use."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lmstrix
from lmstrix.earlier.migration import ROWS
from lmstrix.earlier.models import Model

if TYPE_CHECKING:
    from lmstrix.earlier.migration import Migration

PYTHON = [row for row in ROWS if row.kind == "python"]


def taken(name: str) -> object:
    """What `from MODULE import NAME` gives a script."""
    space: dict[str, object] = {}
    module, _, last = name.rpartition(".")
    exec(f"from {module} import {last}", space)
    return space[last]


@pytest.mark.parametrize("row", PYTHON, ids=lambda row: row.old)
def test_a_name_of_an_earlier_module(row: Migration) -> None:
    if row.new is None:
        with pytest.raises(ImportError) as refused:
            taken(row.old)
        assert row.note in str(refused.value)
        return
    # A package of today keeps what it was asked for once.
    module, _, last = row.old.rpartition(".")
    vars(import_module(module)).pop(last, None)
    sys.modules.pop(row.old, None)
    with pytest.warns(DeprecationWarning, match="is of the earlier LMStrix") as warned:
        assert taken(row.old) is not None
    assert row.new in str(warned[0].message)
    assert warned[0].filename == "<string>"


def test_every_public_name_of_the_last_version_has_a_row() -> None:
    names = json.loads((Path(__file__).parents[1] / "data" / "earlier_names.json").read_text(encoding="utf-8"))
    known = {row.old for row in PYTHON} | {"lmstrix.LMStrix", "lmstrix.__version__"}
    assert [name for name in names if name not in known] == []


PUBLIC = sorted({str(row.new).removeprefix("lmstrix.") for row in PYTHON if str(row.new).startswith("lmstrix.")})


@pytest.mark.parametrize("name", PUBLIC)
def test_the_new_place_of_a_name_is_there(name: str) -> None:
    assert name in lmstrix.__all__


@pytest.mark.parametrize("name", ["lmstrix.core.models.Nothing", "lmstrix.core.nothing", "lmstrix.nothing.at_all"])
def test_what_was_never_there_is_not_there(name: str) -> None:
    with pytest.raises(ImportError):
        taken(name)


@pytest.mark.parametrize("row", [row for row in ROWS if row.kind == "method"], ids=lambda row: row.old)
def test_a_method_is_told_by_its_new_name(row: Migration, home: Path) -> None:
    with lmstrix.LMStrix(server="127.0.0.1:1", home=home) as lms:
        with pytest.warns(DeprecationWarning, match=str(row.new)[:-2].replace("()", "")):
            method = getattr(lms, row.old.removeprefix("LMStrix().").removesuffix("()"))
        assert method == getattr(lms, str(row.new).removeprefix("LMStrix().").removesuffix("()"))


@pytest.mark.parametrize("row", [row for row in ROWS if row.kind == "member"], ids=lambda row: row.old)
def test_a_method_that_is_gone_is_told(row: Migration) -> None:
    kind, _, name = row.old.partition(".")
    home = next(home for home in ("registry", "models", "managers", "prompts") if hasattr(earlier(home), kind))
    found = getattr(earlier(home), kind)
    with pytest.raises(AttributeError) as refused:
        getattr(found.__new__(found), name)
    assert f"instead: {row.note}" in str(refused.value)


def earlier(name: str) -> object:
    """A module of the layer."""
    return import_module(f"lmstrix.earlier.{name}")


@pytest.mark.parametrize("row", [row for row in ROWS if row.kind == "keyword"], ids=lambda row: row.old)
def test_a_keyword_is_told_by_its_new_name(row: Migration, home: Path) -> None:
    name, _, old = row.old.removesuffix("=)").partition("(")
    new = str(row.new).removesuffix("=)").partition("(")[2]
    values: dict[str, str | int] = {"prompt": "hi", "model": "m"} if name == "infer" else {"model": "m"}
    values = {key: value for key, value in values.items() if key != new} | {old: "m" if new == "model" else 1024}
    told = pytest.warns(DeprecationWarning, match=f"{old}= is of the earlier LMStrix; now: {new}=")
    with lmstrix.LMStrix(server="127.0.0.1:1", home=home) as lms, told, pytest.raises(lmstrix.LMStrixError):
        getattr(lms, name)(**values)


def test_attributes_of_a_model_are_told_by_their_new_names() -> None:
    model = Model("acme/a-GGUF/a.gguf", {"model_key": "a", "max_context_length": 2048})
    with pytest.warns(DeprecationWarning, match=r"Model\.id is of the earlier LMStrix; now: ModelRecord\.model_key"):
        assert model.id == "a"
    names = [name for name, value in vars(Model).items() if type(value).__name__ == "_Earlier"]
    assert len(names) > 15
    for name in names:
        with pytest.warns(DeprecationWarning, match=rf"Model\.{name} "):
            getattr(model, name)
