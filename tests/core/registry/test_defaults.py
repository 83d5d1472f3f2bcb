"""LM Studio's per-model defaults are merged, kept aside, put back, and never written outside their folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.registry.defaults import AUTO_FIT, CONTEXT_LENGTH, ModelDefaults
from lmstrix.ground.errors import LMStrixError

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "acme/tiny-GGUF/tiny-q8_0.gguf"
FIELDS = {CONTEXT_LENGTH: 8192, AUTO_FIT: False}


@pytest.fixture
def defaults(tmp_path: Path) -> ModelDefaults:
    return ModelDefaults(tmp_path)


def read(defaults: ModelDefaults) -> dict[str, object]:
    found: dict[str, object] = json.loads(defaults.file_for(MODEL).read_text())
    return found


def test_a_new_file_holds_what_lm_studio_expects(defaults: ModelDefaults) -> None:
    change = defaults.plan(MODEL, FIELDS)
    assert change.differs
    assert not change.file.exists()
    defaults.write(change)
    assert change.file.as_posix().endswith(f".internal/user-concrete-model-default-config/{MODEL}.json")
    assert read(defaults) == {
        "preset": "",
        "operation": {"fields": []},
        "load": {"fields": [{"key": CONTEXT_LENGTH, "value": 8192}, {"key": AUTO_FIT, "value": False}]},
    }
    assert not defaults.plan(MODEL, FIELDS).differs


def test_what_is_not_ours_is_kept_and_can_be_put_back(defaults: ModelDefaults) -> None:
    file = defaults.file_for(MODEL)
    file.parent.mkdir(parents=True)
    original = {
        "preset": "mine",
        "load": {"fields": [{"key": "llm.load.seed", "value": 7}, {"key": CONTEXT_LENGTH, "value": 4096}], "note": 1},
        "extra": [1],
    }
    file.write_text(json.dumps(original))
    change = defaults.plan(MODEL, FIELDS)
    assert change.before == {CONTEXT_LENGTH: 4096, AUTO_FIT: None}
    defaults.write(change)
    defaults.write(defaults.plan(MODEL, {CONTEXT_LENGTH: 16384}))
    found = read(defaults)
    assert (found["preset"], found["extra"]) == ("mine", [1])
    assert {"key": "llm.load.seed", "value": 7} in found["load"]["fields"]  # type: ignore[index]
    assert [item for item in file.parent.iterdir() if item.name.startswith(".")] == []
    assert defaults.restore(MODEL)
    assert read(defaults) == original
    assert not defaults.restore(MODEL)


def test_putting_back_what_was_not_there_removes_it(defaults: ModelDefaults) -> None:
    defaults.write(defaults.plan(MODEL, FIELDS))
    assert defaults.restore(MODEL)
    assert not defaults.file_for(MODEL).exists()


@pytest.mark.parametrize("path", ["../x.gguf", "a/../../x", "/etc/passwd", "c:\\x", "..\\x", ""])
def test_a_path_that_leads_outside_is_refused(defaults: ModelDefaults, path: str) -> None:
    with pytest.raises(LMStrixError, match="not written"):
        defaults.plan(path, FIELDS)


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_a_link_that_leads_outside_is_refused(defaults: ModelDefaults, tmp_path: Path) -> None:
    defaults.folder.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (defaults.folder / "acme").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LMStrixError, match="leads outside"):
        defaults.plan(MODEL, FIELDS)


@pytest.mark.parametrize("content", ["{", "[]", '{"load": []}', '{"load": {"fields": {}}}', "\x00"])
def test_a_file_that_cannot_be_understood_is_left_as_it_is(defaults: ModelDefaults, content: str) -> None:
    file = defaults.file_for(MODEL)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(LMStrixError, match="mend or remove"):
        defaults.plan(MODEL, FIELDS)
    assert file.read_text() == content
