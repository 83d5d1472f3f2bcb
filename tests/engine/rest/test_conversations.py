"""Which conversations are kept."""

from __future__ import annotations

import pytest

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.records import ChatPart, ChatTurn
from lmstrix.engine.rest.conversations import Conversations


def said(text: str, *images: bytes) -> ChatTurn:
    pictures = [ChatPart(type="file", file_type="image", data=image) for image in images]
    return ChatTurn(role="user", parts=(ChatPart(type="text", text=text), *pictures))


def test_the_oldest_goes_when_they_are_too_many() -> None:
    chats = Conversations(kept=2)
    first, second, third = [chats.remember((said(text),)) for text in ("a", "b", "c")]
    assert [chats.find(name)[0].parts[0].text for name in (second, third)] == ["b", "c"]
    with pytest.raises(EngineFault, match=first):
        chats.find(first)


def test_the_oldest_goes_when_their_images_are_too_large() -> None:
    chats = Conversations(kept_image_bytes=250)
    first, second, third = [chats.remember((said("see", bytes([number]) * 100),)) for number in range(3)]
    assert chats.find(second)
    assert chats.find(third)
    with pytest.raises(EngineFault):
        chats.find(first)


def test_a_chat_that_goes_on_counts_its_images_once() -> None:
    chats = Conversations(kept_image_bytes=250)
    turns: tuple[ChatTurn, ...] = (said("see", b"1" * 200),)
    names = []
    for text in ("a", "b", "c"):
        turns = (*turns, said(text))
        names.append(chats.remember(turns))
    assert all(chats.find(name) for name in names)
