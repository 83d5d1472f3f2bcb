"""Records, scans and outcomes in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.registry import ModelRegistry
from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.ground.errors import ModelNotFoundError
from lmstrix.ground.loads import LoadConfig, Provenance

load = partial(LoadConfig, context_length=None)
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
PATH = "acme/tiny-GGUF/tiny-Q4_0.gguf"


def facts(path: str = PATH, *, key: str = "tiny", **values: object) -> ModelFacts:
    defaults = ModelFacts(path=path, model_key=key, size_bytes=100, max_context_length=8192, mtime_ns=1)
    return replace(defaults, **values)  # type: ignore[arg-type] # values are facts by name


def result(loadable: int | None = None, *, outcome: str = "ok", **values: object) -> ContextResult:
    defaults = ContextResult(
        configuration=Configuration(), outcome=outcome, tested_at=NOW, loadable_context_length=loadable
    )
    return replace(defaults, **values)  # type: ignore[arg-type] # values are fields by name


def registry_of(*found: ModelFacts) -> ModelRegistry:
    registry = ModelRegistry()
    registry.merge_scan(found, now=NOW)
    return registry


# Finding


def test_a_record_tells_what_the_scan_found() -> None:
    embedding = facts("a/b/e-Q8_0.gguf", key="text-embedding-e", kind="embedding", vision=True, params="1B")
    record = registry_of(embedding).find("text-embedding-e")
    assert (record.path, record.kind, record.params, record.size_bytes) == (embedding.path, "embedding", "1B", 100)
    assert (record.max_context_length, record.vision, record.trained_for_tool_use) == (8192, True, False)
    assert (record.test_status, record.tested_context_length, record.is_missing) == ("untested", None, False)


def test_a_name_that_may_mean_several_models_asks_back() -> None:
    registry = registry_of(facts("a/x/x-Q4_0.gguf", key="x"), facts("b/x/x-Q4_0.gguf", key="x"))
    with pytest.raises(ModelNotFoundError, match=r"'x' may mean 2 models: a/x/x-Q4_0.gguf, b/x/x-Q4_0.gguf") as caught:
        registry.find("x")
    assert caught.value.suggestions == ("a/x/x-Q4_0.gguf", "b/x/x-Q4_0.gguf")
    assert registry.find("b/x").path == "b/x/x-Q4_0.gguf"


def test_a_typing_error_gets_suggestions() -> None:
    registry = registry_of(
        facts("a/q/qwen3-4b-Q4_0.gguf", key="qwen3-4b"), facts("a/m/mistral-7b.gguf", key="mistral-7b")
    )
    with pytest.raises(ModelNotFoundError, match="did you mean qwen3-4b") as caught:
        registry.find("qwen-3-4b")
    assert caught.value.model_key == "qwen-3-4b"
    with pytest.raises(ModelNotFoundError, match=r"`list_models\(\)` shows all"):
        registry.find("zzz")
    with pytest.raises(ModelNotFoundError, match=r"run `scan\(\)`"):
        ModelRegistry().find("zzz")


def test_present_models_are_found_before_missing_ones() -> None:
    registry = registry_of(facts("a/x/x-Q4_0.gguf", key="x"), facts("b/x/x-Q4_0.gguf", key="x"))
    registry.merge_scan([facts("b/x/x-Q4_0.gguf", key="x")], now=NOW)
    assert registry.find("x").path == "b/x/x-Q4_0.gguf"
    assert registry.find("a/x").is_missing


# Scans


def test_two_files_of_one_key_both_survive() -> None:
    assert len(registry_of(facts("a/x/1.gguf", key="x"), facts("b/x/1.gguf", key="x"))) == 2


def test_scanning_twice_changes_nothing() -> None:
    registry = registry_of(facts(), facts("a/b/c.gguf", key="c"))
    before = json.dumps(registry.models)
    changes = registry.merge_scan([facts(), facts("a/b/c.gguf", key="c")])
    assert (changes.unchanged, changes.added, changes.changed, changes.missing) == (2, (), (), ())
    assert json.dumps(registry.models) == before


def test_a_vanished_model_is_marked_missing_and_keeps_its_results() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(4096))
    assert registry.merge_scan([], now=NOW).missing == (PATH,)
    record = registry.find("tiny")
    assert (record.missing_since, record.tested_context_length, record.test_status) == (NOW, 4096, "completed")
    assert registry.merge_scan([], now=NOW + timedelta(days=1)).missing == ()
    assert registry.find("tiny").missing_since == NOW
    assert registry.merge_scan([facts()]).restored == (PATH,)
    assert not registry.find("tiny").is_missing


@pytest.mark.parametrize(("place", "missing"), [(PATH, 0), ("acme/tiny-GGUF", 0), ("acme", 0), (".", 0), ("acm", 1)])
def test_what_cannot_be_read_this_time_is_not_missing(place: str, missing: int) -> None:
    registry = registry_of(facts())
    assert len(registry.merge_scan([], unreadable=[place]).missing) == missing


@pytest.mark.parametrize("scan_between", [False, True])
def test_a_moved_model_takes_its_record_along(scan_between: bool) -> None:
    registry = registry_of(facts(content_hash="h1"), facts("a/b/other.gguf", key="other", content_hash="h2"))
    registry.record_outcome(PATH, result(4096))
    registry.models[PATH]["note"] = "mine"
    new = facts("new/home/tiny-Q4_0.gguf", content_hash="h1", mtime_ns=2)
    other = facts("a/b/other.gguf", key="other", content_hash="h2")
    if scan_between:
        registry.merge_scan([other])
    changes = registry.merge_scan([new, other])
    assert changes.moved == ((PATH, new.path),)
    assert (changes.added, changes.missing, changes.unchanged) == ((), (), 1)
    record = registry.find("tiny")
    assert (record.path, record.tested_context_length, record.is_missing) == (new.path, 4096, False)
    assert record.raw["note"] == "mine"


def test_a_copy_or_another_content_is_a_new_model() -> None:
    registry = registry_of(facts(content_hash="h1"))
    registry.record_outcome(PATH, result(4096))
    copy = facts("copy/of/tiny-Q4_0.gguf", content_hash="h1")
    assert registry.merge_scan([facts(content_hash="h1"), copy]).added == (copy.path,)
    assert registry.merge_scan([facts("x/y/tiny-Q4_0.gguf", content_hash="h9")]).added == ("x/y/tiny-Q4_0.gguf",)


def test_a_record_moves_once_when_its_content_turns_up_twice() -> None:
    registry = registry_of(facts(content_hash="h"))
    changes = registry.merge_scan(
        [facts("b/b/other.gguf", key="other", content_hash="h"), facts("a/a/t.gguf", content_hash="h")]
    )
    assert (len(changes.moved), len(changes.added), len(registry)) == (1, 1, 2)


def test_results_of_a_replaced_file_are_put_aside() -> None:
    registry = registry_of(facts(content_hash="h1"))
    registry.record_outcome(PATH, result(4096))
    assert registry.merge_scan([facts(content_hash="h2", mtime_ns=2)]).changed == (PATH,)
    record = registry.find("tiny")
    assert (record.test_status, record.tested_context_length) == ("untested", None)
    assert record.raw["superseded_tests"]["lmstudio"]["loadable_context_length"] == 4096


def test_what_a_scan_does_not_know_it_does_not_erase() -> None:
    registry = registry_of(facts(architecture="llama", params="7B"))
    registry.merge_scan([facts()])
    assert (registry.find("tiny").architecture, registry.find("tiny").params) == ("llama", "7B")


def test_known_facts_are_given_back_to_the_next_scan() -> None:
    found = facts(architecture="llama", content_hash="h", display_name="Tiny", file="real/path.gguf")
    assert registry_of(found).known_facts() == {"real/path.gguf": found}


def test_values_that_are_no_records_are_kept_and_not_shown() -> None:
    registry = ModelRegistry({"a": [1], "b": "text", "c/d/e.gguf": {"size_bytes": "many", "tests": 3}})
    assert [record.path for record in registry] == ["c/d/e.gguf"]
    record = registry.find("e")
    assert (record.size_bytes, record.results, record.test_status) == (None, (), "untested")
    registry.merge_scan([facts("a", key="a")])
    assert registry.models["a"] == [1]
    assert registry.get("a") is None


# Outcomes


def test_a_result_survives_the_round_trip() -> None:
    full = result(
        30_000,
        effective_context_length=20_000,
        configuration=Configuration(
            engine="embedded", load=load(k_cache_type="q8_0", flash_attention=True, gpu_ratio=0.5)
        ),
        last_known_bad=40_000,
        ttft_s=1.5,
        prefill_tokens_per_second=900.0,
        decode_tokens_per_second=30.5,
        recall_curve=((2048, 1.0), (20_000, 0.9)),
        provenance=Provenance(engine="embedded", engine_version="2", details={"build": 7}),
    )
    registry = registry_of(facts())
    registry.record_outcome(PATH, full)
    record = ModelRegistry(json.loads(json.dumps(registry.models))).find("tiny")
    assert record.results == (full,)
    assert record.result(full.configuration) == full
    assert full.tested_context_length == 20_000


def test_only_default_configurations_say_what_to_use() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(30_000, configuration=Configuration(load=load(k_cache_type="q4_0"))))
    record = registry.find("tiny")
    assert (record.tested_context_length, record.test_status) == (None, "completed")
    registry.record_outcome(PATH, result(4096, configuration=Configuration(engine="embedded")))
    registry.record_outcome(PATH, result(6000))
    assert record.tested_context_length == 6000
    assert record.effectiveness_ratio == 6000 / 8192


def test_configurations_have_distinct_keys() -> None:
    configurations = [
        Configuration(),
        Configuration(engine="embedded"),
        Configuration(host="box"),
        Configuration(load=load(k_cache_type="q8_0")),
        Configuration(load=load(v_cache_type="q8_0")),
        Configuration(load=load(flash_attention=True)),
        Configuration(load=load(flash_attention=False)),
        Configuration(load=load(gpu_ratio=0.0)),
        Configuration(load=load(parallel_slots=4)),
    ]
    assert len({configuration.key for configuration in configurations}) == len(configurations)
    assert [configuration.is_default for configuration in configurations] == [True] * 3 + [False] * 6


def test_an_inconclusive_run_changes_no_limit() -> None:
    registry = registry_of(facts(), facts("a/b/c.gguf", key="c"))
    registry.record_outcome(PATH, result(4096, last_known_bad=5000))
    lost = result(outcome="unreachable", conclusive=False, last_known_bad=100, error="server gone")
    for path in (PATH, "a/b/c.gguf"):
        registry.mark_testing(path)
        assert registry.get(path).test_status == "testing"  # type: ignore[union-attr] # it is there
        registry.record_outcome(path, lost)
    record, untested = registry.find("tiny"), registry.find("c")
    assert (record.test_status, record.tested_context_length) == ("completed", 4096)
    assert record.best_result is not None
    assert (record.best_result.last_known_bad, record.best_result.error) == (5000, "server gone")
    assert untested.test_status == "untested"
    assert untested.results[0].last_known_bad is None


def test_the_best_proven_length_is_kept() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(29_000, effective_context_length=29_000, last_known_bad=31_000))
    merged = registry.record_outcome(PATH, result(4096, effective_context_length=4096))
    assert (merged.loadable_context_length, merged.tested_context_length, merged.last_known_bad) == (
        29_000,
        29_000,
        31_000,
    )


def test_a_failure_at_a_proven_length_takes_it_back() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(29_000))
    merged = registry.record_outcome(PATH, result(8000, last_known_bad=16_000))
    assert (merged.loadable_context_length, merged.last_known_bad) == (8000, 16_000)


def test_a_run_that_proved_nothing_takes_nothing_back() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(29_000))
    merged = registry.record_outcome(PATH, result(outcome="out_of_memory", last_known_bad=1024))
    assert (merged.loadable_context_length, merged.last_known_bad, merged.outcome) == (29_000, None, "out_of_memory")
    assert registry.find("tiny").test_status == "completed"


@pytest.mark.parametrize(("free_gib", "expected"), [(20.0, 8000), (19.5, 8000), (5.0, 29_000), (None, 8000)])
def test_a_passing_shortage_takes_nothing_back(free_gib: float | None, expected: int) -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(29_000, free_bytes=20 * 2**30))
    free_bytes = None if free_gib is None else round(free_gib * 2**30)
    merged = registry.record_outcome(PATH, result(8000, last_known_bad=16_000, free_bytes=free_bytes))
    assert merged.loadable_context_length == expected
    assert merged.free_bytes == (20 * 2**30 if expected == 29_000 else free_bytes)
    assert registry.record_outcome(PATH, result(30_000)).loadable_context_length == 30_000


def test_a_longer_success_disproves_a_bad_length() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(8000, last_known_bad=16_000))
    merged = registry.record_outcome(PATH, result(20_000))
    assert (merged.loadable_context_length, merged.last_known_bad) == (20_000, None)


def test_a_fast_run_keeps_what_recall_found() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(8000, effective_context_length=3000, recall_curve=((2048, 1.0),)))
    merged = registry.record_outcome(PATH, result(16_000))
    assert (merged.loadable_context_length, merged.tested_context_length) == (16_000, 3000)
    assert merged.recall_curve == ((2048, 1.0),)


def test_a_range_goes_with_the_recalled_length_it_was_measured_for() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(8000, effective_context_length=3008, effective_range=(3008, 3200)))
    assert registry.record_outcome(PATH, result(16_000)).effective_range == (3008, 3200)
    assert registry.record_outcome(PATH, result(4000)).effective_range == (3008, 3200)
    assert registry.record_outcome(PATH, result(16_000, effective_context_length=16_000)).effective_range is None


def test_recall_lost_at_a_shorter_length_lowers_the_length_to_use() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(29_000, effective_context_length=29_000))
    merged = registry.record_outcome(PATH, result(8192, effective_context_length=2048, outcome="recall_lost"))
    assert (merged.loadable_context_length, merged.tested_context_length) == (29_000, 2048)


def test_results_can_be_replaced_and_reset() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(29_000))
    registry.replace_result(PATH, result(4096))
    assert registry.find("tiny").tested_context_length == 4096
    assert registry.reset(PATH)
    assert not registry.reset(PATH)
    assert registry.find("tiny").test_status == "untested"
    with pytest.raises(ModelNotFoundError, match=r"run `scan\(\)`"):
        registry.record_outcome("no/such.gguf", result(1))


def test_a_test_that_says_nothing_of_the_model_gives_no_date() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(outcome="server lost", conclusive=False))
    record = registry.find("tiny")
    assert (record.test_status, record.tested_at) == ("untested", None)
    registry.record_outcome(PATH, result(4096, tested_at=NOW + timedelta(days=1)))
    registry.record_outcome(PATH, result(outcome="server lost", conclusive=False, tested_at=NOW + timedelta(days=2)))
    assert registry.find("tiny").tested_at == NOW + timedelta(days=1)


def test_fields_of_a_later_version_survive_a_new_outcome() -> None:
    registry = registry_of(facts())
    registry.record_outcome(PATH, result(1024, error="odd"))
    registry.models[PATH]["tests"]["lmstudio"]["later"] = {"kept": True}
    registry.models[PATH]["tests"]["another engine"] = {"unreadable": 1}
    registry.record_outcome(PATH, result(2048))
    tests = registry.models[PATH]["tests"]
    assert tests["lmstudio"]["later"] == {"kept": True}
    assert "error" not in tests["lmstudio"]
    assert tests["another engine"] == {"unreadable": 1}


_length = st.none() | st.integers(1, 200_000)
_run = st.builds(
    lambda loadable, effective, bad, conclusive: result(
        loadable,
        effective_context_length=effective if loadable is None or effective is None else min(effective, loadable),
        last_known_bad=bad if bad is None or loadable is None or bad > loadable else None,
        conclusive=conclusive,
    ),
    _length,
    _length,
    _length,
    st.booleans(),
)


def limits_of(result: ContextResult) -> tuple[int | None, int | None, int | None]:
    return result.loadable_context_length, result.effective_context_length, result.last_known_bad


@settings(deadline=None)
@given(st.lists(_run, max_size=6))
def test_limits_stay_sane_whatever_runs_follow(runs: list[ContextResult]) -> None:
    registry = registry_of(facts())
    best = 0
    for run in runs:
        before = registry.find("tiny").result(run.configuration)
        merged = registry.record_outcome(PATH, run)
        proven, bad = merged.loadable_context_length, merged.last_known_bad
        assert proven is None or bad is None or bad > proven
        if not run.conclusive:
            limits = limits_of(merged)
            assert limits == (limits_of(before) if before else (None, None, None))
        elif run.last_known_bad is None:
            assert (proven or 0) >= best
        record = registry.find("tiny")
        assert record.result(run.configuration) == record.best_result == merged
        assert (record.tested_context_length or 0) == (merged.tested_context_length or 0)
        assert (record.test_status == "completed") is bool(merged.tested_context_length)
        best = proven or 0
