"""Moves what earlier versions left in the home into LMStrix's own folder there, once.

A move is a rename per file, so a run that is killed leaves every file whole and the next run goes on; a lock keeps two
runs apart. When all is done `moved.txt` in the own folder says so, and later starts look no further. As long as an
engine of an earlier version runs, its own files stay where it knows them, and later starts look again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lmstrix.ground.paths import own_folder
from lmstrix.ground.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from lmstrix.core.earlier_files import EarlierFile

RECORD: Final = "moved.txt"
_LOCK: Final = "moving.lock"
_LOCK_TIMEOUT_S: Final = 15.0
_CONVERSATIONS: Final = "conversations"
_NAMES: Final = frozenset(
    {
        *("cache", _CONVERSATIONS, "locks", "logs", "reports"),
        *("config.json", "config.toml", "questions.jsonl", "state.json", "trusted_folders.json"),
        *("engine.json", "engine.lock"),
    }
)
"""What earlier versions made in the home: where none of these is, there is nothing to move."""


def move_in(home: Path, notify: Callable[[str], None]) -> None:
    """Move what an earlier version left in `home`, and say so in a line. What cannot be moved is told, never raised."""
    if (own_folder(home) / RECORD).exists():
        return
    try:
        names = _NAMES.intersection(entry.name for entry in home.iterdir())
        # In LM Studio's home that folder is there anyway, and to look into the files costs a start many imports.
        if names == {_CONVERSATIONS} and not own_folder(home).is_dir() and not _may_hold_ours(home / _CONVERSATIONS):
            return
    except OSError:
        return  # no home yet
    if names:
        _Moving(home, notify).run()


def _may_hold_ours(conversations: Path) -> bool:
    names = (entry.name for entry in conversations.iterdir())
    return any(name.endswith(".json") and not name.endswith(".conversation.json") for name in names)


class _Moving:
    """One run of moving."""

    def __init__(self, home: Path, notify: Callable[[str], None]) -> None:
        self._home = home
        self._own = own_folder(home)
        self._notify = notify
        self._moved: list[EarlierFile] = []
        self._left: list[EarlierFile] = []
        self._refused: list[EarlierFile] = []
        self._reason = ""
        self._touched: set[Path] = set()

    def run(self) -> None:
        from lmstrix.core.earlier_files import earlier_files, earlier_logs, idle_traces

        found = [*earlier_files(self._home), *earlier_logs(self._home)]
        try:
            if found or any(idle_traces(self._home)):
                self._run_alone()
            elif self._own.is_dir():
                self._record()
        except (OSError, NotImplementedError) as exc:  # the latter of a file system without locks
            if found:
                self._tell_refused(found, one_line(exc))

    def _run_alone(self) -> None:
        from filelock import FileLock, Timeout  # 33 ms that only a home with something to move pays

        from lmstrix.ground.files import PRIVATE, make_private_folder

        make_private_folder(self._own)
        lock = FileLock(self._own / _LOCK, timeout=_LOCK_TIMEOUT_S, mode=PRIVATE)
        with suppress(Timeout), lock:  # whoever holds it for so long does the same
            # Another run may have ended while this one waited.
            if not (self._own / RECORD).exists():
                self._move_all()
                self._tell()
        if (self._own / RECORD).exists():
            with suppress(OSError):
                (self._own / _LOCK).unlink(missing_ok=True)

    def _move_all(self) -> None:
        from lmstrix.core.earlier_files import FOLDERS, earlier_files

        for file in earlier_files(self._home):
            self._move(file)
        is_settled = self._settle_engine()
        for folder in FOLDERS:
            with suppress(OSError):  # not empty
                if self._home / folder in self._touched:
                    (self._home / folder).rmdir()
        if is_settled and not self._refused:
            self._record()

    def _settle_engine(self) -> bool:
        """Move the engine's log and forget where it listened; False while an engine of an earlier version runs."""
        from filelock import FileLock, Timeout

        from lmstrix.core.earlier_files import ENGINE_LOCK, earlier_logs, idle_traces

        file = self._home / ENGINE_LOCK
        if not any(earlier_logs(self._home)) and not any(idle_traces(self._home)):
            return True
        # To take a lock empties its file, and one that holds something is not ours.
        if file.exists() and file.stat().st_size:
            return True
        lock = FileLock(file, timeout=0)
        try:
            lock.acquire()
        except (Timeout, OSError, NotImplementedError):
            return False
        try:
            for log in earlier_logs(self._home):
                self._move(log)
        finally:
            lock.release()
        for trace in idle_traces(self._home):
            with suppress(OSError):  # Windows removes no lock that is held
                trace.unlink()
                self._touched.update(trace.parents)
        return True

    def _move(self, file: EarlierFile) -> None:
        from lmstrix.ground.files import make_private, make_private_folder

        source, target = self._home / file.place, self._own / file.place
        if self._is_taken(file):
            self._left.append(file)
            return
        try:
            if source.is_symlink() and not source.readlink().is_absolute():
                raise OSError("a relative link, which leads elsewhere from there")
            make_private_folder(target.parent)
            source.rename(target)
        except OSError as exc:
            self._refused.append(file)
            self._reason = exc.strerror or str(exc)
            return
        if not target.is_symlink():
            make_private(target)
        self._moved.append(file)
        self._touched.update(source.parents)

    def _is_taken(self, file: EarlierFile) -> bool:
        """Whether our own folder has one already, which is newer."""
        from lmstrix.ground.settings import CONFIG_FILES

        # Of two config files one counts: an old one of the other name must not take the place of a new one.
        places = CONFIG_FILES if file.place in CONFIG_FILES else (file.place,)
        return any(os.path.lexists(self._own / place) for place in places)

    def _record(self) -> None:
        from lmstrix.ground.files import PRIVATE, write_whole

        text = (
            f"LMStrix keeps its own files here. Nothing is left to move that earlier versions kept in {self._home}.\n"
        )
        with suppress(OSError):  # the next start finds nothing left, and writes it
            write_whole(self._own / RECORD, text, mode=PRIVATE, durable=False)

    def _tell(self) -> None:
        told = []
        if self._moved:
            told.append(f"moved {_list(self._moved)} from {self._home} to {self._own}")
        if self._left:
            told.append(f"left {_list(self._left)} in {self._home}, as {self._own} has newer ones")
        if told:
            self._notify("; ".join(told))
        if self._refused:
            self._tell_refused(self._refused, self._reason)

    def _tell_refused(self, files: Iterable[EarlierFile], reason: str) -> None:
        self._notify(
            f"{_list(files)} of an earlier version cannot be moved from {self._home} to {self._own} "
            f"({reason}), and will not be used until you move them"
        )


def _list(files: Iterable[EarlierFile]) -> str:
    """How many of each kind, and the others by name."""
    from collections import Counter

    from lmstrix.ground.units import counted

    parts = [
        counted(count, noun) if noun else place
        for (noun, place), count in Counter((file.noun, "" if file.noun else file.place) for file in files).items()
    ]
    return " and ".join([*filter(None, [", ".join(parts[:-1])]), *parts[-1:]])
