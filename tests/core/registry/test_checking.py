"""Checking a registry: what cannot be read is told and laid aside, what is unknown is kept, what is gone is marked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lmstrix.core.registry.checking import Finding, check_registry
from lmstrix.core.registry.records import ModelFacts, ModelRecord
from lmstrix.core.registry.registry import ModelRegistry
from lmstrix.core.registry.results import Configuration, ContextResult

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PATH = "a/x/x.gguf"


def registry(**raw: Any) -> ModelRegistry:
    found = ModelRegistry()
    found.merge_scan([ModelFacts(path=PATH, model_key="x", size_bytes=10, content_hash="c", mtime_ns=1)])
    result = ContextResult(configuration=Configuration(), outcome="ok", tested_at=NOW, loadable_context_length=512)
    found.record_outcome(PATH, result)
    found.models[PATH] |= raw
    return found


def there(_: ModelRecord) -> bool:
    return False


def vanished(_: ModelRecord) -> bool:
    return True


def told(findings: list[Finding]) -> list[tuple[str, bool, bool]]:
    return [(finding.kind, finding.is_note, finding.fixed) for finding in findings]


def test_a_good_registry_has_no_findings() -> None:
    assert check_registry(registry(tags=["a"], note="b"), is_gone=there) == []


def test_a_date_in_the_future_is_told() -> None:
    (finding,) = check_registry(registry(), is_gone=there, now=datetime(2025, 3, 1, tzinfo=UTC))
    assert (finding.kind, finding.is_note) == ("date", True)
    assert "lmstudio is of 2026-03-01, in the future" in finding.detail


def test_unknown_things_are_notes_and_stay() -> None:
    found = registry(from_the_future={"a": 1})
    found.models["somebody"] = "else"
    before = repr(found.models)
    assert told(check_registry(found, is_gone=there, fix=True)) == [
        ("not a record", True, False),
        ("unknown field", True, False),
    ]
    assert repr(found.models) == before


def test_a_result_that_cannot_be_read_is_laid_aside() -> None:
    found = registry()
    found.models[PATH]["tests"]["lmstudio k=q8_0"] = {"outcome": 5}
    assert told(check_registry(found, is_gone=there)) == [("result", False, False)]
    assert "lmstudio k=q8_0" in found.models[PATH]["tests"]
    assert told(check_registry(found, is_gone=there, fix=True)) == [("result", False, True)]
    assert found.models[PATH]["unreadable_tests"] == {"lmstudio k=q8_0": {"outcome": 5}}
    assert found.find("x").tested_context_length == 512
    assert check_registry(found, is_gone=there) == []


def test_results_that_are_no_object_are_laid_aside() -> None:
    found = registry(tests=[1, 2])
    assert told(check_registry(found, is_gone=there, fix=True)) == [("results", False, True)]
    assert (found.models[PATH]["unreadable_tests"], "tests" in found.models[PATH]) == ({"tests": [1, 2]}, False)


def test_a_file_that_is_gone_is_marked() -> None:
    found = registry()
    assert told(check_registry(found, is_gone=vanished)) == [("file gone", False, False)]
    assert not found.find("x").is_missing
    assert told(check_registry(found, is_gone=vanished, fix=True, now=NOW)) == [("file gone", False, True)]
    assert found.find("x").missing_since == NOW
    assert check_registry(found, is_gone=vanished) == []


def test_a_date_that_is_none_is_mended() -> None:
    found = registry(missing_since="long ago")
    (finding,) = check_registry(found, is_gone=there, fix=True, now=NOW)
    assert (finding.kind, finding.fixed, found.find("x").missing_since) == ("date", True, NOW)


def test_a_field_of_another_kind_is_told() -> None:
    (finding,) = check_registry(registry(size_bytes="big"), is_gone=there)
    assert (finding.kind, "size_bytes is 'big'" in finding.detail) == ("field", True)


def test_twins_are_told() -> None:
    found = registry()
    found.models["b/y/y.gguf"] = {"model_key": "y", "size_bytes": 10, "content_hash": "c"}
    found.models["virtual"] = {"model_key": "v", "file": PATH}
    assert told(check_registry(found, is_gone=there)) == [("same file", False, False), ("same content", True, False)]
