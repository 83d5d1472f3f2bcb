"""Conversations on disk: only those that say they are ours are listed, continued, or called damaged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.answers.conversations import Conversation, ConversationStore, is_conversation
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.types import Message
from tests.support.earlier_home import lm_studio_chat, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> ConversationStore:
    return ConversationStore(tmp_path)


def keep(store: ConversationStore, name: str, *, written_at: float) -> Conversation:
    conversation = Conversation(name=name, messages=(Message(role="user", text=name),))
    os.utime(store.save(conversation), (written_at, written_at))
    return conversation


def test_the_latest_of_ours_is_continued_whatever_lies_beside(store: ConversationStore, tmp_path: Path) -> None:
    older, newer = keep(store, "older", written_at=1), keep(store, "newer", written_at=2)
    for name in ("1719853210123.conversation", "chat", "cut"):
        write(tmp_path / f"{name}.json", lm_studio_chat("hi")[: 40 if name == "cut" else None])
    (tmp_path / "folder.json").mkdir()
    assert store.names() == ["newer", "older"]
    assert store.latest() == newer
    (tmp_path / "newer.json").unlink()
    assert store.latest() == older
    (tmp_path / "older.json").unlink()
    with pytest.raises(UsageError, match="there is no conversation yet"):
        store.latest()


def test_one_of_ours_that_is_damaged_is_told_and_none_is_to_be_deleted(
    store: ConversationStore, tmp_path: Path
) -> None:
    keep(store, "older", written_at=1)
    file = store.save(Conversation(name="cut", messages=(Message(role="user", text="hi"),)))
    file.write_bytes(file.read_bytes()[:-20])
    assert is_conversation(file)
    with pytest.raises(LMStrixError, match=r"cut\.json is damaged .*; repair it, or move it elsewhere") as caught:
        store.latest()
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize(
    "rest",
    [
        '"messages": ["x"]',
        '"messages": [{"role": 3, "text": "x"}]',
        '"messages": [{"role": "user", "text": null}]',
        '"messages": [{"role": "user"}]',
        '"model_key": 5, "messages": []',
        '"messages": ' + "[" * 100_000,
    ],
)
def test_one_of_ours_with_anything_in_it_is_damaged(store: ConversationStore, tmp_path: Path, rest: str) -> None:
    write(tmp_path / "odd.json", '{"schema": "lmstrix.conversation/1", ' + rest + "}")
    with pytest.raises(LMStrixError, match=r"odd\.json is damaged"):
        store.load("odd")


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_what_is_no_file_is_no_conversation(store: ConversationStore, tmp_path: Path) -> None:
    keep(store, "ours", written_at=1)
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.json").mkdir()
    assert store.names() == ["ours"]
    with pytest.raises(LMStrixError, match="no conversation"):
        store.load("folder")


@pytest.mark.needs_posix("named pipes")
def test_a_pipe_among_them_keeps_nobody_waiting(store: ConversationStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(LMStrixError, match="no conversation"):
        store.load("pipe")


@pytest.mark.parametrize("text", [lm_studio_chat("hi"), "{", "[]", "", '{"schema": "lmstrix.conversation/99"}'])
def test_one_of_others_is_none_of_lmstrix(store: ConversationStore, tmp_path: Path, text: str) -> None:
    write(tmp_path / "theirs.json", text)
    assert not is_conversation(tmp_path / "theirs.json")
    with pytest.raises(LMStrixError, match=r"theirs\.json is no conversation of LMStrix$"):
        store.load("theirs")
