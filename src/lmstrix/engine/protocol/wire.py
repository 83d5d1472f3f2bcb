"""The frames of LM Studio's websocket protocol: text in, records out, and back. Pure.

Ids are scoped to one socket and to one kind (calls and channels count apart in some SDKs, together in others), and 0 is
an id like any other. Clients validate what they get and drop a frame they do not understand without a word, so what a
frame may leave out is left out (never null), and an error always has a title and a rootTitle, never a stack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quote
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from lmstrix.engine.access import ClientIdentity
from lmstrix.engine.json_text import JsonTextError, read_json

if TYPE_CHECKING:
    from lmstrix.engine.faults import EngineFault
    from lmstrix.engine.records import FragmentEvent

Json: TypeAlias = Mapping[str, Any] | Sequence[Any] | str | int | float | bool | None
MAX_IDENTITY_LENGTH = 256
_END_CHARACTERS: Final = 1000


class FrameError(ValueError):
    """A frame that is not one of ours; the message says why, for the warning sent back."""


class _Absent:
    """The value of a field that is not there, where None would mean null."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcCall:
    """A call that wants one answer."""

    endpoint: str
    call_id: int
    parameter: Json | _Absent = ABSENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelCreate:
    """A call that wants a stream of packets."""

    endpoint: str
    channel_id: int
    parameter: Json | _Absent = ABSENT


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableCall:
    """A call or a channel whose frame cannot be taken: its id is all that was made out, so that it can be refused."""

    kind: Literal["rpcCall", "channelCreate"]
    id: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSend:
    """A packet for an open channel, such as a cancel."""

    channel_id: int
    message: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSubscribe:
    """A subscription to a value; this engine has none, so it is refused in the frame `error_type` names."""

    endpoint: str
    subscribe_id: int
    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """Wants a keepAliveAck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientWarning:
    """The client did not understand what it was sent: a fault of ours, to be logged."""

    warning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A frame that needs no answer (acknowledgements, the end of a subscription)."""


Frame: TypeAlias = (
    RpcCall
    | ChannelCreate
    | UnreadableCall
    | ChannelSend
    | SignalSubscribe
    | KeepAlive
    | ClientWarning
    | Ignored  # of a client
)
_IGNORED = frozenset(
    {"channelAck", "signalUnsubscribe", "writableSignalUnsubscribe", "writableSignalUpdate", "keepAliveAck"}
)


def parse_auth(text: str) -> ClientIdentity:
    """The authentication frame, or FrameError."""
    found = _read_object(text)
    version = found.get("authVersion")
    # True equals 1 in Python, and only there.
    if version != 1 or isinstance(version, bool):
        raise FrameError("expected an authentication frame with authVersion 1")
    identifier, passkey = found.get("clientIdentifier"), found.get("clientPasskey")
    for name, value in (("clientIdentifier", identifier), ("clientPasskey", passkey)):
        if not isinstance(value, str) or len(value) > MAX_IDENTITY_LENGTH:
            raise FrameError(f"{name} must be text of at most {MAX_IDENTITY_LENGTH} characters")
    assert isinstance(identifier, str)
    assert isinstance(passkey, str)
    return ClientIdentity(identifier=identifier, passkey=passkey)


def parse_frame(text: str) -> Frame:
    """One frame of an authenticated client, or FrameError."""
    try:
        found = _read_object(text)
    except FrameError as exc:
        # Without an answer, whoever made the call would wait for one until it times out.
        call = _unreadable_call(text, str(exc))
        if call is None:
            raise
        return call
    kind = found.get("type")
    match kind:
        case "rpcCall":
            return RpcCall(
                endpoint=_text_field(found, "endpoint"),
                call_id=_integer_field(found, "callId"),
                parameter=found.get("parameter", ABSENT),
            )
        case "channelCreate":
            return ChannelCreate(
                endpoint=_text_field(found, "endpoint"),
                channel_id=_integer_field(found, "channelId"),
                parameter=found.get("creationParameter", ABSENT),
            )
        case "channelSend":
            return ChannelSend(channel_id=_integer_field(found, "channelId"), message=found.get("message"))
        case "signalSubscribe" | "writableSignalSubscribe":
            return SignalSubscribe(
                endpoint=_text_field(found, "endpoint"),
                subscribe_id=_integer_field(found, "subscribeId"),
                error_type="signalError" if kind == "signalSubscribe" else "writableSignalError",
            )
        case "keepAlive":
            return KeepAlive()
        case "communicationWarning":
            return ClientWarning(warning=str(found.get("warning", "")))
        case str() if kind in _IGNORED:
            return Ignored()
    raise FrameError(f"unknown frame type {kind!r}")


def _read_object(text: str) -> dict[str, Any]:
    try:
        found = read_json(text)
    except JsonTextError as exc:
        raise FrameError(f"a frame must be JSON that can be read: {exc}") from exc
    if not isinstance(found, dict):
        raise FrameError("a frame must be a JSON object")
    return found


def _unreadable_call(text: str, why: str) -> UnreadableCall | None:
    """The call that `text` would make, told by its ends: the fields of a frame stand before or after its parameter."""
    ends = text[:_END_CHARACTERS] + text[-_END_CHARACTERS:]
    for kind, name in (("rpcCall", "callId"), ("channelCreate", "channelId")):
        found = re.search(rf'"{name}"\s*:\s*(\d{{1,15}})\b', ends)
        if found and re.search(rf'"type"\s*:\s*"{kind}"', ends):
            return UnreadableCall(kind=kind, id=int(found[1]), why=why)  # type: ignore[arg-type]  # one of the two
    return None


def _text_field(frame: Mapping[str, Any], name: str) -> str:
    value = frame.get(name)
    if not isinstance(value, str):
        raise FrameError(f"{name} must be text")
    return value


def _integer_field(frame: Mapping[str, Any], name: str) -> int:
    value = frame.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FrameError(f"{name} must be an integer")
    return value


def serialized_error(fault: EngineFault) -> dict[str, Any]:
    """A failure as clients read it; members nobody set are absent."""
    members = {
        "cause": fault.cause,
        "suggestion": fault.suggestion,
        "errorData": fault.error_data,
        "displayData": fault.display_data,
    }
    present = {name: value for name, value in members.items() if value is not None}
    return {"title": fault.title, "rootTitle": fault.title, **present}


def _dump(frame: Mapping[str, Any]) -> str:
    # NaN and Infinity are no JSON: better an error here, with a traceback, than a frame a client drops.
    return json.dumps(frame, separators=(",", ":"), allow_nan=False)


def auth_result(error: str | None = None) -> str:
    """The answer to the authentication frame; `error` refuses."""
    return _dump({"success": True} if error is None else {"success": False, "error": error})


def rpc_result(call_id: int, result: Json | _Absent) -> str:
    """The answer to a call; an ABSENT result has no such field."""
    frame: dict[str, Any] = {"type": "rpcResult", "callId": call_id}
    if not isinstance(result, _Absent):
        frame["result"] = result
    return _dump(frame)


def rpc_error(call_id: int, fault: EngineFault) -> str:
    """The failure of a call."""
    return _dump({"type": "rpcError", "callId": call_id, "error": serialized_error(fault)})


def channel_send(channel_id: int, message: Mapping[str, Any]) -> str:
    """One packet of a channel."""
    return _dump({"type": "channelSend", "channelId": channel_id, "message": message})


def channel_fragment(channel_id: int, event: FragmentEvent, tokens: bool = False) -> str:
    """A packet with generated text: what `channel_send` would make, put together by hand: one per token."""
    extra = f',"tokens":{json.dumps(list(event.tokens), separators=(",", ":"))}' if tokens else ""
    return (
        f'{{"type":"channelSend","channelId":{channel_id},"message":{{"type":"fragment","fragment":{{"content":'
        f'{_quote(event.text)},"tokensCount":{event.tokens_count},"containsDrafted":false,"reasoningType":'
        f'"{event.reasoning_type}","isStructural":{"true" if event.structural else "false"}{extra}}}}}}}'
    )


def channel_close(channel_id: int) -> str:
    """The regular end of a channel."""
    return _dump({"type": "channelClose", "channelId": channel_id})


def channel_error(channel_id: int, fault: EngineFault) -> str:
    """The failed end of a channel."""
    return _dump({"type": "channelError", "channelId": channel_id, "error": serialized_error(fault)})


def signal_error(subscription: SignalSubscribe, fault: EngineFault) -> str:
    """The refusal of a subscription."""
    error = serialized_error(fault)
    return _dump({"type": subscription.error_type, "subscribeId": subscription.subscribe_id, "error": error})


def warning(text: str, kind: str = "unknown") -> str:
    """A complaint about the client's last frame."""
    return _dump({"type": "communicationWarning", "warning": text, "kind": kind})


KEEP_ALIVE_ACK: Final = _dump({"type": "keepAliveAck"})
