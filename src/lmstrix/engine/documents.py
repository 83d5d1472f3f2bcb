"""The text of uploaded documents. Word files are read in a process of their own, which is limited and ends with them.

A document comes from anyone, and formats inside formats can be made to take any time and memory. So nothing but plain
text is looked at in the engine's process; few documents are read at once, and one client's one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.records import ChatPart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.engine.records import ChatTurn
    from lmstrix.engine.uploads import FileStore, StoredFile

_CHILD: Final = Path(__file__).with_name("document_child.py")
_OUT_OF_TIME: Final = -signal.SIGXCPU if sys.platform != "win32" else None
"""How a process ends that has used up its processor time, where the system counts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLimits:
    """What reading one document may take.

    A book of 1.2 MB of text unpacks to 4 MB, and is read in 0.23 s of processor time with 31 MB of memory.

    Attributes:
        cpu_s: processor time, in whole seconds, as the system counts it.
        wall_s: time by the clock, also where the system counts no processor time, and on a machine that is busy.
        memory_bytes: address space; Python itself takes about 30 MB of it.
        max_body_bytes: size of the body when unpacked.
        max_text_bytes: size of the text; four million tokens, more than any context.
        at_once: documents read at the same time, of all clients.
    """

    cpu_s: int = 10
    wall_s: float = 30.0
    memory_bytes: int = 512 * 2**20
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
        process = await asyncio.create_subprocess_exec(
            # Isolated (-I), so that no module of the folder we stand in is executed; without site (-S), to be quick.
            sys.executable,
            "-I",
            "-S",
            str(_CHILD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        told = json.dumps(dataclasses.asdict(limits)).encode() + b"\n"
        try:
            async with asyncio.timeout(limits.wall_s):
                answer, _ = await process.communicate(told + file.data)
        except TimeoutError:
            raise _stopped(file, f"it takes longer than {limits.wall_s:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode == 0:
            return answer.decode()
        if process.returncode == 1:
            raise _stopped(file, answer.decode(errors="replace"))
        if process.returncode == _OUT_OF_TIME:
            raise _stopped(file, f"it takes more than {limits.cpu_s} s of processor time")
        raise _stopped(file, f"its reader ended with code {process.returncode}")


def _stopped(file: StoredFile, reason: str) -> EngineFault:
    return EngineFault(
        f"Reading {file.name} was stopped: {reason}.", kind="invalid", suggestion="Send its content as text."
    )
