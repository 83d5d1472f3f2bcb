"""The conversations that `/api/v1/chat` remembers, as many and as large as there is room for. Pure."""

from __future__ import annotations

import secrets
import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lmstrix.engine.faults import EngineFault

if TYPE_CHECKING:
    from lmstrix.engine.records import ChatTurn

Turns = tuple["ChatTurn", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLimits:
    """How much is remembered: what a client may send at once, four times."""

    chats: int = 256
    chat_bytes: int = 64 * 2**20
    all_bytes: int = 256 * 2**20


LIMITS: Final = KeptLimits()
_TURN_BYTES: Final = 500
"""What an empty turn takes: the records and the identifiers in it."""


class KeptChats:
    """Conversations by the identifier of their last answer. The oldest go: clients never say that one is over."""

    def __init__(self, limits: KeptLimits = LIMITS) -> None:
        self._limits = limits
        self._chats: OrderedDict[str, tuple[Turns, int]] = OrderedDict()
        self._bytes = 0

    def turns(self, identifier: str) -> Turns:
        """The conversation that ends with the answer `identifier`."""
        if identifier not in self._chats:
            raise EngineFault(
                f"No stored response is called {identifier}: the oldest are forgotten beyond {self._limits.chats} "
                f"responses or {self._limits.all_bytes // 2**20} MiB.",
                kind="invalid",
            )
        return self._chats[identifier][0]

    def check(self, turns: Turns) -> None:
        """Refuse what is too long to be kept, before anybody waits for its answer."""
        if _size_bytes(turns) > self._limits.chat_bytes:
            raise EngineFault(
                f"This conversation is too long to be stored: {self._limits.chat_bytes // 2**20} MiB is the most.",
                kind="invalid",
                suggestion='Send "store": false, or begin a new one.',
            )

    def keep(self, turns: Turns) -> str:
        """Remember a conversation; returns its identifier."""
        identifier, size_bytes = f"resp_{secrets.token_hex(16)}", _size_bytes(turns)
        self._chats[identifier] = (turns, size_bytes)
        self._bytes += size_bytes
        while len(self._chats) > self._limits.chats or self._bytes > self._limits.all_bytes:
            _, (_, dropped_bytes) = self._chats.popitem(last=False)
            self._bytes -= dropped_bytes
        return identifier


def _size_bytes(turns: Turns) -> int:
    # An empty text takes 49 bytes, so what a part weighs beside its text is in it.
    sizes = (sys.getsizeof(part.text) + len(part.data or b"") for turn in turns for part in turn.parts)
    return _TURN_BYTES * len(turns) + sum(sizes)
