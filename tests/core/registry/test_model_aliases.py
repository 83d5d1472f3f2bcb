"""The user's names for models: kept with the models, never in the way of a model's own name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.registry.checking import check_registry
from lmstrix.core.registry.filters import matches, parse_filter
from lmstrix.core.registry.merging import merge_registries
from lmstrix.core.registry.model_aliases import check_alias, model_aliases
from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.registry import ModelRegistry
from lmstrix.core.registry.store import RegistryStore
from lmstrix.ground.errors import RegistryError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

FOUR, EIGHT = "ali/Qwen3-4B/q4.gguf", "ali/Qwen3-8B/q8.gguf"


def registry(**aliases: str) -> ModelRegistry:
    found = ModelRegistry(aliases=dict(aliases))
    found.merge_scan(
        [
            ModelFacts(path=FOUR, model_key="qwen3-4b", size_bytes=4, content_hash="four"),
            ModelFacts(path=EIGHT, model_key="qwen3-8b", size_bytes=8, content_hash="eight"),
        ]
    )
    return found


def test_an_alias_is_a_word_that_no_model_has() -> None:
    known = registry()
    assert check_alias(" Fast-1 ", known) == "Fast-1"
    with pytest.raises(UsageError, match="'a b' is no alias"):
        check_alias("a b", known)
    with pytest.raises(UsageError, match="is no alias"):
        check_alias("tag:x", known)
    with pytest.raises(UsageError, match="the model that is loaded"):
        check_alias("current", known)
    with pytest.raises(UsageError, match=r"'QWEN3-8B' is the name of ali/Qwen3-8B/q8.gguf already"):
        check_alias("QWEN3-8B", known)


def test_it_goes_with_a_model_that_moves() -> None:
    known = registry(fast=FOUR)
    known.merge_scan(
        [
            ModelFacts(path="new/place/q4.gguf", model_key="qwen3-4b", size_bytes=4, content_hash="four"),
            ModelFacts(path=EIGHT, model_key="qwen3-8b", size_bytes=8, content_hash="eight"),
        ]
    )
    assert known.find("fast").path == "new/place/q4.gguf"


def test_it_stays_in_the_file_beside_what_is_not_understood(tmp_path: Path) -> None:
    store = RegistryStore(tmp_path / "lmstrix.json")
    store.update(lambda found: found.models.update(registry().models))
    store.path.write_text(store.path.read_text().replace("{\n", '{\n"model_aliases": {"odd": 5},\n"mine": 1,\n', 1))
    store.update(lambda found: found.aliases.update(fast=EIGHT))
    written = json.loads(store.path.read_text())
    assert (written["model_aliases"], written["mine"]) == ({"odd": 5, "fast": EIGHT}, 1)
    assert [(each.alias, each.model_key) for each in model_aliases(store.load())] == [("fast", "qwen3-8b")]
    store.path.write_text('{"models": {}, "model_aliases": []}')
    with pytest.raises(RegistryError, match="where an object is expected"):
        store.load()


def test_merging_takes_new_aliases_and_tells_of_others() -> None:
    ours = registry(fast=FOUR)
    theirs = ModelRegistry(aliases={"fast": "their/eight.gguf", "big": "their/eight.gguf", "odd": 5})
    theirs.merge_scan([ModelFacts(path="their/eight.gguf", model_key="qwen3-8b", size_bytes=8, content_hash="eight")])
    report = merge_registries(ours, theirs, is_here=lambda _: True)
    assert report.aliases == ("big",)
    assert ours.aliases == {"fast": FOUR, "big": EIGHT}
    (conflict,) = report.conflicts
    assert (conflict.what, conflict.ours, conflict.theirs, conflict.kept) == ("the alias fast", FOUR, EIGHT, "ours")


def test_checking_tells_of_aliases_without_effect() -> None:
    known = registry(fast=FOUR, gone="old/model.gguf", away=EIGHT)
    known.models[EIGHT]["missing_since"] = "2026-01-01T00:00:00+00:00"
    known.aliases["qwen3-8b"] = FOUR
    found = [(each.path, each.detail, each.is_note) for each in check_registry(known, is_gone=lambda _: False)]
    assert [(path, is_note) for path, _, is_note in found] == [(EIGHT, True), ("old/model.gguf", False), (FOUR, False)]
    assert "lmstrix models unalias gone" in found[1][1]
    assert f"no effect, as it is also the name of {EIGHT}" in found[2][1]


def test_a_filter_finds_by_alias() -> None:
    known = registry(fast=FOUR)

    def keys(text: str) -> list[str]:
        return [record.model_key for record in known if matches(record, parse_filter(text, known.aliases))]

    assert keys("fast") == keys("name:fas*") == keys("alias:fast") == ["qwen3-4b"]
    assert keys("alias:-") == ["qwen3-8b"]
