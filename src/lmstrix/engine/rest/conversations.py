"""The conversations that clients of /api/v1 may go on with: kept in memory, the oldest dropped when they are too much.

Clients never say that a conversation is over, and one with images may have tens of megabytes.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from lmstrix.engine.faults import EngineFault

if TYPE_CHECKING:
    from lmstrix.engine.records import ChatTurn

_KEPT: Final = 256
_KEPT_IMAGE_BYTES: Final = 256 * 2**20


class Conversations:
    """Chats by the name of the response that ended them."""

    def __init__(self, *, kept: int = _KEPT, kept_image_bytes: int = _KEPT_IMAGE_BYTES) -> None:
        self._kept = kept
        self._kept_image_bytes = kept_image_bytes
        self._chats: OrderedDict[str, tuple[ChatTurn, ...]] = OrderedDict()

    def remember(self, turns: tuple[ChatTurn, ...]) -> str:
        """Keep a chat under a new name."""
        identifier = f"resp_{secrets.token_hex(16)}"
        self._chats[identifier] = turns
        while len(self._chats) > self._kept or self._image_bytes() > self._kept_image_bytes:
            self._chats.popitem(last=False)
        return identifier

    def find(self, identifier: str) -> tuple[ChatTurn, ...]:
        """The chat kept under that name. Raises `EngineFault` "invalid"."""
        if identifier not in self._chats:
            raise EngineFault(f"No stored response is called {identifier}.", kind="invalid")
        return self._chats[identifier]

    def _image_bytes(self) -> int:
        # By identity: a chat that goes on holds the very images of its earlier responses.
        images = (part.data for turns in self._chats.values() for turn in turns for part in turn.parts)
        return sum({id(data): len(data) for data in images if data is not None}.values())
