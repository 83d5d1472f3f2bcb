"""Settings, chats and cut prompts, as llama.cpp gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.request import chat_messages, generation_room, image_bytes, sampling_fields, trimmed
from lmstrix.engine.records import ChatPart, ChatTurn, PredictionSettings
from lmstrix.engine.uploads import FileStore

if TYPE_CHECKING:
    from lmstrix.ground.types import OverflowPolicy

PNG = b"\x89PNG\r\n\x1a\n-"


@given(size=st.integers(0, 200), keep=st.integers(1, 100), policy=st.sampled_from(["truncateMiddle", "rollingWindow"]))
def test_a_cut_prompt_keeps_its_ends(size: int, keep: int, policy: OverflowPolicy) -> None:
    tokens = list(range(size))
    kept = trimmed(tokens, keep, policy)
    assert len(kept) == min(size, keep)
    assert kept == sorted(kept)
    if size > keep > 1:
        assert (kept[0], kept[-1]) == (0, size - 1)
    if policy == "rollingWindow" and size > keep:
        assert kept[1:] == tokens[size - keep + 1 :]


@given(context_length=st.integers(2, 10**6), max_tokens=st.none() | st.integers(1, 10**7))
def test_a_cut_leaves_room_for_an_answer_and_for_the_prompt(context_length: int, max_tokens: int | None) -> None:
    room = generation_room(context_length, max_tokens)
    assert 1 <= room <= max(1, context_length // 2)
    if max_tokens is not None:
        assert room <= max_tokens


def test_unset_settings_are_left_to_llama_cpp() -> None:
    assert sampling_fields(PredictionSettings()) == {}
    assert sampling_fields(PredictionSettings(), default_seed=5) == {"seed": 5}
    assert sampling_fields(PredictionSettings(seed=6), default_seed=5) == {"seed": 6}
    assert sampling_fields(PredictionSettings(temperature=0.0, log_probs=0)) == {"temperature": 0.0, "n_probs": 1}


def test_a_chat_with_tools_and_files() -> None:
    files = FileStore()
    picture = files.add("cat.png", PNG)
    turns = [
        ChatTurn(role="system", parts=(ChatPart(type="text", text="Be "), ChatPart(type="text", text="brief."))),
        ChatTurn(
            role="user",
            parts=(
                ChatPart(type="text", text="See: "),
                ChatPart(type="text", text="# Note"),
                ChatPart(type="file", file_id=picture.identifier, file_type="image"),
            ),
        ),
        ChatTurn(
            role="assistant", parts=(ChatPart(type="toolCallRequest", call_id="c", name="zoom", arguments={"x": 2}),)
        ),
        ChatTurn(
            role="tool",
            parts=(
                ChatPart(type="toolCallResult", call_id="c", text="ok", name="zoom"),
                ChatPart(type="toolCallResult", call_id="d", text="no"),
            ),
        ),
    ]
    system, user, assistant, first, second = chat_messages(turns, files)
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["text", "text", "image_url"]
    assert user["content"][1]["text"] == "# Note"
    call = {"type": "function", "id": "c", "function": {"name": "zoom", "arguments": '{"x": 2}'}}
    assert assistant == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert first == {"role": "tool", "content": "ok", "tool_call_id": "c", "name": "zoom"}
    assert second == {"role": "tool", "content": "no", "tool_call_id": "d"}
    assert image_bytes(turns, files) == [PNG]


def test_a_file_nobody_uploaded_is_an_error() -> None:
    turns = [ChatTurn(role="user", parts=(ChatPart(type="file", file_id="f-1", file_type="image"),))]
    for files in (None, FileStore()):
        with pytest.raises(EngineFault, match="f-1") as caught:
            image_bytes(turns, files)
        assert caught.value.kind == "not_found"
