"""What LMStrix keeps is its owner's alone, whatever the umask, and also where an earlier version left it open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.answers.conversations import Conversation
from lmstrix.core.history import History
from lmstrix.ground.paths import own_folder, resolve_paths
from lmstrix.ground.settings import Settings
from lmstrix.ground.types import Message
from lmstrix.service.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def careless_umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


def use(home: Path) -> list[str]:
    """Write something of every kind that is kept; what is open to others while the database is in use."""
    workspace = Workspace(paths=resolve_paths({"LMSTRIX_HOME": str(home)}), settings=Settings())
    workspace.store.update(lambda registry: registry.models.update({"a": {"id": "a", "path": "a"}}))
    workspace.last_used.write("a")
    workspace.conversations.save(Conversation(name="c", messages=(Message(role="user", text="hi"),)))
    with History(workspace.paths.history_file):
        return open_to_others(home)


def open_to_others(home: Path) -> list[str]:
    return [path.name for path in (home, *home.rglob("*")) if path.stat().st_mode & 0o077]


def test_a_new_home_is_private(home: Path) -> None:
    assert use(home) == []
    assert {path.name for path in home.iterdir()} == {"lmstrix.json", "lmstrix.json.lock", "lmstrix.db", "lmstrix"}
    assert {path.name for path in own_folder(home).iterdir()} == {"conversations", "state.json", "state.json.lock"}


@pytest.mark.needs_posix("permission bits")
def test_an_old_home_becomes_private(home: Path) -> None:
    use(home)
    for path in (home, *home.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    workspace = Workspace(paths=resolve_paths({"LMSTRIX_HOME": str(home)}), settings=Settings())
    assert own_folder(home).stat().st_mode & 0o777 == 0o700
    workspace.store.load()
    assert (home / "lmstrix.json").stat().st_mode & 0o777 == 0o600
    # What holds no texts is written, and closed, only when it changes. The home stays as it was made: whoever opened it
    # may share the models in it, and what is ours there is closed itself.
    assert set(use(home)) <= {home.name, "state.json", "state.json.lock", "lmstrix.json.lock"}


def test_the_home_of_lm_studio_stays_as_it_is(tmp_path: Path) -> None:
    studio = tmp_path / "studio"
    studio.mkdir(mode=0o755)
    paths = resolve_paths({}, lmstudio_home=studio)
    Workspace(paths=paths, settings=Settings()).last_used.write("a")
    assert studio.stat().st_mode & 0o777 == 0o755
    assert paths.own.stat().st_mode & 0o777 == 0o700
    assert (paths.own / "state.json").stat().st_mode & 0o777 == 0o600


def test_nor_is_it_closed_where_lmstrix_home_names_it(tmp_path: Path) -> None:
    studio = tmp_path / "studio"
    studio.mkdir(mode=0o755)
    use(studio)
    assert studio.stat().st_mode & 0o777 == 0o755
