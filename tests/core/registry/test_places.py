"""Results of different engines, machines and load settings are kept apart, also those of earlier versions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.core.registry.places import Place, place_here, place_of
from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.registry import ModelRegistry
from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.core.registry.store import RegistryStore
from lmstrix.ground.addresses import host_name
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import ServerInfo

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.registry.records import ModelRecord

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
PATH = "acme/tiny-GGUF/tiny-Q4_0.gguf"
BOX, FAR = Place(engine="lmstudio", host="box"), Place(engine="lmstudio", host="far", is_here=False)
ENGINE = Place(engine="embedded", host="box")
SLOTS = LoadConfig(context_length=None, parallel_slots=4)


def result(length: int | None, configuration: Configuration, *, minutes: int = 0, **values: object) -> ContextResult:
    made = ContextResult(
        configuration=configuration,
        outcome="ok",
        tested_at=NOW + timedelta(minutes=minutes),
        loadable_context_length=length,
    )
    return replace(made, **values)  # type: ignore[arg-type] # values are fields by name


def record_of(*results: ContextResult) -> ModelRecord:
    registry = ModelRegistry()
    registry.merge_scan([ModelFacts(path=PATH, model_key="tiny", max_context_length=8192)], now=NOW)
    for each in results:
        registry.record_outcome(PATH, each)
    return registry.find("tiny")


def configured(place: Place, load: LoadConfig | None = None) -> Configuration:
    made = Configuration(engine=place.engine, host=place.host)
    return made if load is None else replace(made, load=load)


def test_each_place_has_its_own_length() -> None:
    record = record_of(
        result(1000, configured(BOX)),
        result(2000, configured(FAR), minutes=1),
        result(3000, configured(ENGINE), minutes=2),
        result(400, configured(BOX, SLOTS), minutes=3),
    )
    found = {place: record.seen_from(place).tested_context_length for place in (BOX, FAR, ENGINE)}
    assert found == {BOX: 1000, FAR: 2000, ENGINE: 3000}
    assert record.tested_context_length == 3000  # of no place in particular: the newest
    here = record.seen_from(BOX)
    assert here.has_other_results
    assert here.tested_at == NOW + timedelta(minutes=3)
    slots = here.result_with(SLOTS)
    assert slots is not None
    assert slots.tested_context_length == 400
    assert record.seen_from(FAR).result_with(SLOTS) is None
    assert len(record.results) == 4


def test_a_model_tested_elsewhere_is_untested_here() -> None:
    record = record_of(result(1000, configured(FAR)))
    assert record.seen_from(FAR).test_status == "completed"
    assert not record.seen_from(FAR).has_other_results
    here = record.seen_from(BOX)
    assert (here.test_status, here.tested_context_length, here.best_result) == ("untested", None, None)
    assert here.has_other_results


def test_a_result_without_a_host_holds_here_until_there_is_a_better_one() -> None:
    nameless = result(5000, Configuration())
    assert record_of(nameless).seen_from(BOX).tested_context_length == 5000
    assert record_of(nameless).seen_from(FAR).tested_context_length is None
    newer = result(1000, configured(BOX), minutes=-5)
    assert record_of(nameless, newer).seen_from(BOX).tested_context_length == 1000
    failed = result(None, configured(BOX), outcome="out of memory at load")
    assert record_of(nameless, failed).seen_from(BOX).tested_context_length is None
    lost = result(None, configured(BOX), outcome="connection lost", conclusive=False)
    assert record_of(nameless, lost).seen_from(BOX).tested_context_length == 5000


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:1234", place_here("lmstudio")),
        ("[::1]:41343", place_here("lmstudio")),
        ("192.168.1.7:1234", Place(engine="lmstudio", host="192.168.1.7", is_here=False)),
        ("Studio.lan:1234", Place(engine="lmstudio", host="studio.lan", is_here=False)),
        ("[fe80::1]:1234", Place(engine="lmstudio", host="fe80::1", is_here=False)),
    ],
)
def test_a_server_is_at_the_machine_of_its_address(address: str, place: Place) -> None:
    assert place_of(ServerInfo(address=address, engine="lmstudio")) == place
    assert place_here("embedded").host == host_name()


def stored_in_version_2(**tests: dict[str, Any]) -> str:
    named = {key.replace("_", " "): raw | {"outcome": "ok", "tested_at": NOW.isoformat()} for key, raw in tests.items()}
    model = {"model_key": "tiny", "tests": named}
    return json.dumps({"schema_version": 2, "models": {PATH: model}})


def test_results_of_version_2_get_their_machine(tmp_path: Path) -> None:
    store = RegistryStore(tmp_path / "lmstrix.json")
    local = {"engine": "lmstudio", "host": "Box.example.org", "address": "127.0.0.1:1234"}
    store.path.write_text(
        stored_in_version_2(
            lmstudio={
                "configuration": {"engine": "lmstudio"}, "loadable_context_length": 1000, "provenance": local,
            },
            lmstudio_slots={
                "configuration": {"engine": "lmstudio", "parallel_slots": 4}, "loadable_context_length": 1,
                "provenance": local, "later": [1],
            },
            embedded={
                "configuration": {"engine": "embedded"}, "loadable_context_length": 2000,
                "provenance": {"engine": "embedded", "host": "box", "address": "far:1234"},
            },
        ).replace('"lmstudio slots"', '"lmstudio slots=4"')
    )  # fmt: skip
    assert json.loads(store.path.read_text())["schema_version"] == 2
    record = store.load().find("tiny")
    assert [each.configuration.key for each in record.results] == [
        "lmstudio@box", "lmstudio@box slots=4", "embedded@far",
    ]  # fmt: skip
    assert record.seen_from(BOX).tested_context_length == 1000
    assert record.seen_from(ENGINE).tested_context_length is None
    store.update(lambda registry: registry.record_outcome(PATH, result(1500, configured(BOX))))
    written = json.loads(store.path.read_text())
    assert written["schema_version"] == 3
    tests = written["models"][PATH]["tests"]
    assert list(tests) == ["lmstudio@box", "lmstudio@box slots=4", "embedded@far"]
    assert tests["lmstudio@box"]["loadable_context_length"] == 1500
    assert tests["lmstudio@box slots=4"]["later"] == [1]


def test_a_result_of_version_2_that_tells_no_machine_stays_as_it_is(tmp_path: Path) -> None:
    store = RegistryStore(tmp_path / "lmstrix.json")
    raw = {"configuration": {"engine": "lmstudio"}, "loadable_context_length": 1000}
    store.path.write_text(stored_in_version_2(lmstudio=raw))
    (kept,) = store.load().find("tiny").results
    assert kept.configuration == Configuration()


# What ended a test


def merged(old: ContextResult, new: ContextResult) -> tuple[int | None, str | None]:
    record = record_of(old, new).best_result
    assert record is not None
    return record.tested_context_length, record.ended_by


def ended(length: int | None, by: str | None, **values: object) -> ContextResult:
    return replace(result(length, Configuration(), ended_by=by), **values)  # type: ignore[arg-type] # as above


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (ended(2048, "threshold"), ended(8192, "declared"), (8192, "declared")),
        (ended(8192, "memory_at_load"), ended(2048, "threshold"), (8192, "memory_at_load")),
        (ended(8192, "memory_at_load"), ended(8192, "threshold"), (8192, "memory_at_load")),
        (ended(8192, "threshold"), ended(8192, "memory_at_load"), (8192, "memory_at_load")),
        (ended(8192, None), ended(8192, "asked_length"), (8192, "asked_length")),
        (ended(4096, "guardrail"), ended(8192, "threshold"), (8192, "threshold")),
        (ended(8192, "declared"), ended(2048, "threshold", last_known_bad=4096), (2048, "threshold")),
        (ended(8192, "recall", effective_context_length=3000), ended(8192, "declared"), (3000, "recall")),
        (ended(8192, "declared"), ended(None, "time_budget", conclusive=False), (8192, "declared")),
    ],
)
def test_what_ended_a_test_goes_with_the_lengths_it_explains(
    old: ContextResult, new: ContextResult, expected: tuple[int, str]
) -> None:
    assert merged(old, new) == expected


@pytest.mark.parametrize(
    ("by", "is_limit"),
    [
        (None, True), ("declared", True), ("memory_at_load", True), ("memory_at_prefill", True), ("recall", True),
        ("guardrail", False), ("threshold", False), ("asked_length", False), ("time_budget", False),
    ],
)  # fmt: skip
def test_what_is_a_limit_of_the_model(by: str | None, is_limit: bool) -> None:
    assert ended(4096, by).is_limit is is_limit
