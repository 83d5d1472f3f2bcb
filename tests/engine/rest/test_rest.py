"""REST: OpenAI's endpoints, /api/v0 and /api/v1, streaming and not, and what failures look like."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.conftest import EMBEDDING, SCRIPTED, TINY
from tests.engine.raw_client import connected

if TYPE_CHECKING:
    import httpx

    from lmstrix.engine import EmbeddedEngine


@pytest.fixture
def rest(engine: EmbeddedEngine, http: httpx.Client) -> httpx.Client:
    """A client of an engine with nothing loaded."""
    return http


@pytest.fixture
def warm(warm_engine: EmbeddedEngine, http: httpx.Client) -> httpx.Client:
    """A client of an engine with `scripted` loaded."""
    return http


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": SCRIPTED, "messages": [{"role": "user", "content": text}], "temperature": 0, **fields}


def events(answer: httpx.Response) -> list[tuple[str | None, Any]]:
    """(event, data) of a stream; data that is no JSON stays text."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.split("\n\n"):
        if block:
            lines = dict(line.split(": ", 1) for line in block.split("\n"))
            data = lines["data"]
            found.append((lines.get("event"), data if data == "[DONE]" else json.loads(data)))
    return found


def chunks(rest: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of an OpenAI stream, which must end with [DONE]."""
    found = events(rest.post(path, json={**body, "stream": True}))
    assert found[-1] == (None, "[DONE]")
    return [data for _, data in found[:-1]]


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class TestOpenAi:
    def test_models_on_disk_and_loaded(self, rest: httpx.Client) -> None:
        rest.post("/api/v1/models/load", json={"model": SCRIPTED})
        rest.post("/api/v1/models/load", json={"model": SCRIPTED})
        listing = rest.get("/v1/models").json()
        assert listing["object"] == "list"
        assert {row["id"] for row in listing["data"]} == {SCRIPTED, f"{SCRIPTED}:2", TINY, EMBEDDING}
        assert rest.get(f"/v1/models/{SCRIPTED}").json()["id"] == SCRIPTED
        assert rest.get("/v1/models/nobody").status_code == 404

    def test_a_chat_loads_its_model(self, rest: httpx.Client) -> None:
        answer = rest.post("/v1/chat/completions", json=chat("2+3=")).json()
        choice = answer["choices"][0]
        assert answer["object"] == "chat.completion"
        assert choice["message"] == {"role": "assistant", "content": "5"}
        assert choice["finish_reason"] == "stop"
        usage = answer["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert "stats" not in answer

    def test_a_stream(self, warm: httpx.Client) -> None:
        found = chunks(warm, "/v1/chat/completions", chat("2+3=", stream_options={"include_usage": True}))
        assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"}
        assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": "5"}
        assert found[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
        assert found[-1]["choices"] == []
        assert found[-1]["usage"]["completion_tokens"] == 2
        assert len({chunk["id"] for chunk in found}) == 1

    def test_without_asking_a_stream_has_no_usage(self, warm: httpx.Client) -> None:
        assert all("usage" not in chunk for chunk in chunks(warm, "/v1/chat/completions", chat("2+3=")))

    def test_reasoning_has_a_field_of_its_own(self, warm: httpx.Client) -> None:
        message = warm.post("/v1/chat/completions", json=chat("think")).json()["choices"][0]["message"]
        assert message["content"].strip() == "The answer: five."
        assert message["reasoning_content"].strip() == "Two plus three makes five."
        found = chunks(warm, "/v1/chat/completions", chat("think"))
        deltas = [chunk["choices"][0]["delta"] for chunk in found]
        assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"]
        assert "".join(delta.get("content", "") for delta in deltas) == message["content"]

    @pytest.mark.parametrize(
        ("limit", "reason"), [({"max_tokens": 3}, "length"), ({"max_completion_tokens": 3}, "length")]
    )
    def test_limits(self, warm: httpx.Client, limit: dict[str, int], reason: str) -> None:
        answer = warm.post("/v1/chat/completions", json=chat("a story", **limit)).json()
        assert answer["choices"][0]["finish_reason"] == reason
        assert answer["usage"]["completion_tokens"] == 3

    def test_minus_one_is_no_limit(self, warm: httpx.Client) -> None:
        answer = warm.post("/v1/chat/completions", json=chat("2+3=", max_tokens=-1)).json()
        assert answer["choices"][0]["finish_reason"] == "stop"

    @pytest.mark.parametrize("stop", ["river", ["nothing", "river"]])
    def test_stop_strings(self, warm: httpx.Client, stop: object) -> None:
        choice = warm.post("/v1/chat/completions", json=chat("a story", stop=stop)).json()["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert "river" not in choice["message"]["content"]

    def test_tools(self, warm: httpx.Client) -> None:
        body = chat("weather", tools=[WEATHER], seed=1)
        choice = warm.post("/v1/chat/completions", json=body).json()["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        (call,) = choice["message"]["tool_calls"]
        assert call["function"]["name"] == "get_weather"
        assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
        body["messages"] += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "21"},
        ]
        answer = warm.post("/v1/chat/completions", json=body).json()["choices"][0]
        assert answer["message"]["content"] == "It is 21 degrees in Paris today."

    def test_streamed_tools(self, warm: httpx.Client) -> None:
        found = chunks(warm, "/v1/chat/completions", chat("weather", tools=[WEATHER]))
        (call,) = [call for chunk in found for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
        assert (call["index"], call["type"], call["function"]["name"]) == (0, "function", "get_weather")
        assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"

    def test_structured_output(self, warm: httpx.Client) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "colour", "schema": {"enum": ["red", "green"]}}}
        answer = warm.post("/v1/chat/completions", json=chat("hello", response_format=wanted)).json()
        assert json.loads(answer["choices"][0]["message"]["content"]) in ("red", "green")
        body = chat("JSON", response_format={"type": "json_object"})
        answer = warm.post("/v1/chat/completions", json=body).json()
        assert json.loads(answer["choices"][0]["message"]["content"]) == {"name": "Ada", "age": 36}

    def test_content_in_parts(self, warm: httpx.Client) -> None:
        messages = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "3="}]},
        ]
        answer = warm.post("/v1/chat/completions", json={"model": SCRIPTED, "messages": messages}).json()
        assert answer["choices"][0]["message"]["content"] == "5"

    def test_completions(self, warm: httpx.Client) -> None:
        body = {"model": SCRIPTED, "prompt": "2+3=", "temperature": 0}
        answer = warm.post("/v1/completions", json=body).json()
        assert (answer["object"], answer["choices"][0]["text"]) == ("text_completion", "5")
        assert answer["usage"]["prompt_tokens"] == 4
        found = chunks(warm, "/v1/completions", body)
        assert "".join(chunk["choices"][0]["text"] for chunk in found) == "5"
        assert found[-1]["choices"][0]["finish_reason"] == "stop"

    def test_embeddings(self, rest: httpx.Client) -> None:
        body = {"model": EMBEDDING, "input": ["hello", "world"]}
        answer = rest.post("/v1/embeddings", json=body).json()
        assert [row["index"] for row in answer["data"]] == [0, 1]
        assert answer["usage"]["prompt_tokens"] > 0
        vector = answer["data"][0]["embedding"]
        packed = rest.post("/v1/embeddings", json={**body, "input": "hello", "encoding_format": "base64"}).json()
        raw = base64.b64decode(packed["data"][0]["embedding"])
        assert struct.unpack(f"<{len(vector)}f", raw) == pytest.approx(vector, rel=1e-5)

    @pytest.mark.parametrize(("fields", "ttl_ms"), [({"ttl": 7}, 7_000), ({}, 3_600_000)])
    async def test_idle_time(
        self, engine: EmbeddedEngine, rest: httpx.Client, fields: dict[str, int], ttl_ms: int
    ) -> None:
        rest.post("/v1/chat/completions", json=chat("2+3=", **fields))
        async with connected(engine.address, "llm") as client:
            (info,) = (await client.rpc("listLoaded"))["result"]
        assert info["ttlMs"] == ttl_ms


class TestFailures:
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/chat/completions", chat("x", model="nobody")),
            ("/v1/completions", {"model": "nobody", "prompt": "x"}),
            ("/v1/embeddings", {"model": "nobody", "input": "x"}),
            ("/api/v0/chat/completions", chat("x", model="nobody")),
            ("/api/v1/chat", {"model": "nobody", "input": "x"}),
            ("/api/v1/models/load", {"model": "nobody"}),
            ("/api/v1/models/unload", {"instance_id": "nobody"}),
            ("/v1/chat/completions", chat("x", model=EMBEDDING)),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_unknown_models(self, warm: httpx.Client, path: str, body: dict[str, Any], stream: bool) -> None:
        if stream and "load" not in path:
            body = {**body, "stream": True}
        answer = warm.post(path, json=body)
        error = answer.json()["error"]
        assert answer.status_code == 404
        assert error["code"] == "model_not_found"
        assert error["type"] == ("model_not_found" if "v1/m" in path or "/api/v1" in path else "invalid_request_error")
        assert error["message"]

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/chat/completions", {"model": SCRIPTED}),
            ("/v1/chat/completions", {"model": SCRIPTED, "messages": []}),
            ("/v1/chat/completions", {"model": SCRIPTED, "messages": [{"content": "x"}]}),
            ("/v1/chat/completions", {"model": SCRIPTED, "messages": [{"role": "user", "content": 3}]}),
            ("/v1/chat/completions", chat("x", temperature="hot")),
            ("/v1/chat/completions", chat("x", max_tokens=-7)),
            ("/v1/chat/completions", chat("x", stop=[1])),
            ("/v1/chat/completions", chat("x", stream="yes")),
            ("/v1/chat/completions", chat("x", tools=[{}])),
            ("/v1/chat/completions", chat("x", tool_choice={"type": "function", "function": {"name": "no"}})),
            ("/v1/chat/completions", chat("x", response_format={"type": "xml"})),
            ("/v1/chat/completions", chat("x", logit_bias={"a": 1})),
            ("/v1/chat/completions", chat("x", n=2)),
            ("/v1/chat/completions", chat("x", logprobs=True)),
            ("/v1/chat/completions", chat("x", draft_model="small")),
            (
                "/v1/chat/completions",
                {
                    "model": SCRIPTED,
                    "messages": [
                        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b.png"}}]}
                    ],
                },
            ),
            ("/v1/completions", {"model": SCRIPTED, "prompt": ["a", "b"]}),
            ("/v1/completions", {"model": SCRIPTED, "prompt": "a", "suffix": "b"}),
            ("/v1/embeddings", {"model": EMBEDDING, "input": []}),
            ("/v1/embeddings", {"model": EMBEDDING, "input": "x", "dimensions": 8}),
            ("/api/v1/models/load", {}),
            ("/api/v1/models/load", {"model": SCRIPTED, "gpu": "max"}),
            ("/api/v1/models/load", {"model": SCRIPTED, "num_experts": 2}),
            ("/api/v1/models/load", {"model": SCRIPTED, "context_length": 0}),
            ("/api/v1/chat", {"model": SCRIPTED, "input": "" or None}),
            ("/api/v1/chat", {"model": SCRIPTED, "input": "x", "integrations": ["mcp/x"]}),
            ("/api/v1/chat", {"model": SCRIPTED, "input": "x", "reasoning": "extreme"}),
            ("/api/v1/chat", {"model": SCRIPTED, "input": "x", "previous_response_id": "resp_none"}),
        ],
    )
    def test_bad_requests(self, warm: httpx.Client, path: str, body: dict[str, Any]) -> None:
        answer = warm.post(path, json=body)
        assert answer.status_code == 400
        expected = "invalid_request" if path.startswith("/api/v1") else "invalid_request_error"
        assert answer.json()["error"]["type"] == expected

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
    def test_bodies_that_are_no_objects(self, warm: httpx.Client, content: bytes) -> None:
        for path in ("/v1/chat/completions", "/api/v1/models/load"):
            answer = warm.post(path, content=content)
            assert answer.status_code == 400
            assert "JSON" in answer.json()["error"]["message"]

    def test_too_long_a_prompt_is_refused_with_the_numbers(self, rest: httpx.Client) -> None:
        rest.post("/api/v1/models/load", json={"model": SCRIPTED, "context_length": 64})
        for stream in (False, True):
            answer = rest.post("/v1/chat/completions", json=chat("x " * 200, stream=stream))
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
            assert error["data"]["contextLength"] == 64

    def test_a_refused_load(self, warm: httpx.Client) -> None:
        answer = warm.post("/api/v1/models/load", json={"model": SCRIPTED, "context_length": 2**30})
        assert answer.status_code in (400, 500)
        assert answer.json()["error"]["message"]

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/"), ("GET", "/v1/nothing"), ("POST", "/v1/models"), ("DELETE", "/api/v1/models"), ("GET", "/llm")],
    )
    def test_unexpected_paths(self, warm: httpx.Client, method: str, path: str) -> None:
        answer = warm.request(method, path)
        assert answer.status_code == 404
        assert answer.json() == {"error": f"Unexpected endpoint or method. ({method} {path})"}

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/responses"),
            ("POST", "/v1/messages"),
            ("POST", "/api/v1/models/download"),
            ("GET", "/api/v1/models/download/status/7"),
        ],
    )
    def test_what_there_is_not(self, warm: httpx.Client, method: str, path: str) -> None:
        answer = warm.request(method, path)
        assert answer.status_code == 501
        assert answer.json()["error"]["type"] == "not_implemented"


class TestV0:
    def test_models(self, rest: httpx.Client) -> None:
        rest.post("/api/v1/models/load", json={"model": SCRIPTED, "context_length": 512})
        rows = {row["id"]: row for row in rest.get("/api/v0/models").json()["data"]}
        assert rows[SCRIPTED]["state"] == "loaded"
        assert rows[SCRIPTED]["loaded_context_length"] == 512
        assert rows[SCRIPTED]["capabilities"] == ["tool_use"]
        assert rows[TINY]["state"] == "not-loaded"
        assert "loaded_context_length" not in rows[TINY]
        assert rows[EMBEDDING]["type"] == "embeddings"
        assert rest.get(f"/api/v0/models/{TINY}").json() == rows[TINY]

    def test_figures(self, rest: httpx.Client) -> None:
        answer = rest.post("/api/v0/chat/completions", json=chat("2+3=")).json()
        assert answer["stats"]["stop_reason"] == "eosFound"
        assert answer["stats"]["time_to_first_token"] > 0
        assert answer["model_info"]["format"] == "gguf"
        assert answer["runtime"]["supported_formats"] == ["gguf"]
        last = chunks(rest, "/api/v0/chat/completions", chat("2+3="))[-1]
        assert last["stats"]["stop_reason"] == "eosFound"
        text = rest.post("/api/v0/completions", json={"model": SCRIPTED, "prompt": "2+3="}).json()
        assert text["model_info"]["context_length"] == 4096


class TestV1:
    def test_load_list_unload(self, rest: httpx.Client) -> None:
        body = {"model": SCRIPTED, "context_length": 640, "flash_attention": True, "echo_load_config": True}
        loaded = rest.post("/api/v1/models/load", json=body).json()
        assert (loaded["type"], loaded["instance_id"], loaded["status"]) == ("llm", SCRIPTED, "loaded")
        assert loaded["load_config"]["context_length"] == 640
        assert rest.post("/api/v1/models/load", json={"model": SCRIPTED}).json()["instance_id"] == f"{SCRIPTED}:2"
        rows = {row["key"]: row for row in rest.get("/api/v1/models").json()["models"]}
        first, second = rows[SCRIPTED]["loaded_instances"]
        assert (first["id"], first["config"]["context_length"]) == (SCRIPTED, 640)
        assert second["config"]["parallel"] == 1
        assert rows[SCRIPTED]["capabilities"] == {"vision": False, "trained_for_tool_use": True}
        assert "capabilities" not in rows[EMBEDDING]
        assert rows[TINY]["max_context_length"] == 2048
        assert rest.post("/api/v1/models/unload", json={"instance_id": SCRIPTED}).json() == {"instance_id": SCRIPTED}
        rows = {row["key"]: row for row in rest.get("/api/v1/models").json()["models"]}
        assert [each["id"] for each in rows[SCRIPTED]["loaded_instances"]] == [f"{SCRIPTED}:2"]

    def test_chat(self, rest: httpx.Client) -> None:
        body = {"model": SCRIPTED, "input": "think", "context_length": 512}
        answer = rest.post("/api/v1/chat", json=body).json()
        assert [item["type"] for item in answer["output"]] == ["reasoning", "message"]
        assert answer["output"][1]["content"].strip() == "The answer: five."
        assert answer["stats"]["model_load_time_seconds"] > 0
        assert answer["stats"]["reasoning_output_tokens"] > 0
        assert answer["response_id"].startswith("resp_")

    def test_a_conversation_goes_on(self, rest: httpx.Client) -> None:
        def say(text: str, **fields: Any) -> dict[str, Any]:
            found: dict[str, Any] = rest.post("/api/v1/chat", json={"model": SCRIPTED, "input": text, **fields}).json()
            return found

        first = say("2+3=", system_prompt="Count.")
        second = say("2+3=", previous_response_id=first["response_id"])
        assert second["stats"]["input_tokens"] > first["stats"]["input_tokens"]
        assert "response_id" not in say("2+3=", store=False)

    @pytest.mark.parametrize("kind", ["text", "message"])
    def test_input_items(self, rest: httpx.Client, kind: str) -> None:
        body = {"model": SCRIPTED, "input": [{"type": kind, "content": "2+3="}]}
        assert rest.post("/api/v1/chat", json=body).json()["output"] == [{"type": "message", "content": "5"}]

    def test_events(self, rest: httpx.Client) -> None:
        body = {"model": SCRIPTED, "input": "think", "stream": True}
        found = events(rest.post("/api/v1/chat", json=body))
        assert all(name == data["type"] for name, data in found)
        names = list(dict.fromkeys(name for name, _ in found))
        assert names == [
            "chat.start",
            "model_load.start",
            "model_load.progress",
            "model_load.end",
            "prompt_processing.start",
            "prompt_processing.progress",
            "prompt_processing.end",
            "reasoning.start",
            "reasoning.delta",
            "reasoning.end",
            "message.start",
            "message.delta",
            "message.end",
            "chat.end",
        ]
        result = found[-1][1]["result"]
        streamed = "".join(data["content"] for name, data in found if name == "message.delta")
        assert result["output"][-1] == {"type": "message", "content": streamed}
        again = events(rest.post("/api/v1/chat", json=body))
        assert [name for name, _ in again][:2] == ["chat.start", "prompt_processing.start"]

    def test_a_failure_within_a_stream_is_an_event(self, rest: httpx.Client) -> None:
        body = {"model": SCRIPTED, "input": "x " * 400, "stream": True, "context_length": 64}
        found = events(rest.post("/api/v1/chat", json=body))
        assert [name for name, _ in found][-2:] == ["error", "chat.end"]
        assert found[-2][1]["error"]["code"] == "context_length_exceeded"
