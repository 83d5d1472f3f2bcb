"""The folder of a batch: one file per answer, the record of what was asked, and a lock that keeps other batches out.

The record, index.jsonl, has one line per item that ended. It is only ever added to; the last line of an answer says
what it answers. An answer is written whole, and its line after it: a batch that is killed between the two has the
answer, and one whose line says something else is asked again.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.files import write_whole
from lmstrix.ground.half_written import remove_left
from lmstrix.ground.held_files import read_whole
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

INDEX = "index.jsonl"
LOCK = ".lmstrix-batch.lock"
# What no other answer could be written after either: the disk is full or failing, the quota used up, or read-only.
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


class AnswerFolder:
    """The folder at `path`. Open it for one batch alone:

    with AnswerFolder(path).opened() as answers:
        if not answers.has(file, request_hash):
            answers.write(file, text)
            answers.record({"file": file, "outcome": "ok", "request_hash": request_hash})

    Raises OSError when nothing more can be written at all, and LMStrixError when only this one cannot.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._asked: dict[str, str | None] = {}

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """Make the folder and hold it until the end, or the death, of this process; read what it has."""
        from filelock import FileLock, Timeout

        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise LMStrixError(
                f"{self.path} cannot be made a folder: {exc.strerror or exc}; name another {parameter('out')}"
            ) from exc
        # The system frees the lock of a process that dies. Taken in one thread, it may be given back in another.
        lock = FileLock(self.path / LOCK, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout as exc:
            raise LMStrixError(
                f"another batch is writing to {self.path}; wait until it has ended, or name another {parameter('out')}"
            ) from exc
        try:
            self._remove_half_written()
            self._read_record()
            yield self
        finally:
            lock.release()

    def has(self, file: str, request_hash: str) -> bool:
        """Whether the answer to exactly this is here."""
        # An answer whose line does not say what was asked is of an earlier version, or of a batch that was killed
        # before it wrote the line: nothing says that it answers something else.
        asked = self._asked.get(file)
        return (asked is None or asked == request_hash) and (self.path / file).is_file()

    def write(self, file: str, text: str) -> None:
        """Write an answer, whole or not at all."""
        target = self.path / file
        try:
            target.parent.mkdir(exist_ok=True)
            write_whole(target, text.encode("utf-8", "replace"), durable=False)
        except OSError as exc:
            if exc.errno in _FATAL:
                raise
            raise LMStrixError(f"{target} cannot be written: {exc.strerror or exc}") from exc

    def record(self, line: Mapping[str, Any]) -> None:
        """Add a line to the record."""
        data = json.dumps(line).encode() + b"\n"
        # In one piece, and unbuffered: what is written must be in the file when the process is killed.
        with (self.path / INDEX).open("ab", buffering=0) as index:
            if index.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / INDEX))
        if line["outcome"] == "ok":
            self._asked[line["file"]] = line["request_hash"]

    def _read_record(self) -> None:
        index = self.path / INDEX
        if not index.exists():
            return
        data = read_whole(index)
        if data and not data.endswith(b"\n"):
            # The half line of a batch that was killed, or of a full disk: the next line must not be joined to it.
            with index.open("ab") as stream:
                stream.write(b"\n")
        for line in data.splitlines():
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                found = json.loads(line)
                if found["outcome"] == "ok":
                    self._asked[str(found["file"])] = found.get("request_hash")

    def _remove_half_written(self) -> None:
        """What batches left behind that were killed while they wrote an answer: with the lock held, nobody writes."""
        for folder in self.path.glob("*/"):
            remove_left(folder)
