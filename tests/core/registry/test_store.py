"""lmstrix.json on disk: nothing is lost, whatever happens to the file, the disk or the process."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.core.registry.store import RegistryStore
from lmstrix.ground.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.core.registry.registry import ModelRegistry

PATH = "acme/tiny-GGUF/tiny-Q4_0.gguf"


@pytest.fixture
def store(tmp_path: Path) -> RegistryStore:
    return RegistryStore(tmp_path / "home" / "lmstrix.json")


def add(path: str = PATH, *, padding: str = "") -> Callable[[ModelRegistry], None]:
    """A change that adds one model."""

    def change(registry: ModelRegistry) -> None:
        registry.models[path] = {"model_key": "tiny", "size_bytes": 1, "padding": padding}

    return change


def names_beside(store: RegistryStore) -> set[str]:
    return {path.name.removeprefix("lmstrix.json") for path in store.path.parent.iterdir()}


# Reading and writing


def test_no_file_is_an_empty_registry_and_reading_makes_none(store: RegistryStore) -> None:
    assert len(store.load()) == 0
    assert not store.path.parent.exists()


def test_a_change_is_there_for_the_next_reader(store: RegistryStore) -> None:
    found = [ModelFacts(path=PATH, model_key="tiny", size_bytes=5), ModelFacts(path="ä/\udcff/ü.gguf", model_key="ü")]
    changes = store.update(lambda registry: registry.merge_scan(found))
    assert changes.added == (PATH, "ä/\udcff/ü.gguf")
    assert [record.path for record in store.load()] == [PATH, "ä/\udcff/ü.gguf"]
    assert json.loads(store.path.read_text(encoding="ascii"))["schema_version"] == 3


def test_nothing_is_written_when_nothing_changed(store: RegistryStore) -> None:
    store.update(add())
    before = (store.path.stat().st_mtime_ns, store.path.stat().st_ino, names_beside(store))
    store.update(add())
    store.update(lambda registry: registry.merge_scan([], unreadable=[PATH]))
    assert (store.path.stat().st_mtime_ns, store.path.stat().st_ino, names_beside(store)) == before


def test_a_file_edited_by_hand_is_not_rewritten_for_its_layout(store: RegistryStore) -> None:
    store.update(add())
    edited = json.dumps(json.loads(store.path.read_bytes()), indent=4)
    store.path.write_text(edited, encoding="utf-8-sig")  # as an editor on Windows saves it
    store.update(add())
    assert store.path.read_text(encoding="utf-8-sig") == edited
    assert store.load().find("tiny").path == PATH


def test_an_empty_change_makes_no_file(store: RegistryStore) -> None:
    store.update(lambda registry: registry.merge_scan([]))
    assert not store.path.exists()


def test_unknown_keys_and_values_are_written_back(store: RegistryStore) -> None:
    store.path.parent.mkdir()
    foreign = {"schema_version": 2, "plugin": {"x": [1, None]}, "models": {"a": 7, "b": {"status": "paused", "z": {}}}}
    store.path.write_text(json.dumps(foreign))
    store.update(add())
    document = json.loads(store.path.read_bytes())
    assert document.pop("plugin") == {"x": [1, None]}
    assert document["models"].pop(PATH)["model_key"] == "tiny"
    assert document["models"] == foreign["models"]


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_a_linked_registry_stays_a_link(store: RegistryStore, tmp_path: Path) -> None:
    store.update(add())
    link = tmp_path / "link.json"
    link.symlink_to(store.path)
    RegistryStore(link).update(add("x/y/z.gguf"))
    assert link.is_symlink()
    assert len(store.load()) == 2


@pytest.mark.needs_posix("permission bits")
def test_permissions_are_kept(store: RegistryStore) -> None:
    store.update(add())
    store.path.chmod(0o600)
    store.update(add("x/y/z.gguf"))
    assert store.path.stat().st_mode & 0o777 == 0o600


# Backups


def test_the_newest_backup_is_the_state_before_the_last_change(store: RegistryStore) -> None:
    states = []
    for number in range(4):
        store.update(add(f"a/b/{number}.gguf"))
        states.append(store.path.read_bytes())
    assert store.backups()[0].read_bytes() == states[-2]


def test_backups_are_five_and_apart_in_time(store: RegistryStore) -> None:
    start = time.time() - 100_000
    for number in range(9):
        store.update(add(f"a/b/{number}.gguf"))
        os.utime(store.path, (start + number * 3600, start + number * 3600))
    sizes = [len(RegistryStore(backup).load()) for backup in store.backups()]
    assert sizes == [8, 7, 6, 5, 4]
    for number in range(3):  # three changes at once cost the older states one place only
        store.update(add(f"a/b/soon-{number}.gguf"))
    assert [len(RegistryStore(backup).load()) for backup in store.backups()] == [11, 9, 8, 7, 6]


def test_a_backup_can_be_put_back(store: RegistryStore) -> None:
    store.update(add())
    store.update(add("x/y/z.gguf"))
    store.path.write_text("{broken")
    assert store.restore().source == store.backups()[0]
    assert [record.path for record in store.load()] == [PATH]
    kept = [path for path in store.path.parent.iterdir() if ".replaced-" in path.name]
    assert [path.read_text() for path in kept] == ["{broken"]


def test_only_a_readable_backup_is_put_back(store: RegistryStore, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no readable backup"):
        store.restore()
    store.update(add())
    bad = tmp_path / "bad.json"
    bad.write_text("[]")
    with pytest.raises(RegistryError, match="no usable backup"):
        store.restore(bad)
    assert len(store.load()) == 1


# Damage

DAMAGED = {
    "cut off": b'{"schema_version": 2, "models": {"a/b',
    "empty": b"",
    "a list": b"[]",
    "null": b"null",
    "no text": bytes(range(256)),
    "another encoding": '{"models": {}}'.encode("utf-16"),
    "nested": b"[" * 200_000,
    "models a list": b'{"schema_version": 2, "models": []}',
    "no version number": b'{"schema_version": "two", "models": {}}',
    "a huge number": b'{"models": {"a": ' + b"9" * 5000 + b"}}",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_refused_kept_and_copied(store: RegistryStore, content: bytes) -> None:
    store.update(add())
    store.update(add("x/y/z.gguf"))
    store.path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"damaged: .*lmstrix registry restore backup-1 ") as caught:
            store.load()
        assert "\n" not in str(caught.value)
        with pytest.raises(RegistryError, match="damaged"):
            store.update(add())
    assert store.path.read_bytes() == content
    copies = [path for path in store.path.parent.iterdir() if ".corrupt-" in path.name]
    assert [copy.read_bytes() for copy in copies] == [content]


def test_damage_without_a_backup_says_so(store: RegistryStore) -> None:
    store.path.parent.mkdir()
    store.path.write_text("{")
    with pytest.raises(RegistryError, match="there is no backup"):
        store.load()


def test_a_newer_file_is_read_but_not_written(store: RegistryStore) -> None:
    store.path.parent.mkdir()
    content = json.dumps({"schema_version": 99, "models": {PATH: {"model_key": "tiny"}}})
    store.path.write_text(content)
    assert store.load().find("tiny").path == PATH
    with pytest.raises(RegistryError, match="schema version 99"):
        store.update(add("x/y/z.gguf"))
    assert store.path.read_text() == content


def test_a_folder_in_its_place_is_one_line(store: RegistryStore, tmp_path: Path) -> None:
    store.path.mkdir(parents=True)
    with pytest.raises(RegistryError, match="cannot be read"):
        store.load()
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot be written"):
        RegistryStore(tmp_path / "file" / "lmstrix.json").update(add())


def test_an_error_of_the_change_writes_nothing_and_frees_the_lock(store: RegistryStore) -> None:
    store.update(add())

    def change(registry: ModelRegistry) -> None:
        registry.models.clear()
        raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        store.update(change)
    store.update(add("x/y/z.gguf"))
    assert len(store.load()) == 2


# Other processes, a full disk, a kill


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    prelude = (
        "import sys, pathlib\n"
        "from lmstrix.core.registry.store import RegistryStore\n"
        "store = RegistryStore(pathlib.Path(sys.argv[1]))\n"
        "def add(registry, path, **raw): registry.models[path] = raw\n"
    )
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_writers_at_once_lose_nothing(store: RegistryStore) -> None:
    code = "for n in range(15): store.update(lambda r: add(r, f'{sys.argv[2]}/{n}'))"
    writers = [child(code, store.path, name) for name in "abc"]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        store.load()  # raises on half a file
        reads += 1
    for writer in writers:
        _, errors = writer.communicate()
        assert (writer.returncode, errors) == (0, "")
    assert reads
    assert set(store.load().models) == {f"{name}/{n}" for name in "abc" for n in range(15)}


def test_a_lock_held_for_long_is_one_line(store: RegistryStore) -> None:
    store.update(add())
    code = "store.update(lambda r: (print('held', flush=True), sys.stdin.read()))"
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys, pathlib\nfrom lmstrix.core.registry.store import RegistryStore\n"
         "store = RegistryStore(pathlib.Path(sys.argv[1]))\n" + code, str(store.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(RegistryError, match="locked by another LMStrix"):
        RegistryStore(store.path, lock_timeout_s=0.1).update(add("x/y/z.gguf"))
    assert len(store.load()) == 1
    process.communicate("")
    assert process.returncode == 0


@pytest.mark.needs_posix("limits on what a process may write")
def test_a_full_disk_leaves_the_old_file(store: RegistryStore) -> None:
    store.update(add(padding="x" * 3000))
    store.update(add("x/y/z.gguf", padding="x" * 3000))
    before = store.path.read_bytes()
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # stands in for a full disk
    try:
        with pytest.raises(RegistryError, match="it is unchanged: free some disk space") as caught:
            store.update(add("more", padding="x" * 3000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert store.path.read_bytes() == before
    assert not [name for name in names_beside(store) if name.endswith((".tmp", ".backup-new"))]
    assert store.newest_good_backup() is not None
    store.update(add("more"))
    assert len(store.load()) == 3


@pytest.mark.needs_posix("signals to a process")
def test_a_kill_at_any_moment_leaves_a_whole_file(store: RegistryStore) -> None:
    store.update(add(padding="x" * 200_000))
    code = (
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    store.update(lambda r: add(r, 'counter', n=n))\n"
        "    if n == 1: print('ready', flush=True)\n"
    )
    chance = random.Random(7)
    for _ in range(6):
        process = child(code, store.path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        registry = store.load()
        assert registry.get(PATH) is not None
        counter = registry.get("counter")
        assert counter is not None
        assert counter.raw["n"] >= 1
    store.update(add("x/y/z.gguf"))
    assert store.load().get("x/y/z.gguf") is not None


# The earlier format

ORIGINAL = {
    "llms": {
        "lmstudio-community/Qwen2.5-7B-Instruct-GGUF/Qwen2.5-7B-Instruct-Q4_K_M.gguf": {
            "id": "qwen2.5-7b-instruct",
            "path": "lmstudio-community/Qwen2.5-7B-Instruct-GGUF/Qwen2.5-7B-Instruct-Q4_K_M.gguf",
            "size_bytes": 4000000000,
            "ctx_in": 32768,
            "ctx_out": 4096,
            "has_tools": True,
            "has_vision": False,
            "capabilities": {"vision": False, "trained_for_tool_use": True},
            "tested_max_context": 31744,
            "context_test_status": "completed",
            "context_test_date": "2026-06-29T00:54:57.123456",
            "ttft_seconds": 0.21,
            "tps": 42.5,
            "description": "a model",
            "keywords": ["chat"],
            "last_known_good_context": 31744,
            "last_known_bad_context": None,
            "loadable_max_context": None,
            "context_test_log": None,
            "failed": False,
            "error_msg": "",
            "short_id": "Qwen2.5-7B-Instruct-Q4_K_M",
        },
        "a/b/poisoned.gguf": {
            "id": "poisoned",
            "ctx_in": 65536,
            "tested_max_context": 31744,
            "last_known_good_context": 31744,
            "last_known_bad_context": 31744,
            "context_test_status": "failed",
        },
        "a/b/failed.gguf": {
            "id": "failed",
            "ctx_in": 8192,
            "context_test_status": "failed",
            "last_known_bad_context": 31744,
            "error_msg": "no memory",
        },
        "a/b/tiny-8k.gguf": {"id": "tiny-8k", "ctx_in": 8192, "tested_max_context": 31744},
        "a/b/odd.gguf": {"id": "odd", "context_test_status": "paused", "tested_max_context": -5, "extra": [1]},
        "a/b/new.gguf": {"id": "text-embedding-new", "ctx_in": 512, "context_test_status": "untested"},
        "foreign": "text",
    },
    "path": "/home/me/.lmstudio",
}


@pytest.fixture
def original(store: RegistryStore, monkeypatch: pytest.MonkeyPatch) -> RegistryStore:
    monkeypatch.setenv("TZ", "Etc/GMT-2")  # two hours east of Greenwich
    time.tzset()
    store.path.parent.mkdir()
    store.path.write_text(json.dumps(ORIGINAL, indent=2))
    return store


def test_the_earlier_format_is_read(original: RegistryStore) -> None:
    registry = original.load()
    record = registry.find("qwen2.5-7b-instruct")
    assert (record.size_bytes, record.max_context_length) == (4000000000, 32768)
    assert (record.trained_for_tool_use, record.vision, record.test_status) == (True, False, "completed")
    best = record.best_result
    assert best is not None
    assert best.configuration == Configuration(engine="lmstudio")
    assert (best.tested_context_length, best.effective_context_length, best.last_known_bad) == (31744, None, None)
    assert best.tested_at == datetime(2026, 6, 28, 22, 54, 57, 123456, tzinfo=UTC)
    assert (best.ttft_s, best.decode_tokens_per_second, best.error) == (0.21, 42.5, None)
    assert best.provenance is not None
    assert best.provenance.details["imported_from"] == "lmstrix 1"
    assert {name: record.raw[name] for name in ("ctx_out", "description", "keywords", "short_id", "capabilities")} == {
        name: ORIGINAL["llms"][record.path][name]  # type: ignore[index] # the literal above
        for name in ("ctx_out", "description", "keywords", "short_id", "capabilities")
    }


def test_doubtful_figures_of_the_earlier_format_are_not_believed(original: RegistryStore) -> None:
    registry = original.load()
    poisoned = registry.find("poisoned")
    assert (poisoned.test_status, poisoned.tested_context_length) == ("completed", 31744)
    assert poisoned.results[0].last_known_bad is None
    failed = registry.find("failed")
    assert (failed.test_status, failed.results[0].last_known_bad, failed.results[0].error) == (
        "failed",
        31744,
        "no memory",
    )
    assert registry.find("tiny-8k").tested_context_length == 8192
    odd = registry.find("odd")
    assert (odd.test_status, odd.raw["context_test_status"], odd.raw["extra"]) == ("untested", "paused", [1])
    assert registry.find("text-embedding-new").kind == "embedding"


def test_the_earlier_file_is_kept_when_the_new_one_is_written(original: RegistryStore) -> None:
    before = original.path.read_bytes()
    original.load()
    assert original.path.read_bytes() == before
    original.update(lambda registry: None)
    document = json.loads(original.path.read_bytes())
    assert (document["schema_version"], document["path"]) == (3, "/home/me/.lmstudio")
    assert document["models"]["foreign"] == "text"
    assert "llms" not in document
    kept = [path for path in original.path.parent.iterdir() if ".v1-" in path.name]
    assert [path.read_bytes() for path in kept] == [before]
    again = original.path.stat().st_mtime_ns
    original.update(lambda registry: None)
    assert original.path.stat().st_mtime_ns == again
    assert original.load().find("qwen2.5-7b-instruct").tested_context_length == 31744


def test_results_written_by_several_testers_meet(store: RegistryStore) -> None:
    store.update(lambda registry: registry.merge_scan([ModelFacts(path=PATH, model_key="tiny")]))
    code = (
        "from lmstrix.core.registry.results import *\nfrom datetime import *\n"
        "def outcome(engine): return ContextResult(configuration=Configuration(engine=engine), outcome='ok',\n"
        "    tested_at=datetime.now(UTC), loadable_context_length=4096)\n"
        f"store.update(lambda r: r.record_outcome({PATH!r}, outcome(sys.argv[2])))"
    )
    testers = [child(code, store.path, engine) for engine in ("lmstudio", "embedded")]
    for tester in testers:
        _, errors = tester.communicate()
        assert (tester.returncode, errors) == (0, "")
    results: tuple[ContextResult, ...] = store.load().find("tiny").results
    assert {result.configuration.engine for result in results} == {"lmstudio", "embedded"}
