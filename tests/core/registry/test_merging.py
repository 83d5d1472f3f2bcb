"""Merging two registries: newer wins for each configuration, nothing known is lost, every difference is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lmstrix.core.registry.merging import merge_registries
from lmstrix.core.registry.records import ModelFacts, ModelRecord
from lmstrix.core.registry.registry import ModelRegistry
from lmstrix.core.registry.results import Configuration, ContextResult

THEN = datetime(2026, 3, 1, tzinfo=UTC)
BOX, OTHER = Configuration(engine="lmstudio", host="box"), Configuration(engine="lmstudio", host="other")


def registry(path: str = "a/x/x.gguf", *, content: str = "c1") -> ModelRegistry:
    registry = ModelRegistry()
    registry.merge_scan([ModelFacts(path=path, model_key="x", size_bytes=10, content_hash=content)])
    return registry


def proven(registry: ModelRegistry, length: int, *, days: int = 0, configuration: Configuration = BOX) -> None:
    (record,) = registry
    result = ContextResult(
        configuration=configuration,
        outcome="ok",
        tested_at=THEN + timedelta(days=days),
        loadable_context_length=length,
    )
    registry.record_outcome(record.path, result)


def here(_: ModelRecord) -> bool:
    return True


def elsewhere(_: ModelRecord) -> bool:
    return False


def test_newer_wins_for_each_engine_and_host() -> None:
    ours, theirs = registry(), registry()
    proven(ours, 1024)
    proven(theirs, 2048, days=1)
    proven(theirs, 512, configuration=OTHER)
    report = merge_registries(ours, theirs, is_here=here)
    (record,) = ours
    results = {result.configuration.key: result.loadable_context_length for result in record.results}
    assert results == {"lmstudio@box": 2048, "lmstudio@other": 512}
    (conflict,) = report.conflicts
    assert (conflict.what, conflict.ours, conflict.theirs, conflict.kept) == (
        "lmstudio@box",
        "1,024 tokens, 2026-03-01",
        "2,048 tokens, 2026-03-02",
        "theirs",
    )
    assert (report.results, report.added, report.unchanged) == (2, (), 0)
    again = merge_registries(ours, theirs, is_here=here)
    assert (again.results, again.conflicts, again.unchanged) == (0, (), 1)


def test_an_older_result_is_told_and_left() -> None:
    ours, theirs = registry(), registry()
    proven(ours, 1024, days=1)
    proven(theirs, 2048)
    report = merge_registries(ours, theirs, is_here=here)
    assert [conflict.kept for conflict in report.conflicts] == ["ours"]
    (record,) = ours
    assert record.tested_context_length == 1024


def test_a_result_from_the_future_wins_no_merge_and_fills_a_gap() -> None:
    now = THEN + timedelta(days=10)
    ours, theirs = registry(), registry()
    proven(ours, 1024)
    proven(theirs, 2048, days=400)
    for _ in range(2):
        (conflict,) = merge_registries(ours, theirs, is_here=here, now=now).conflicts
        assert (conflict.kept, conflict.theirs) == ("ours", "2,048 tokens, 2027-04-05, in the future")
    # The other way round it gives way.
    assert merge_registries(theirs, ours, is_here=here, now=now).conflicts[0].kept == "theirs"
    empty, future = registry(), registry()
    proven(future, 2048, days=400)
    assert merge_registries(empty, future, is_here=here, now=now).results == 1
    # Of two nobody knows the newer, so that merging to and fro changes nothing.
    proven(future, 4096, days=500)
    assert merge_registries(empty, future, is_here=here, now=now).results == 0


def test_a_clock_that_is_some_hours_ahead_is_believed() -> None:
    ours, theirs = registry(), registry()
    proven(ours, 1024)
    proven(theirs, 2048, days=1)
    assert merge_registries(ours, theirs, is_here=here, now=THEN + timedelta(hours=12)).results == 1


def test_the_same_content_elsewhere_is_the_same_model() -> None:
    ours, theirs = registry(), registry("b/y/y.gguf")
    proven(theirs, 2048)
    merge_registries(ours, theirs, is_here=here)
    (record,) = ours
    assert (record.path, record.tested_context_length) == ("a/x/x.gguf", 2048)


def test_another_content_under_one_path_is_not_merged() -> None:
    ours, theirs = registry(), registry(content="c2")
    proven(theirs, 2048)
    report = merge_registries(ours, theirs, is_here=here)
    assert [(conflict.what, conflict.kept) for conflict in report.conflicts] == [("content", "ours")]
    (record,) = ours
    assert record.tested_context_length is None


def test_a_model_that_is_not_here_comes_as_missing() -> None:
    ours, theirs = ModelRegistry(), registry()
    theirs.models["a/x/x.gguf"] |= {"models_dir": "/there", "from_the_future": 1}
    assert merge_registries(ours, theirs, is_here=elsewhere).added == ("a/x/x.gguf",)
    (record,) = ours
    assert (record.is_missing, record.models_dir, record.raw["from_the_future"]) == (True, None, 1)
    ours = ModelRegistry()
    merge_registries(ours, theirs, is_here=here)
    (record,) = ours
    assert (record.is_missing, record.models_dir) == (False, "/there")


def test_tags_add_up_and_notes_may_differ() -> None:
    ours, theirs = registry(), registry()
    ours.set_tags("a/x/x.gguf", ["work"])
    theirs.set_tags("a/x/x.gguf", ["fast", "work"])
    theirs.set_note("a/x/x.gguf", "slow")
    assert not merge_registries(ours, theirs, is_here=here).conflicts
    (record,) = ours
    assert (record.tags, record.note) == (("work", "fast"), "slow")
    theirs.set_note("a/x/x.gguf", "quick")
    assert [conflict.what for conflict in merge_registries(ours, theirs, is_here=here).conflicts] == ["note"]
    assert record.note == "slow"
