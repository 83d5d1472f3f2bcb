"""Sessions: multiplexing, ordered frames, one end for every channel, and nothing left running when the client goes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lmstrix.engine.access import ClientIdentity
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.protocol import session, wire
from lmstrix.engine.protocol.session import EndpointNamespace, RpcRequest, ServerChannel, Session
from lmstrix.engine.records import FragmentEvent


class Recorder:
    """A socket that keeps what is sent; `gone` makes it fail as a closed one does."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.gone = False

    async def send_str(self, data: str) -> None:
        if self.gone:
            raise ConnectionResetError("Cannot write to closing transport")
        self.frames.append(json.loads(data))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == kind]


class Rig:
    """A session with endpoints that do what tests need."""

    def __init__(self) -> None:
        self.socket = Recorder()
        self.cancelled = asyncio.Event()
        self.log: list[str] = []
        calls = {"echo": self.echo, "void": self.void, "null": self.null, "fail": self.fail, "break": self.break_}
        channels = {
            "count": self.count,
            "wait": self.wait,
            "fault": self.fault,
            "broken": self.broken,
            "tokens": self.tokens,
        }
        namespace = EndpointNamespace(calls=calls, channels=channels)
        client = ClientIdentity(identifier="guest", passkey="")
        self.session = Session(self.socket, namespace, client, self.log.append)

    async def echo(self, call: RpcRequest) -> object:
        for _ in range(call.parameter.get("turns", 0)):
            await asyncio.sleep(0)
        return dict(call.parameter)

    async def void(self, _call: RpcRequest) -> object:
        return wire.ABSENT

    async def null(self, _call: RpcRequest) -> object:
        return None

    async def fail(self, _call: RpcRequest) -> object:
        raise EngineFault("no such thing", kind="not_found")

    async def break_(self, _call: RpcRequest) -> object:
        raise ZeroDivisionError

    async def count(self, channel: ServerChannel) -> None:
        for number in range(channel.parameter.get("to", 3)):
            await channel.send({"type": "number", "number": number})
            await asyncio.sleep(0)

    async def tokens(self, channel: ServerChannel) -> None:
        for number in range(3):
            await channel.send_fragment(FragmentEvent(text=f"{number} ", tokens_count=1), tokens=False)

    async def wait(self, channel: ServerChannel) -> None:
        try:
            await channel.stopped.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        await channel.send({"type": "stopped"})

    async def fault(self, channel: ServerChannel) -> None:
        await channel.send({"type": "begun"})
        raise EngineFault("halfway", kind="internal")

    async def broken(self, _channel: ServerChannel) -> None:
        raise ZeroDivisionError

    async def say(self, **frame: Any) -> None:
        await self.session.receive(json.dumps(frame))

    async def settled(self) -> list[dict[str, Any]]:
        """What was sent once every task had as many turns as it could want; no clock decides."""
        for _ in range(300):
            await asyncio.sleep(0)
        return self.socket.frames


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_a_call_is_answered(rig: Rig) -> None:
    await rig.say(type="rpcCall", endpoint="echo", callId=0, parameter={"a": 1})
    assert await rig.settled() == [{"type": "rpcResult", "callId": 0, "result": {"a": 1}}]


async def test_void_and_null_results_differ(rig: Rig) -> None:
    await rig.say(type="rpcCall", endpoint="void", callId=1)
    await rig.say(type="rpcCall", endpoint="null", callId=2, parameter=None)
    assert await rig.settled() == [
        {"type": "rpcResult", "callId": 1},
        {"type": "rpcResult", "callId": 2, "result": None},
    ]


async def test_a_slow_call_holds_up_no_other(rig: Rig) -> None:
    await rig.say(type="rpcCall", endpoint="echo", callId=1, parameter={"turns": 50})
    await rig.say(type="rpcCall", endpoint="echo", callId=2, parameter={})
    assert [frame["callId"] for frame in (await rig.settled())] == [2, 1]


async def test_faults_and_bugs_become_errors(rig: Rig) -> None:
    await rig.say(type="rpcCall", endpoint="fail", callId=1)
    await rig.say(type="rpcCall", endpoint="break", callId=2)
    await rig.say(type="rpcCall", endpoint="echo", callId=3, parameter=[1])
    titles = [frame["error"]["title"] for frame in await rig.settled()]
    assert titles == [
        "no such thing",
        "Internal error of the embedded engine.",
        "A parameter must be an object, not list.",
    ]
    assert "stack" not in json.dumps(rig.socket.frames)


async def test_a_channel_and_a_call_may_share_an_id(rig: Rig) -> None:
    await rig.say(type="channelCreate", endpoint="count", channelId=0, creationParameter={"to": 2})
    await rig.say(type="rpcCall", endpoint="echo", callId=0, parameter={})
    await rig.settled()
    numbers = [frame["message"]["number"] for frame in rig.socket.of("channelSend")]
    assert numbers == [0, 1]
    assert rig.socket.of("channelClose") == [{"type": "channelClose", "channelId": 0}]
    assert rig.socket.of("rpcResult") == [{"type": "rpcResult", "callId": 0, "result": {}}]


async def test_channels_run_side_by_side_each_in_order(rig: Rig) -> None:
    for channel_id in range(20):
        await rig.say(type="channelCreate", endpoint="count", channelId=channel_id, creationParameter={"to": 30})
    await rig.settled()
    for channel_id in range(20):
        mine = [frame for frame in rig.socket.frames if frame["channelId"] == channel_id]
        assert [frame["message"]["number"] for frame in mine[:-1]] == list(range(30))
        assert mine[-1]["type"] == "channelClose"
    assert len(rig.socket.of("channelClose")) == 20


async def test_fragments_keep_their_order(rig: Rig) -> None:
    await rig.say(type="channelCreate", endpoint="tokens", channelId=4)
    await rig.settled()
    contents = [frame["message"]["fragment"]["content"] for frame in rig.socket.of("channelSend")]
    assert contents == ["0 ", "1 ", "2 "]


@pytest.mark.parametrize("endpoint", ["fault", "broken"])
async def test_a_failed_channel_ends_once(rig: Rig, endpoint: str) -> None:
    await rig.say(type="channelCreate", endpoint=endpoint, channelId=1)
    await rig.settled()
    assert len(rig.socket.of("channelError")) == 1
    assert rig.socket.of("channelClose") == []
    assert rig.socket.frames[-1]["type"] == "channelError"


@pytest.mark.parametrize("word", ["cancel", "stop"])
async def test_the_word_to_stop_reaches_the_channel(rig: Rig, word: str) -> None:
    await rig.say(type="channelCreate", endpoint="wait", channelId=1)
    await rig.say(type="channelSend", channelId=1, message={"type": "something else"})
    assert await rig.settled() == []
    await rig.say(type="channelSend", channelId=1, message={"type": word})
    assert [frame["type"] for frame in await rig.settled()] == ["channelSend", "channelClose"]
    await rig.say(type="channelSend", channelId=1, message={"type": word})  # late: the channel is gone
    assert len(await rig.settled()) == 2


async def test_stopping_before_anyone_listens_is_not_lost() -> None:
    channel = ServerChannel(Recorder(), 1, ClientIdentity(identifier="a", passkey=""), {})
    channel.receive({"type": "cancel"})
    heard = []
    channel.on_stop(lambda: heard.append(True))
    assert heard == [True]


async def test_an_open_channel_is_not_opened_again(rig: Rig) -> None:
    await rig.say(type="channelCreate", endpoint="wait", channelId=1)
    await rig.say(type="channelCreate", endpoint="wait", channelId=1)
    assert [frame["kind"] for frame in await rig.settled()] == ["channelAlreadyOpen"]
    await rig.session.close()


async def test_unknown_endpoints_get_a_warning_and_an_error(rig: Rig) -> None:
    await rig.say(type="rpcCall", endpoint="future", callId=0)
    await rig.say(type="channelCreate", endpoint="future", channelId=0)
    await rig.say(type="signalSubscribe", endpoint="future", subscribeId=0)
    await rig.say(type="writableSignalSubscribe", endpoint="future", subscribeId=1)
    kinds = [(frame["type"], frame.get("kind")) for frame in await rig.settled()]
    assert kinds == [
        ("communicationWarning", "rpcEndpointUnknown"),
        ("rpcError", None),
        ("communicationWarning", "channelEndpointUnknown"),
        ("channelError", None),
        ("signalError", None),
        ("writableSignalError", None),
    ]


async def test_warnings_are_few_but_errors_always_come(rig: Rig) -> None:
    for call_id in range(8):
        await rig.say(type="rpcCall", endpoint="future", callId=call_id)
    await rig.session.receive("not json")
    assert len(rig.socket.of("communicationWarning")) == 5
    assert len(rig.socket.of("rpcError")) == 8


async def test_keep_alive_is_answered_and_warnings_are_logged(rig: Rig) -> None:
    await rig.say(type="keepAlive")
    await rig.say(type="communicationWarning", warning="bad packet")
    await rig.say(type="channelAck", channelId=1, ackId=1)
    assert await rig.settled() == [{"type": "keepAliveAck"}]
    assert any("bad packet" in line for line in rig.log)


async def test_a_client_that_goes_takes_its_work_along(rig: Rig) -> None:
    await rig.say(type="channelCreate", endpoint="wait", channelId=1)
    await asyncio.sleep(0)
    await rig.session.close()
    assert rig.cancelled.is_set()
    assert rig.socket.frames == []


async def test_writing_to_a_client_that_is_gone_is_no_failure(rig: Rig) -> None:
    rig.socket.gone = True
    await rig.say(type="channelCreate", endpoint="count", channelId=1)
    await rig.say(type="rpcCall", endpoint="echo", callId=1)
    assert await rig.settled() == []
    await rig.session.close()


async def test_only_so_many_calls_run_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LIMITS", session.SessionLimits(calls=3))
    for number in range(5):
        await rig.say(type="channelCreate", endpoint="wait", channelId=number)
    await rig.say(type="rpcCall", endpoint="echo", callId=9)
    await rig.settled()
    assert [frame["channelId"] for frame in rig.socket.of("channelError")] == [3, 4]
    assert "3 calls are under way" in rig.socket.of("channelError")[0]["error"]["title"]
    assert [frame["callId"] for frame in rig.socket.of("rpcError")] == [9]
    # One that ends makes room.
    await rig.say(type="channelSend", channelId=0, message={"type": "cancel"})
    await rig.settled()
    await rig.say(type="rpcCall", endpoint="echo", callId=10)
    await rig.settled()
    assert [frame["callId"] for frame in rig.socket.of("rpcResult")] == [10]
    await rig.session.close()


async def test_only_so_many_characters_are_under_way(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LIMITS", session.SessionLimits(characters=5000))
    # One that is alone may have any length, as every message has a limit of its own.
    await rig.say(type="channelCreate", endpoint="wait", channelId=0, creationParameter={"text": "x" * 6000})
    await rig.say(type="channelCreate", endpoint="wait", channelId=1)
    await rig.settled()
    assert [frame["channelId"] for frame in rig.socket.of("channelError")] == [1]
    assert "does too much at once" in rig.socket.frames[-1]["error"]["title"]
    await rig.say(type="channelSend", channelId=0, message={"type": "cancel"})
    await rig.settled()
    await rig.say(type="channelCreate", endpoint="count", channelId=2)
    await rig.settled()
    assert rig.socket.of("channelClose")[-1]["channelId"] == 2
    await rig.session.close()
