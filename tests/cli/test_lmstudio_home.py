"""In LM Studio's home: its chats are not ours to read, list, continue, change or complain of."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import psutil
import pytest
from filelock import FileLock

from lmstrix import LMStrix
from lmstrix.engine.state_file import engine_status
from lmstrix.ground.paths import engine_files, own_folder, resolve_paths
from tests.cli.conftest import SCRIPTED
from tests.support.earlier_home import CONFIG, conversation, lm_studio_home, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran

OURS = {"lmstrix", "lmstrix.json", "lmstrix.json.lock", "lmstrix.db", "lmstrix.db-shm", "lmstrix.db-wal"}
COMMANDS = (
    ("list",),
    ("ps",),
    ("doctor",),
    ("logs",),
    ("bench", "history"),
    ("trust", "--list"),
    ("engine", "status"),
    ("infer", "2+3=", "-m", SCRIPTED),
    ("infer", "hello", "--continue"),
    ("chat", "--continue"),
    ("chat",),
)


@pytest.fixture
def studio(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """LM Studio's home, found as on a machine where it is installed."""
    lm_studio_home(home)
    monkeypatch.delenv("LMSTRIX_HOME")
    monkeypatch.setattr("lmstrix.ground.paths.find_lmstudio_home", lambda _: home)
    assert resolve_paths().lmstudio_home == home
    return home


def state(home: Path) -> dict[str, tuple[str, int, int]]:
    """Every file and folder that is not ours: content, time and permissions."""
    paths = [path for path in home.rglob("*") if path.relative_to(home).parts[0].split(".backup")[0] not in OURS]
    return {
        str(path): (path.read_text("utf-8") if path.is_file() else "", path.stat().st_mtime_ns, path.stat().st_mode)
        for path in paths
    }


def test_nothing_of_lm_studios_is_touched_or_told(
    cli: Callable[..., Ran], engine: EmbeddedEngine, studio: Path
) -> None:
    before, mode = state(studio), studio.stat().st_mode
    cli("infer", "hello", "--continue", "-m", SCRIPTED).failed(
        2, "there is no conversation yet (lmstrix chat begins one"
    )
    cli("chat", "--conversation", "1719853210123.conversation").failed(2, "(there are: none yet)")
    for words in COMMANDS:
        ran = cli(*words, stdin=b"2+3=\n")
        assert "damaged" not in ran.out + ran.err
        assert "1719853210123" not in ran.out + ran.err, ran
        assert "moved" not in ran.err, ran
    assert state(studio) == before
    assert studio.stat().st_mode == mode
    kept = {path.name for path in (own_folder(studio) / "conversations").iterdir()}
    assert "infer.json" in kept
    assert len(kept) == 2


def test_a_conversation_of_an_earlier_version_goes_on_at_its_new_place(
    cli: Callable[..., Ran], engine: EmbeddedEngine, studio: Path
) -> None:
    before = state(studio)
    write(studio / "conversations" / "infer.json", conversation("2+3="))
    ran = cli("infer", "hello", "--continue", "-m", SCRIPTED).ok()
    assert ran.lines[0] == f"moved 1 conversation from {studio} to {own_folder(studio)}"
    kept = json.loads((own_folder(studio) / "conversations" / "infer.json").read_text(encoding="utf-8"))
    assert [message["text"] for message in kept["messages"] if message["role"] == "user"] == ["2+3=", "hello"]
    assert state(studio).keys() == before.keys()
    assert "moved" not in cli("list").ok().err


def test_settings_count_from_the_first_command_on(cli: Callable[..., Ran], home: Path) -> None:
    write(home / "config.toml", CONFIG)
    ran = cli("ps", "--profile", "quick")
    assert ran.lines[0] == f"moved config.toml from {home} to {own_folder(home)}"
    cli("ps", "--profile", "slow").failed(2, str(own_folder(home) / "config.toml"), "quick")


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["chat", "--help"]])
def test_help_looks_at_no_home(cli: Callable[..., Ran], home: Path, words: list[str]) -> None:
    write(home / "config.toml", CONFIG)
    cli(*words).ok()
    assert (home / "config.toml").exists()


def test_the_python_interface_moves_too(home: Path) -> None:
    write(home / "config.toml", CONFIG)
    told: list[str] = []
    with LMStrix(notify=told.append):
        assert told == [f"moved config.toml from {home} to {own_folder(home)}"]


def test_an_engine_of_an_earlier_version_is_found_and_not_doubled(
    cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path
) -> None:
    host, _, port = engine.address.rpartition(":")
    here = {"host": host, "port": int(port), "pid": os.getpid(), "process_started": psutil.Process().create_time()}
    write(engine_files(home)[1], json.dumps(here | {"models_dir": str(home)}))
    with FileLock(home / "engine.lock"):
        status = engine_status(home)
        assert (status.running, status.address) == (True, engine.address)
        assert status.log_file == home / "logs" / "engine.log"
        for words in (("engine", "start"), ("engine", "run")):
            cli(*words).failed(1, f"an engine runs already at {engine.address}")
    # Its lock is gone, and so is what it left.
    assert "not running" in cli("engine", "status").ok().out
    assert not engine_files(home)[1].exists()
