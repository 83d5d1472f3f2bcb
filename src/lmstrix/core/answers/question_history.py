"""The questions of all chats, oldest first, so that the arrow keys find them again: one JSON text per line of a file.

The file is private to the user, and holds the last questions only. Each is added as it is asked, so that several chats
at once, or one that is killed, lose none. A file that cannot be read or written costs a chat nothing but its history.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.files import make_private_folder, write_whole
from lmstrix.ground.held_files import read_whole
from lmstrix.ground.one_writer import one_writer

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o600
KEPT = 500  # questions; as many lines as shells keep by default
LONGEST_BYTES = 10_000  # nobody looks for a pasted document with the arrow keys


@dataclass(frozen=True, slots=True)
class QuestionHistory:
    """The history in `file`."""

    file: Path

    def read(self) -> list[str]:
        """The last questions, oldest first; also cuts the file down to them when it has grown to twice as many."""
        lines: list[bytes] = []
        with suppress(OSError):
            lines = read_whole(self.file).splitlines()
        if len(lines) > 2 * KEPT:
            with suppress(OSError), one_writer(self.file):
                lines = read_whole(self.file).splitlines()
                write_whole(self.file, b"".join(line + b"\n" for line in lines[-KEPT:]), mode=PRIVATE, durable=False)
        questions = []
        for line in lines[-KEPT:]:
            with suppress(ValueError, RecursionError):  # a line that was being written when its chat was killed
                question = json.loads(line)
                if isinstance(question, str):
                    questions.append(question)
        return questions

    def add(self, question: str) -> None:
        """Keep a question."""
        # In ASCII, so that no line separator of Unicode's splits a line.
        data = json.dumps(question).encode() + b"\n"
        if len(data) > LONGEST_BYTES:
            return
        with suppress(OSError):
            make_private_folder(self.file.parent)
            with one_writer(self.file):
                self._append(data)

    def _append(self, data: bytes) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
