"""Frames: what is read, what is refused, and that nothing optional is ever null."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.engine.access import ClientIdentity
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.protocol import wire
from lmstrix.engine.records import FragmentEvent

ids = st.integers(min_value=0, max_value=2**53)
texts = st.text(max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def test_auth_frame() -> None:
    text = '{"authVersion":1,"clientIdentifier":"guest:a","clientPasskey":"b","extra":0}'
    assert wire.parse_auth(text) == ClientIdentity(identifier="guest:a", passkey="b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"authVersion":2,"clientIdentifier":"a","clientPasskey":"b"}',
        '{"authVersion":true,"clientIdentifier":"a","clientPasskey":"b"}',
        '{"authVersion":1,"clientIdentifier":"a"}',
        '{"authVersion":1,"clientIdentifier":7,"clientPasskey":"b"}',
        json.dumps({"authVersion": 1, "clientIdentifier": "a" * 257, "clientPasskey": "b"}),
        "[" * 100_000,
    ],
)
def test_bad_auth_frames(text: str) -> None:
    with pytest.raises(wire.FrameError):
        wire.parse_auth(text)


def test_identity_may_be_256_characters_long() -> None:
    frame = {"authVersion": 1, "clientIdentifier": "a" * 256, "clientPasskey": "b" * 256}
    assert len(wire.parse_auth(json.dumps(frame)).identifier) == 256


@given(call_id=ids, endpoint=texts, parameter=json_values)
def test_a_call_keeps_its_id_and_parameter(call_id: int, endpoint: str, parameter: Any) -> None:
    frame = {"type": "rpcCall", "endpoint": endpoint, "callId": call_id, "parameter": parameter}
    expected = wire.RpcCall(endpoint=endpoint, call_id=call_id, parameter=parameter)
    assert wire.parse_frame(json.dumps(frame)) == expected


def test_an_absent_parameter_is_not_null() -> None:
    frame = wire.parse_frame('{"type":"rpcCall","endpoint":"listLoaded","callId":0}')
    assert isinstance(frame, wire.RpcCall)
    assert frame.parameter is wire.ABSENT
    assert frame.call_id == 0


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        (
            '{"type":"channelCreate","endpoint":"predict","channelId":0,"creationParameter":{"a":1}}',
            wire.ChannelCreate(endpoint="predict", channel_id=0, parameter={"a": 1}),
        ),
        (
            '{"type":"channelSend","channelId":3,"ackId":9,"message":{"type":"cancel"}}',
            wire.ChannelSend(channel_id=3, message={"type": "cancel"}),
        ),
        ('{"type":"keepAlive"}', wire.KeepAlive()),
        ('{"type":"communicationWarning","warning":"w","kind":"unknown"}', wire.ClientWarning(warning="w")),
        ('{"type":"channelAck","channelId":1,"ackId":2}', wire.Ignored()),
        (
            '{"type":"writableSignalSubscribe","endpoint":"x","subscribeId":4}',
            wire.SignalSubscribe(endpoint="x", subscribe_id=4, error_type="writableSignalError"),
        ),
    ],
)
def test_other_frames(text: str, frame: wire.Frame) -> None:
    assert wire.parse_frame(text) == frame


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[1]",
        '{"type":"rpcCall","endpoint":"a"}',
        '{"type":"rpcCall","endpoint":"a","callId":"1"}',
        '{"type":"rpcCall","endpoint":"a","callId":true}',
        '{"type":"rpcCall","endpoint":"a","callId":1.5}',
        '{"type":"rpcCall","endpoint":null,"callId":1}',
        '{"type":"channelSend","message":{}}',
        '{"type":["rpcCall"]}',
        '{"type":"made up"}',
        "{}",
    ],
)
def test_bad_frames(text: str) -> None:
    with pytest.raises(wire.FrameError):
        wire.parse_frame(text)


@given(st.text(max_size=200) | json_values.map(json.dumps))
def test_no_text_breaks_the_parser(text: str) -> None:
    for parse in (wire.parse_frame, wire.parse_auth):
        try:
            parse(text)
        except wire.FrameError:
            continue


def test_a_void_result_is_absent_and_a_null_one_is_null() -> None:
    assert json.loads(wire.rpc_result(0, wire.ABSENT)) == {"type": "rpcResult", "callId": 0}
    assert json.loads(wire.rpc_result(0, None)) == {"type": "rpcResult", "callId": 0, "result": None}


@given(call_id=ids, result=json_values)
def test_results_round_trip(call_id: int, result: Any) -> None:
    assert json.loads(wire.rpc_result(call_id, result)) == {"type": "rpcResult", "callId": call_id, "result": result}


def test_an_error_has_both_titles_and_no_stack() -> None:
    fault = EngineFault("Too long.", kind="overflow", error_data={"contextLength": 5})
    assert json.loads(wire.channel_error(2, fault)) == {
        "type": "channelError",
        "channelId": 2,
        "error": {"title": "Too long.", "rootTitle": "Too long.", "errorData": {"contextLength": 5}},
    }
    full = EngineFault("a", kind="internal", cause="b", suggestion="c", display_data={"code": "d"})
    assert json.loads(wire.rpc_error(0, full))["error"] == {
        "title": "a",
        "rootTitle": "a",
        "cause": "b",
        "suggestion": "c",
        "displayData": {"code": "d"},
    }


@given(channel_id=ids, text=st.text(), count=st.integers(0, 99), structural=st.booleans())
def test_a_fragment_is_what_the_general_frame_would_be(
    channel_id: int, text: str, count: int, structural: bool
) -> None:
    token = {"text": text, "id": 7, "logProb": -0.5}
    event = FragmentEvent(
        text=text, tokens_count=count, structural=structural, reasoning_type="reasoning", tokens=(token,)
    )
    fragment = {
        "content": text,
        "tokensCount": count,
        "containsDrafted": False,
        "reasoningType": "reasoning",
        "isStructural": structural,
    }
    plain = wire.channel_send(channel_id, {"type": "fragment", "fragment": fragment})
    assert wire.channel_fragment(channel_id, event) == plain
    with_tokens = wire.channel_send(channel_id, {"type": "fragment", "fragment": {**fragment, "tokens": [token]}})
    assert wire.channel_fragment(channel_id, event, tokens=True) == with_tokens


def test_frames_without_content() -> None:
    assert json.loads(wire.channel_close(0)) == {"type": "channelClose", "channelId": 0}
    assert json.loads(wire.auth_result()) == {"success": True}
    assert json.loads(wire.auth_result("no")) == {"success": False, "error": "no"}
    assert json.loads(wire.KEEP_ALIVE_ACK) == {"type": "keepAliveAck"}
    assert json.loads(wire.warning("w", "rpcUnknown"))["kind"] == "rpcUnknown"
    subscription = wire.SignalSubscribe(endpoint="x", subscribe_id=0, error_type="signalError")
    refused = json.loads(wire.signal_error(subscription, EngineFault("no", kind="unsupported")))
    assert (refused["type"], refused["subscribeId"], refused["error"]["title"]) == ("signalError", 0, "no")
