"""The text of uploaded documents. Word files are read in a process of their own, which is limited and ends with them.

A document comes from anyone, and formats inside formats can be made to take any time and memory. So nothing but plain
text is looked at in the engine's process; few documents are read at once, and one client's one after the other.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.limited_process import LimitedProcessError, LimitReachedError, ProcessLimits, run_limited
from lmstrix.engine.records import ChatPart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.engine.records import ChatTurn
    from lmstrix.engine.uploads import FileStore, StoredFile

_SCRIPT: Final = Path(__file__).with_name("document_script.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLimits:
    """What reading one document may take.

    A book of 1.2 MB of text unpacks to 4 MB, and is read in 0.23 s of processor time with 31 MB of memory.

    Attributes:
        process: memory and time of the process that reads it.
        max_body_bytes: size of the body when unpacked.
        max_text_bytes: size of the text; four million tokens, more than any context.
        at_once: documents read at the same time, of all clients.
    """

    process: ProcessLimits = field(
        default_factory=lambda: ProcessLimits(memory_bytes=512 * 2**20, cpu_s=10, wall_s=30.0)
    )
    max_body_bytes: int = 64 * 2**20
    max_text_bytes: int = 16 * 2**20
    at_once: int = 2


class DocumentReader:
    """Reads the documents of all clients."""

    def __init__(self, limits: DocumentLimits | None = None) -> None:
        self._limits = limits or DocumentLimits()
        self._free = asyncio.Semaphore(self._limits.at_once)

    async def text_of(self, store: FileStore, identifier: str) -> str:
        """The text of a document. Raises `EngineFault` "unsupported", naming the type, for what we cannot read."""
        file = store.get(identifier)
        if file.file_type in ("text/plain", "text/other"):
            return file.data.decode("utf-8-sig")
        if file.file_type != "application/word":
            raise EngineFault(
                f"Reading {file.name} is not supported: no text can be extracted from files of type {file.file_type}",
                kind="unsupported",
                suggestion="Send its content as text.",
            )
        # One after the other, so that one client's documents leave a place for those of the next.
        async with store.reading:
            # A chat sends its whole history with every message: the same document over and over.
            known = store.known_text(identifier)
            if known is None:
                async with self._free:
                    known = await self._read(file)
                store.keep_text(identifier, known)
            return known

    async def put_into(self, turns: Sequence[ChatTurn], store: FileStore) -> tuple[ChatTurn, ...]:
        """The history with the text of its documents in their places; what is left of files are images."""
        return tuple([await self._put_into_turn(turn, store) for turn in turns])

    async def _put_into_turn(self, turn: ChatTurn, store: FileStore) -> ChatTurn:
        if not any(part.type == "file" for part in turn.parts):
            return turn
        return dataclasses.replace(turn, parts=tuple([await self._read_part(part, store) for part in turn.parts]))

    async def _read_part(self, part: ChatPart, store: FileStore) -> ChatPart:
        if part.type != "file" or part.file_id is None:
            return part
        # What the upload was found to be, whatever the message calls it.
        if store.get(part.file_id).file_type == "image":
            return dataclasses.replace(part, file_type="image")
        return ChatPart(type="text", text=await self.text_of(store, part.file_id))

    async def _read(self, file: StoredFile) -> str:
        limits = self._limits
        told = {"max_body_bytes": limits.max_body_bytes, "max_text_bytes": limits.max_text_bytes}
        try:
            answer = await run_limited(_SCRIPT, json.dumps(told).encode() + b"\n" + file.data, limits.process)
        except (LimitReachedError, LimitedProcessError) as exc:
            raise _stopped(file, str(exc)) from exc
        if answer.startswith(b"+"):
            return answer[1:].decode()
        raise _stopped(file, answer[1:].decode())


def _stopped(file: StoredFile, reason: str) -> EngineFault:
    return EngineFault(
        f"Reading {file.name} was stopped: {reason}.", kind="invalid", suggestion="Send its content as text."
    )
