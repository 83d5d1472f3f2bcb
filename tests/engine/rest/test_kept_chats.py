"""The conversations that are remembered: as many and as large as there is room for."""

from __future__ import annotations

import pytest

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.records import ChatPart, ChatTurn
from lmstrix.engine.rest.kept_chats import KeptChats, KeptLimits


def said(text: str, data: bytes | None = None) -> tuple[ChatTurn, ...]:
    return (ChatTurn(role="user", parts=(ChatPart(type="text", text=text, data=data),)),)


def test_the_oldest_go_when_there_are_too_many() -> None:
    chats = KeptChats(KeptLimits(chats=3))
    names = [chats.keep(said(str(number))) for number in range(5)]
    assert [chats.turns(name)[0].parts[0].text for name in names[2:]] == ["2", "3", "4"]
    for name in names[:2]:
        with pytest.raises(EngineFault, match=f"No stored response is called {name}: .* 3 responses") as caught:
            chats.turns(name)
        assert caught.value.kind == "invalid"


@pytest.mark.parametrize("large", [said("x" * 40_000), said("", b"x" * 40_000)])
def test_the_oldest_go_when_they_are_too_large(large: tuple[ChatTurn, ...]) -> None:
    chats = KeptChats(KeptLimits(chat_bytes=50_000, all_bytes=100_000))
    names = [chats.keep(large) for _ in range(3)]
    with pytest.raises(EngineFault, match="are forgotten"):
        chats.turns(names[0])
    assert chats.turns(names[1]) == chats.turns(names[2]) == large
    # Their room is free again.
    small = [chats.keep(said("hi")) for _ in range(20)]
    assert chats.turns(small[0]) == said("hi")


def test_one_that_is_too_long_is_refused_beforehand() -> None:
    chats = KeptChats(KeptLimits(chat_bytes=2**20))
    chats.check(said("x" * 2**19))
    with pytest.raises(EngineFault, match="too long to be stored: 1 MiB is the most") as caught:
        chats.check(said("x" * 2**20))
    assert "store" in (caught.value.suggestion or "")
