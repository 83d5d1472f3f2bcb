"""Requests with mistakes in them, made from right ones: any value replaced, dropped or doubled, for every interface.

A seed gives the same requests every time. `ask` sends one and says how it was answered; an engine answers all of them,
and none with an internal error.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from tests.engine.raw_client import GUEST, chat, prediction, query, stack

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL: Final = "scripted"
ANSWER_TIMEOUT_S: Final = 60.0
_SCHEMA: Final = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 3}},
    "required": ["a"],
}
_TOOLS: Final = [
    {"type": "function", "function": {"name": "f", "description": "d", "parameters": copy.deepcopy(_SCHEMA)}}
]
_MESSAGES: Final = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "2+3="}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}}],
    },
    {"role": "tool", "tool_call_id": "c", "name": "f", "content": "1"},
]
_SAMPLING: Final = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.1,
    "repeat_penalty": 1.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "seed": 1,
    "logit_bias": {"5": 1.0},
    "stop": ["x"],
}
_OPENAI: Final[dict[str, dict[str, Any]]] = {
    "/chat/completions": {
        "model": MODEL,
        "messages": _MESSAGES,
        "max_tokens": 1,
        "stream": False,
        "stream_options": {"include_usage": True},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": _SCHEMA}},
        "reasoning_effort": "low",
        **_SAMPLING,
    },
    "/completions": {"model": MODEL, "prompt": "2+3=", "max_tokens": 1, "n": 1, "echo": False, **_SAMPLING},
    "/embeddings": {"model": "text-embedding-embed", "input": ["hi"], "encoding_format": "base64"},
}
_WITH_TOOLS: Final = {
    "model": MODEL,
    "messages": _MESSAGES[:2],
    "max_tokens": 1,
    "tools": _TOOLS,
    "tool_choice": {"type": "function", "function": {"name": "f"}},
}
_REST: Final[dict[str, dict[str, Any]]] = {
    **{f"/{family}{path}": body for family in ("v1", "api/v0") for path, body in _OPENAI.items()},
    "/v1/chat/completions?": _WITH_TOOLS,
    "/api/v1/chat": {
        "model": MODEL,
        "input": [{"type": "message", "content": "2+3="}],
        "system_prompt": "Be brief.",
        "previous_response_id": None,
        "max_output_tokens": 1,
        "reasoning": "off",
        "context_length": 4096,
        "store": True,
        **{name: value for name, value in _SAMPLING.items() if name not in ("logit_bias", "stop")},
    },
    # A model of which there is none: a wrong load must not become a real one by chance.
    "/api/v1/models/load": {"model": "none", "context_length": 512, "flash_attention": True, "echo_load_config": True},
    "/api/v1/models/unload": {"instance_id": "none"},
}
_TEMPLATE: Final = {
    "type": "jinja",
    "jinjaPromptTemplate": {"template": "{{ messages[0].content }}"},
    "stopStrings": [],
}
_PREDICTION: Final = prediction(
    MODEL,
    "2+3=",
    maxPredictedTokens={"checked": True, "value": 1},
    temperature=0.5,
    topKSampling=40,
    topPSampling={"checked": True, "value": 0.9},
    repeatPenalty={"checked": True, "value": 1.1},
    seed={"checked": True, "value": 1},
    logProbs={"checked": True, "value": 1},
    stopStrings=["x"],
    structured={"type": "json", "jsonSchema": _SCHEMA},
    contextOverflowPolicy="stopAtLimit",
    toolChoice={"type": "generic", "mode": "auto"},
    toolNaming="passThrough",
    systemPrompt="Be brief.",
    promptTemplate=_TEMPLATE,
    **{
        "reasoning.parsing": {"enabled": True, "startString": "<a>", "endString": "</a>"},
        "llama.mirostatSampling": {"version": 1, "learningRate": 0.1, "targetEntropy": 5},
        "llama.logitBias": [[5, 1.0]],
    },
)
_GRAMMAR: Final = prediction(
    MODEL,
    "2+3=",
    maxPredictedTokens={"checked": True, "value": 1},
    structured={"type": "gbnf", "gbnfGrammar": 'root ::= "a"{3} | [a-z]+'},
)
_WIRE_TOOLS: Final = prediction(
    MODEL, "2+3=", maxPredictedTokens={"checked": True, "value": 1}, tools={"type": "toolArray", "tools": _TOOLS}
)
_PARTS: Final = {
    "messages": [
        *chat("hi")["messages"],
        {"role": "user", "content": [{"type": "file", "identifier": "f-0", "fileType": "image", "name": "a.png"}]},
        {
            "role": "assistant",
            "content": [{"type": "toolCallRequest", "toolCallRequest": {"id": "c", "name": "f", "arguments": {}}}],
        },
        {"role": "tool", "content": [{"type": "toolCallResult", "toolCallId": "c", "content": "1"}]},
    ]
}
_LOAD: Final = {
    "modelKey": "none",
    "identifier": "none",
    "ttlMs": 1000,
    "loadConfigStack": stack(
        {
            "llm.load.contextLength": 512,
            "llm.load.llama.kCacheQuantizationType": {"checked": True, "value": "q8_0"},
            "llm.load.llama.acceleration.offloadRatio": "max",
            "llm.load.seed": {"checked": True, "value": 1},
            "llm.load.promptTemplate": _TEMPLATE,
        }
    ),
}
_WIRE: Final[list[tuple[str, str, str, Any]]] = [
    ("llm", "channelCreate", "predict", _PREDICTION),
    ("llm", "channelCreate", "predict", _GRAMMAR),
    ("llm", "channelCreate", "predict", _WIRE_TOOLS),
    ("llm", "channelCreate", "completeRawText", {**_PREDICTION, "rawPrompt": "2+3="}),
    ("llm", "channelCreate", "loadModel", _LOAD),
    ("llm", "channelCreate", "getOrLoad", {**_LOAD, "loadTtlMs": 1000}),
    (
        "llm",
        "rpcCall",
        "applyPromptTemplate",
        {
            "specifier": query(MODEL),
            "history": _PARTS,
            "predictionConfigStack": stack({}),
            "opts": {"omitBosToken": True, "toolDefinitions": _TOOLS},
        },
    ),
    ("llm", "rpcCall", "tokenize", {"specifier": query(MODEL), "inputString": "hi"}),
    ("llm", "rpcCall", "countTokens", {"specifier": query(MODEL), "inputString": "hi"}),
    ("llm", "rpcCall", "getModelInfo", {"specifier": query(MODEL), "throwIfNotFound": False}),
    ("llm", "rpcCall", "getLoadConfig", {"specifier": {"type": "instanceReference", "instanceReference": "i-0"}}),
    ("llm", "rpcCall", "estimateModelUsage", {**_LOAD, "modelKey": MODEL}),
    ("llm", "rpcCall", "unloadModel", {"identifier": "none"}),
    ("embedding", "rpcCall", "embedString", {"modelSpecifier": query("none"), "inputString": "hi"}),
    ("system", "rpcCall", "notify", {"title": "a", "description": "b", "noAutoDismiss": True}),
    ("system", "rpcCall", "setExperimentFlag", {"code": "a", "value": True}),
    ("system", "rpcCall", "listDownloadedModelVariants", {"modelKey": MODEL}),
    ("files", "rpcCall", "uploadFileBase64", {"name": "a.txt", "contentBase64": "aGk="}),
    ("files", "channelCreate", "parseDocument", {"fileIdentifier": "f-0"}),
    ("repository", "rpcCall", "searchModels", {"opts": {"searchTerm": "a", "limit": 1}}),
]
_WRONG: Final[tuple[Any, ...]] = (
    *(None, True, False, -1, 0, 1, 2**31, 2**32, 2**63, 2**64, 10**40, -(10**40), 10**400, -1.5, 1e30, 1e38, 1e308),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "²", "1", "-1", "\ud800", "a\udfffb", "\0", "😀", "x" * 5000),
    *([], [[]], {}, [None], {"": None}, {"type": []}, [1, "a", None], [{}], {"\ud800": 1}, {"minItems": 10**9}),
    *({"type": "array", "items": {}, "maxItems": 1e9}, {"$ref": "#"}, {"pattern": "(" * 300}, {"enum": []}),
    *("{% for a in range(9) %}", "{{ 'a' * 99999999999 }}", 'root ::= "a"{1000000}', "root ::= root", "data:;base64,%"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongRequest:
    """What is sent where: to a path of REST, or to an endpoint of a namespace of the wire."""

    place: str
    namespace: str | None
    kind: str
    text: str


def wrong_requests(seed: int) -> Iterator[WrongRequest]:
    """Requests without end."""
    chance = random.Random(seed)
    while True:
        if chance.random() < 0.5:
            path, body = chance.choice(list(_REST.items()))
            text = _damaged_text(chance, json.dumps(_damaged(chance, body)))
            yield WrongRequest(place=path, namespace=None, kind="POST", text=text)
        else:
            namespace, kind, endpoint, parameter = chance.choice(_WIRE)
            text = json.dumps(_damaged(chance, parameter))
            yield WrongRequest(place=endpoint, namespace=namespace, kind=kind, text=text)


def _damaged(chance: random.Random, right: Any) -> Any:
    wrong = copy.deepcopy(right)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        wrong = _with_mistake(chance, wrong)
    return wrong


def _with_mistake(chance: random.Random, value: Any) -> Any:
    """`value` with a mistake at one of its places, each as likely as the others."""
    places = list(_places(value))
    if not places or chance.random() < 0.02:
        return copy.deepcopy(chance.choice(_WRONG))
    parent, place = chance.choice(places)
    fate = chance.random()
    if fate < 0.1:
        del parent[place]
    elif fate < 0.15 and isinstance(parent, list):
        parent.extend(copy.deepcopy([parent[place]] * 3))
    else:
        wrong = copy.deepcopy(chance.choice(_WRONG))
        parent[place] = _nested(chance, wrong) if chance.random() < 0.03 else wrong
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) in it."""
    if isinstance(value, dict | list):
        for place in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, place
            yield from _places(value[place])


def _nested(chance: random.Random, value: Any) -> Any:
    for _ in range(chance.choice((20, 70, 100, 200))):
        value = [value] if chance.random() < 0.5 else {"items": value}
    return value


def _damaged_text(chance: random.Random, text: str) -> str:
    """Now and then a text that is no JSON at all."""
    if chance.random() > 0.02:
        return text
    place = chance.randrange(len(text))
    return text[:place] + chance.choice(["", "{", "[" * 100_000, "\0", "NaN", "\\ud800", '"']) + text[place + 1 :]


class Asker:
    """Sends wrong requests to the engine at `address`, on sockets that stay open."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._address = address
        self._session = session
        self._sockets: dict[str, aiohttp.ClientWebSocketResponse] = {}
        self._number = 0

    async def ask(self, request: WrongRequest) -> str | None:
        """None when it was answered as it should be, else what was wrong with the answer."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        if request.namespace is None:
            url = f"http://{self._address}{request.place}"
            async with self._session.post(url, data=request.text.encode(), timeout=timeout) as answer:
                text = await answer.text()
            return f"{answer.status} {text[:500]}" if answer.status >= 500 or "nternal error" in text else None
        return await self._ask_socket(request)

    async def _ask_socket(self, request: WrongRequest) -> str | None:
        assert request.namespace is not None
        socket = await self._socket(request.namespace)
        self._number += 1
        is_call = request.kind == "rpcCall"
        id_name, field = ("callId", "parameter") if is_call else ("channelId", "creationParameter")
        head = {"type": request.kind, "endpoint": request.place, id_name: self._number}
        await socket.send_str(f'{json.dumps(head)[:-1]}, "{field}": {request.text}}}')
        while True:
            frame = json.loads(await socket.receive_str(timeout=ANSWER_TIMEOUT_S))
            if frame.get(id_name) != self._number or frame["type"] == "channelSend":
                continue
            if "error" not in frame:
                return None
            shown = json.dumps(frame["error"])
            failed = any(mark in shown for mark in ("nternal error", "Exit code", "without a result"))
            return shown[:500] if failed else None

    async def _socket(self, namespace: str) -> aiohttp.ClientWebSocketResponse:
        if namespace not in self._sockets:
            socket = await self._session.ws_connect(f"ws://{self._address}/{namespace}", max_msg_size=0)
            await socket.send_str(json.dumps(GUEST))
            await socket.receive_str(timeout=ANSWER_TIMEOUT_S)
            self._sockets[namespace] = socket
        return self._sockets[namespace]
