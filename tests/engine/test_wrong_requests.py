"""Wrong input is told as such, by REST and by the wire: never as an internal error, never with silence."""

from __future__ import annotations

import json
import socket
from itertools import islice
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from lmstrix.engine import EmbeddedEngine
from tests.engine.conftest import EMBEDDING, SCRIPTED
from tests.engine.raw_client import GUEST, chat, connected, prediction, query, stack
from tests.engine.wrong_requests import Asker, wrong_requests

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

MESSAGES = [{"role": "user", "content": "2+3="}]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_a_hundred_wrong_requests(warm_engine: EmbeddedEngine, seed: int) -> None:
    async with aiohttp.ClientSession() as session:
        asker = Asker(warm_engine.address, session)
        for request in islice(wrong_requests(seed), 100):
            assert await asker.ask(request) is None, request


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": [{"role": [], "content": "hi"}]},
        {"messages": [{"role": {}, "content": "hi"}]},
        {"messages": [{"role": "tool", "content": "hi", "tool_call_id": [], "name": {}}]},
        {"messages": [{"role": "user", "content": "hi"}] * 5001},
        {"logit_bias": {"²": 1}},
        {"logit_bias": {"9" * 30: 1}},
        {"logit_bias": {"5": 1e38}},
        {"temperature": 10**400},
        {"top_k": 2**31},
        {"seed": 10**30},
        {"max_tokens": 10**400},
        {"stop": ["a"] * 1001},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "array", "minItems": 10**9}}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
    ],
)
def test_rest_refuses_with_400(warm_engine: EmbeddedEngine, http: httpx.Client, wrong: dict[str, Any]) -> None:
    for path in ("/v1/chat/completions", "/api/v0/chat/completions"):
        answer = http.post(path, json={"model": SCRIPTED, "messages": MESSAGES, "max_tokens": 1, **wrong})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert len(answer.text) < 1000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"prompt": "\\ud800"}', "half of a character"),
        ('{"temperature": NaN}', "NaN"),
        ('{"temperature": 1e999}', "1e999"),
        ('{"prompt": ' + "[" * 500 + "]" * 500 + "}", "128 deep"),
    ],
)
def test_bodies_that_cannot_be_passed_on(http: httpx.Client, engine: EmbeddedEngine, text: str, why: str) -> None:
    for path in ("/v1/completions", "/api/v1/chat", "/api/v0/embeddings"):
        answer = http.post(path, content=text)
        assert answer.status_code == 400
        assert why in answer.json()["error"]["message"]


@pytest.mark.parametrize("length", [0, 1, 10**400])
def test_contexts_of_no_length_that_there_is(http: httpx.Client, engine: EmbeddedEngine, length: int) -> None:
    answer = http.post("/api/v1/models/load", json={"model": SCRIPTED, "context_length": length})
    assert answer.status_code == 400
    assert "context_length" in answer.json()["error"]["message"]


def test_embedding_in_bulk_is_bounded(http: httpx.Client, engine: EmbeddedEngine) -> None:
    answer = http.post("/v1/embeddings", json={"model": EMBEDDING, "input": ["a"] * 2049})
    assert answer.status_code == 400
    assert "2,048" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "head",
    [
        b"Host: 127.0.0.1\r\nAuthorization: Bearer \xff\r\n",
        b"Host: 127.0.0.1\r\nx-api-key: \xff\xfe\r\n",
        b"Host: [::1\r\n",
        b"Host: 127.0.0.1\r\nOrigin: http://[::1\r\n",
    ],
)
def test_headers_that_are_no_text(models_dir: Path, head: bytes) -> None:
    with (
        EmbeddedEngine(models_dir, api_token="sk-lm-abcdEF12:abcdefghijKLMNOP1234") as engine,
        socket.create_connection(("127.0.0.1", engine.port), timeout=30) as connection,
    ):
        connection.sendall(b"GET /v1/models HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n")
        status = int(connection.makefile("rb").readline().split()[1])
    assert 400 <= status < 500


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"toolNaming": []}, "toolNaming"),
        ({"topKSampling": 10**400}, "topKSampling"),
        ({"llama.logitBias": [[2**31, 1]]}, "logitBias"),
        ({"logProbs": {"checked": True, "value": 10**6}}, "at most 100"),
        ({"structured": {"type": "json", "jsonSchema": {"type": "string", "maxLength": 10**9}}}, "10,000 is the most"),
        ({"structured": {"type": "gbnf", "gbnfGrammar": 'root ::= "a"{1000000}'}}, "10,000 is the most"),
    ],
)
async def test_the_wire_refuses_settings(warm_engine: EmbeddedEngine, fields: dict[str, Any], why: str) -> None:
    async with connected(warm_engine.address, "llm") as client:
        _, last = await client.channel("predict", prediction(SCRIPTED, "2+3=", **fields))
    assert last["type"] == "channelError"
    assert why in last["error"]["title"]


async def test_the_wire_refuses_parameters(warm_engine: EmbeddedEngine) -> None:
    template = {"specifier": query(SCRIPTED), "history": chat("hi"), "predictionConfigStack": stack({})}
    cache = stack({"llm.load.llama.kCacheQuantizationType": {"checked": True, "value": []}})
    async with connected(warm_engine.address, "llm") as client:
        for endpoint, parameter, why in (
            ("applyPromptTemplate", {**template, "opts": 5}, "opts"),
            ("applyPromptTemplate", {**template, "history": {"messages": MESSAGES * 5001}}, "5,000"),
            ("estimateModelUsage", {"modelKey": SCRIPTED, "loadConfigStack": cache}, "kCacheQuantizationType"),
        ):
            answer = await client.rpc(endpoint, parameter)
            assert answer["type"] == "rpcError"
            assert why in answer["error"]["title"]
        _, last = await client.channel("loadModel", {"modelKey": SCRIPTED, "ttlMs": 10**400})
        assert "ttlMs" in last["error"]["title"]


@pytest.mark.parametrize(
    ("text", "why"), [("NaN", "NaN"), ('"\\ud800"', "half of a character"), ("[" * 200 + "]" * 200, "128 deep")]
)
async def test_a_call_that_cannot_be_read_is_answered(warm_engine: EmbeddedEngine, text: str, why: str) -> None:
    url = f"ws://{warm_engine.address}/llm"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as connection:
        await connection.send_json(GUEST)
        await connection.receive_json(timeout=30)
        for kind, name, answer_kind in (
            ("rpcCall", "callId", "rpcError"),
            ("channelCreate", "channelId", "channelError"),
        ):
            head = json.dumps({"type": kind, "endpoint": "tokenize", name: 7})
            await connection.send_str(f'{head[:-1]}, "parameter": {text}}}')
            answer = await connection.receive_json(timeout=30)
            assert (answer["type"], answer[name]) == (answer_kind, 7)
            assert why in answer["error"]["title"]
