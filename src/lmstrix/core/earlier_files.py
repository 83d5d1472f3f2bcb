"""What earlier versions of LMStrix left in the home itself, told from what others keep there.

The home is LM Studio's wherever it is installed, and LM Studio keeps its chats in a folder `conversations` as we did.
So a file counts as ours only by a name that nobody else gives, or by what it says at its beginning; LM Studio's chats
are known by their names and not even opened.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lmstrix.core.answers.conversations import is_conversation
from lmstrix.ground.paths import engine_files
from lmstrix.ground.settings import CONFIG_FILES, holds_settings
from lmstrix.ground.trust import SCHEMA as TRUST_SCHEMA
from lmstrix.ground.trust import TRUST_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENGINE_LOCK: Final = "engine.lock"
"""An engine of an earlier version holds it for as long as it lives."""
FOLDERS: Final = ("cache/answers", "cache", "reports", "logs", "locks")
"""Folders that earlier versions made for themselves, the inner ones first."""
_MOST_BYTES: Final = 2**20
_BEGINNING_BYTES: Final = 4096
_LOG_LINE: Final = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?Z (debug|info|warn|error) ", re.MULTILINE)
_STATE_KEYS: Final = frozenset({"last_used_model", "servers"})
_ENGINE_KEYS: Final = frozenset({"host", "port", "pid", "process_started", "models_dir"})


class EarlierFile(NamedTuple):
    """A file of ours at its old place, or a whole report."""

    place: str
    """Its path below the home, and from now on below our own folder."""
    noun: str | None
    """What each of many is called; None for a file that goes by its name."""


class _Kind(NamedTuple):
    folder: str
    name: re.Pattern[str]
    is_ours: Callable[[Path], bool]
    noun: str | None = None


def earlier_files(home: Path) -> Iterator[EarlierFile]:
    """Everything to move but what an engine writes as it runs."""
    return _found(home, _KINDS)


def earlier_logs(home: Path) -> Iterator[EarlierFile]:
    """The log of the engine."""
    return _found(home, _LOGS)


def idle_traces(home: Path) -> Iterator[Path]:
    """Files that say nothing once no engine of an earlier version runs: locks, and where one listened."""
    places = [(home, ENGINE_LOCK), *((home / "locks", name) for name in _names(home / "locks", _LOAD_LOCK))]
    yield from (folder / name for folder, name in places if _is_empty(folder / name))
    state_file = engine_files(home)[1]
    if _has_keys(state_file, at_least=_ENGINE_KEYS):
        yield state_file


def _found(home: Path, kinds: tuple[_Kind, ...]) -> Iterator[EarlierFile]:
    for kind in kinds:
        for name in _names(home / kind.folder, kind.name):
            if kind.is_ours(home / kind.folder / name):
                yield EarlierFile(place=f"{kind.folder}/{name}" if kind.folder else name, noun=kind.noun)


def _names(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if pattern.fullmatch(entry.name))
    except OSError:
        return []


def _beginning(file: Path) -> bytes:
    if not file.is_file():
        return b""
    try:
        with file.open("rb") as stream:
            return stream.read(_BEGINNING_BYTES)
    except OSError:
        return b""


def _object(file: Path) -> dict[str, Any]:
    """The JSON object in a small file; empty for all else."""
    try:
        found = json.loads(file.read_bytes()) if file.is_file() and file.stat().st_size <= _MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _has_keys(file: Path, *, at_least: frozenset[str]) -> bool:
    return at_least <= _object(file).keys()


def _is_state(file: Path) -> bool:
    found = _object(file).keys()
    return bool(found) and found <= _STATE_KEYS


def _is_trust(file: Path) -> bool:
    return _object(file).get("schema") == TRUST_SCHEMA


def _is_questions(file: Path) -> bool:
    first = _beginning(file).partition(b"\n")[0]
    # A question may be longer than what was read of it.
    return first.startswith(b'"') and (first.endswith(b'"') or len(first) == _BEGINNING_BYTES)


def _is_answer(file: Path) -> bool:
    return _beginning(file).startswith(b'{"text": ')


def _is_log(file: Path) -> bool:
    return _LOG_LINE.search(_beginning(file)) is not None


def _is_empty(file: Path) -> bool:
    try:
        return file.is_file() and file.stat().st_size == 0
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    return path.is_dir()


_LOAD_LOCK: Final = re.compile(r"load-[0-9a-f]{16}\.lock")
_KINDS: Final = (
    *(_Kind("", re.compile(re.escape(name)), holds_settings) for name in CONFIG_FILES),
    _Kind("", re.compile(r"state\.json"), _is_state),
    _Kind("", re.compile(re.escape(TRUST_FILE)), _is_trust),
    _Kind("", re.compile(r"questions\.jsonl"), _is_questions),
    _Kind("conversations", re.compile(r".*(?<!\.conversation)\.json"), is_conversation, "conversation"),
    _Kind("reports", re.compile(r"lmstrix-bench-\d{8}-\d{6}(-\d+)?"), _is_folder, "report"),
    _Kind("cache/answers", re.compile(r"[0-9a-f]{64}\.json"), _is_answer, "cached answer"),
)
_LOGS: Final = (_Kind("logs", re.compile(r"engine\.log(\.1)?"), _is_log, "engine log"),)
