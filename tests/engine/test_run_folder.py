"""The folder of the models' sockets: private, unforeseeable, made anew when swept, cleared away when left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from lmstrix.engine import EmbeddedEngine
from lmstrix.engine.run_folder import RunFolder
from tests.engine.conftest import SCRIPTED, TINY

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.needs_posix("sockets with paths are POSIX")
HOLD = """
import sys, time
from lmstrix.engine.run_folder import RunFolder
print(folder := RunFolder().ready(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """XDG_RUNTIME_DIR; short, as the sockets in it have to be."""
    with tempfile.TemporaryDirectory(prefix="rt", dir="/tmp") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


def aged(folder: Path) -> Path:
    os.utime(folder, (1, 1))
    return folder


@pytest.mark.parametrize("length", [60, 100, 250])
def test_a_long_folder_for_temporary_files_is_left_for_one_where_sockets_fit(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long-" * length)[:length]
    long.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder = RunFolder({"XDG_RUNTIME_DIR": str(long)})
    try:
        name = str(folder.ready() / "01234567.sock")
        assert len(os.fsencode(name)) < 104  # macOS takes no more, Linux 108
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
    finally:
        folder.remove()


def test_it_is_private_and_nobody_can_foresee_it(runtime: Path) -> None:
    folders = [RunFolder() for _ in range(5)]
    paths = {folder.ready() for folder in folders}
    assert len(paths) == 5
    for path in paths:
        assert path.parent == runtime
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert len(path.name) > len("lmstrix-run-")
    assert [folder.ready() for folder in folders] == [folder.ready() for folder in folders]
    for folder in folders:
        folder.remove()
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("spoil", ["gone", "file", "link", "open to all"])
def test_one_that_was_swept_or_taken_over_is_made_anew(runtime: Path, spoil: str) -> None:
    folder = RunFolder()
    first = folder.ready()
    if spoil == "open to all":
        first.chmod(0o777)
    else:
        first.rmdir()
    if spoil == "file":
        first.touch()
    elif spoil == "link":
        first.symlink_to(runtime)
    second = folder.ready()
    assert second != first
    assert stat.S_IMODE(second.lstat().st_mode) == 0o700
    folder.remove()
    # What is under the old name is not ours any more.
    assert os.path.lexists(first) == (spoil != "gone")


@pytest.mark.parametrize("unfit", ["open to all", "missing", "relative", "a link", "empty"])
def test_a_runtime_folder_that_is_not_ours_alone_is_not_used(runtime: Path, unfit: str) -> None:
    named = str(runtime)
    if unfit == "open to all":
        runtime.chmod(0o755)
    elif unfit == "missing":
        named = str(runtime / "absent")
    elif unfit == "relative":
        named = os.path.relpath(runtime)
    elif unfit == "a link":
        (runtime / "link").symlink_to(runtime)
        named = str(runtime / "link")
    else:
        named = ""
    folder = RunFolder({"XDG_RUNTIME_DIR": named})
    assert folder.ready().parent == Path(tempfile.gettempdir())
    folder.remove()


def test_what_a_killed_engine_left_is_removed_and_what_a_living_one_holds_is_not(runtime: Path) -> None:
    holders = [subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        dead, living = (aged(Path(str(holder.stdout and holder.stdout.readline()).strip())) for holder in holders)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(dead / "model.sock"))
        aged(dead)
        holders[0].send_signal(signal.SIGKILL)
        holders[0].wait(10)
        foreign = runtime / "lmstrix-run-foreign"
        foreign.mkdir(mode=0o700)
        (foreign / "notes.txt").touch()
        aged(foreign)
        young = runtime / "lmstrix-run-young"
        young.mkdir(mode=0o700)
        assert RunFolder().remove_stale() == 1
        assert sorted(runtime.iterdir()) == sorted([living, foreign, young])
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate(timeout=10)


def test_an_engine_outlives_the_sweeping_of_its_folder(runtime: Path, models_dir: Path) -> None:
    with (
        EmbeddedEngine(models_dir) as engine,
        httpx.Client(base_url=f"http://{engine.address}", timeout=60) as client,
    ):

        def completed(model: str) -> httpx.Response:
            return client.post("/v1/completions", json={"model": model, "prompt": "2+3=", "max_tokens": 2})

        # By name, as a model that a request loads gives way to the next.
        assert client.post("/api/v1/models/load", json={"model": SCRIPTED}).status_code == 200
        assert completed(SCRIPTED).status_code == 200
        (folder,) = runtime.iterdir()
        shutil.rmtree(folder)
        assert completed(TINY).status_code == 200
        # What was loaded cannot be reached any more: that is said, and the next request loads it again.
        lost = completed(SCRIPTED)
        assert (lost.status_code, "socket was removed" in lost.text) == (500, True)
        assert completed(SCRIPTED).status_code == 200
    assert list(runtime.iterdir()) == []
