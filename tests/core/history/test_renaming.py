"""What was tried and learnt on a machine stays with it when its name changes; each machine's rows stay its own."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.history import Conditions, History, Probe, renaming
from lmstrix.core.registry import store as store_module
from lmstrix.core.registry.places import place_here
from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.core.registry.store import RegistryStore
from lmstrix.ground import machine
from lmstrix.ground.addresses import host_name
from lmstrix.ground.drives import Drive
from lmstrix.ground.loads import LoadConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL = "acme/tiny-GGUF/tiny-Q4_0.gguf"
QUANTIZED = LoadConfig(context_length=None, k_cache_type="q8_0")
PRESENT = Conditions(free_bytes=8 * 2**30)


class Machine:
    """This machine, under a name and with an id of the test's choice."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.is_("box", "id one")

    def is_(self, name: str, system_id: str) -> None:
        self._monkeypatch.setattr("platform.node", lambda: name)
        self._monkeypatch.setattr(machine, "_system_id", lambda: system_id)
        machine.machine_id.cache_clear()

    def on(self, drive: Drive) -> None:
        for module in (renaming, store_module):
            self._monkeypatch.setattr(module, "drive_of", lambda _path: drive)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    yield Machine(monkeypatch)
    machine.machine_id.cache_clear()


def configured(load: LoadConfig | None = None) -> Configuration:
    place = place_here("lmstudio")
    return Configuration(engine=place.engine, host=place.host, load=load or LoadConfig(context_length=None))


def crash(file: Path, load: LoadConfig | None = None) -> None:
    """A test that failed at 20,000 tokens, and what it taught."""
    with History(file) as history:
        run = history.journal.begin_run("test")
        intent = history.journal.intend(
            run, MODEL, configured(load).key, kind="load", context_length=20_000, conditions=PRESENT
        )
        history.journal.settle(intent, "out_of_memory", proves="bad")
        history.journal.add_probe(
            Probe(model_path=MODEL, configuration=configured(load).key, context_length=1000, passed=True), run_id=run
        )
        history.beliefs.save(host_name(), "lmstudio", {"models": 1})


def known(file: Path, load: LoadConfig | None = None) -> int | None:
    with History(file) as history:
        failure = history.journal.known_bad(MODEL, configured(load).key, PRESENT)
        found = failure.context_length if failure else None
        assert (found is None) == (history.beliefs.load(host_name(), "lmstudio") is None)
        assert (found is None) == (history.journal.last_run("test") is None)
        assert (found is None) == (not history.journal.probes(MODEL, configuration=configured(load).key))
        return found


@pytest.mark.parametrize("load", [None, QUANTIZED])
def test_failures_and_beliefs_follow_the_machine(here: Machine, tmp_path: Path, load: LoadConfig | None) -> None:
    file = tmp_path / "lmstrix.db"
    crash(file, load)
    here.is_("192-168-1-7.example.org", "id one")
    assert known(file, load) == 20_000
    here.is_("box", "id one")
    assert known(file, load) == 20_000


def test_another_machine_of_another_name_has_its_own(here: Machine, tmp_path: Path) -> None:
    file = tmp_path / "lmstrix.db"
    crash(file)
    here.is_("box2", "id two")
    assert known(file) is None
    crash(file)
    here.is_("box", "id one")
    assert known(file) == 20_000


def test_what_earlier_versions_kept_by_name_is_found_and_follows(here: Machine, tmp_path: Path) -> None:
    file = tmp_path / "lmstrix.db"
    crash(file)
    connection = sqlite3.connect(file)
    connection.execute("DROP TABLE machines")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    assert known(file) == 20_000
    here.is_("renamed", "id one")
    assert known(file) == 20_000


def test_on_a_network_drive_each_name_is_a_machine(here: Machine, tmp_path: Path) -> None:
    """The nodes of a cluster are often made from one image, with one id."""
    here.on(Drive(kind="network"))
    file = tmp_path / "lmstrix.db"
    crash(file)
    here.is_("node2", "id one")
    assert known(file) is None
    here.is_("box", "id one")
    assert known(file) == 20_000


def keep_result(store: RegistryStore, length: int, load: LoadConfig | None = None) -> None:
    made = ContextResult(
        configuration=configured(load), outcome="ok", tested_at=datetime.now(UTC), loadable_context_length=length
    )
    facts = ModelFacts(path=MODEL, model_key="tiny", max_context_length=8192)
    store.update(lambda registry: registry.merge_scan([facts]))
    store.update(lambda registry: registry.record_outcome(MODEL, made))


class TestRegistry:
    @pytest.fixture
    def store(self, here: Machine, tmp_path: Path) -> RegistryStore:
        store = RegistryStore(tmp_path / "lmstrix.json")
        keep_result(store, 4096)
        return store

    def found(self, store: RegistryStore) -> list[tuple[str, int | None]]:
        record = store.load().find("tiny")
        here = record.seen_from(place_here("lmstudio"))
        return [(result.configuration.key, here.tested_context_length) for result in record.results]

    def test_results_follow_the_machine(self, store: RegistryStore, here: Machine) -> None:
        assert self.found(store) == [("lmstudio@box", 4096)]
        here.is_("mini.local", "id one")
        assert self.found(store) == [("lmstudio@mini", 4096)]
        keep_result(store, 6000)
        assert self.found(store) == [("lmstudio@mini", 6000)]
        assert list(json.loads(store.path.read_bytes())["machines"].values()) == ["mini"]

    def test_settings_go_along_and_other_machines_results_do_not(self, store: RegistryStore, here: Machine) -> None:
        keep_result(store, 5000, QUANTIZED)
        here.is_("box2", "id two")
        keep_result(store, 1000)
        here.is_("mini", "id one")
        assert self.found(store) == [
            ("lmstudio@mini", 4096),
            ("lmstudio@mini k=q8_0", 4096),
            ("lmstudio@box2", 4096),
        ]

    def test_reading_writes_nothing_and_an_unchanged_file_is_left(self, store: RegistryStore, here: Machine) -> None:
        document = json.loads(store.path.read_bytes())
        del document["machines"]  # as an earlier version wrote it
        store.path.write_text(json.dumps(document), encoding="utf-8")
        before = store.path.read_bytes()
        store.load()
        store.update(lambda _registry: None)
        assert store.path.read_bytes() == before
        assert self.found(store) == [("lmstudio@box", 4096)]

    def test_on_a_network_drive_each_name_is_a_machine(self, store: RegistryStore, here: Machine) -> None:
        here.on(Drive(kind="network"))
        here.is_("node2", "id one")
        assert self.found(store) == [("lmstudio@box", None)]

    @pytest.mark.parametrize("machines", [[], "box", {"id": 5}, None])
    def test_a_note_that_makes_no_sense_is_none(self, store: RegistryStore, machines: object) -> None:
        document = json.loads(store.path.read_bytes()) | {"machines": machines}
        store.path.write_text(json.dumps(document), encoding="utf-8")
        assert self.found(store) == [("lmstudio@box", 4096)]
