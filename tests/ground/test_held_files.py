"""Windows refuses a file that another program holds open; what is ours waits a moment and tries again."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.core.history.database import Database
from lmstrix.core.registry.store import RegistryStore
from lmstrix.ground import held_files
from lmstrix.ground.errors import RegistryError
from lmstrix.ground.files import write_whole
from lmstrix.ground.held_files import PATIENCE, read_whole, remove_file, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.registry.registry import ModelRegistry

ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION = 5, 32, 33


class HeldError(PermissionError):
    """As Windows raises it."""

    def __init__(self, winerror: int) -> None:
        super().__init__(13, "The process cannot access the file because it is being used by another process")
        self.winerror = winerror


class HeldFiles:
    """A system that refuses the first `times` calls of each kind; `asked` counts the calls, `waited_s` the pauses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, winerror: int) -> None:
        self.times, self.winerror = times, winerror
        self.asked: Counter[str] = Counter()
        self.waited_s: list[float] = []
        monkeypatch.setattr(held_files, "_MAY_BE_HELD", True)
        monkeypatch.setattr(held_files, "sleep", self.waited_s.append)
        for name in ("replace", "unlink", "read_bytes"):
            monkeypatch.setattr(Path, name, self._refusing(name, getattr(Path, name)))
        monkeypatch.setattr(shutil, "copy2", self._refusing("copy2", shutil.copy2))

    def _refusing(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: object, **options: object) -> Any:
            self.asked[name] += 1
            if self.asked[name] <= self.times:
                raise HeldError(self.winerror)
            return real(*args, **options)

        return step


@pytest.fixture(params=[ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> HeldFiles:
    return HeldFiles(monkeypatch, times=4, winerror=request.param)


def test_a_held_file_is_replaced_read_and_removed_once_it_is_let_go(tmp_path: Path, held: HeldFiles) -> None:
    source, target = tmp_path / "new", tmp_path / "file"
    source.write_text("new", encoding="utf-8")
    replace_file(source, target)
    assert read_whole(target) == b"new"
    remove_file(target)
    remove_file(target)
    assert not target.exists()
    assert held.asked == {"replace": 5, "read_bytes": 5, "unlink": 6}
    assert held.waited_s == [0.01, 0.02, 0.04, 0.08] * 3


def test_what_stays_held_is_told_in_the_end_and_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("old", encoding="utf-8")
    held = HeldFiles(monkeypatch, times=1000, winerror=SHARING_VIOLATION)
    with pytest.raises(PermissionError):
        write_whole(file, "new")
    assert sum(held.waited_s) == pytest.approx(2 * PATIENCE.total_s)  # to replace it, and to remove what was written
    assert os.stat(file).st_size == len("old")  # noqa: PTH116 - what reads is refused


def test_elsewhere_a_refusal_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldFiles(monkeypatch, times=1, winerror=ACCESS_DENIED)
    monkeypatch.setattr(held_files, "_MAY_BE_HELD", False)
    with pytest.raises(PermissionError):
        read_whole(tmp_path / "file")
    assert held.waited_s == []


def test_other_failures_are_told_at_once(tmp_path: Path, held: HeldFiles) -> None:
    held.times = 0
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "file")
    assert held.waited_s == []


def test_no_result_is_lost_to_a_virus_scanner(tmp_path: Path, held: HeldFiles) -> None:
    store = RegistryStore(tmp_path / "lmstrix.json")

    def add(name: str) -> Callable[[ModelRegistry], None]:
        return lambda registry: registry.models.update({name: {}})

    for name in ("a.gguf", "b.gguf"):
        held.asked.clear()
        store.update(add(name))
    held.asked.clear()
    assert sorted(store.load().models) == ["a.gguf", "b.gguf"]
    assert [path.name for path in store.backups()] == ["lmstrix.json.backup-1"]
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(("tmp", "-new"))]


def test_a_registry_that_stays_held_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    HeldFiles(monkeypatch, times=1000, winerror=SHARING_VIOLATION)
    with pytest.raises(RegistryError, match="cannot be read"):
        RegistryStore(tmp_path / "lmstrix.json").load()


def test_a_damaged_database_is_moved_aside_once_it_is_let_go(tmp_path: Path, held: HeldFiles) -> None:
    (tmp_path / "lmstrix.db").write_bytes(b"this is no database, and long enough to be looked at" * 20)
    database = Database(tmp_path / "lmstrix.db")
    database.close()
    assert database.set_aside is not None
    assert held.asked["replace"] == 5
