"""The tiny models do what tests rely on: the real llama.cpp loads each, and the scripted ones say their lines."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.ground.model_names import Shard, parse_shard
from lmstrix.loaders.gguf import read_header
from tests.support.tiny_gguf import ARCHITECTURES, TinyShape, tiny_model, write_tiny
from tests.support.tiny_gguf_scripted import GREETING, JSON_ANSWER, RAMBLE, TOOL_ANSWER, Reply, scripted_model

if TYPE_CHECKING:
    from pathlib import Path

needs_llama_cpp = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed: pip install 'lmstrix[engine]'"
)

# Loads a model and makes the requests given as [[path, body], …]; prints the answers. A process of its own, because
# llama.cpp may end the one it runs in.
_ASK = """
import json, sys, urllib.request
import xllamacpp
model, embedding, calls = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path = model
params.n_ctx, params.n_parallel, params.cache_ram_mib, params.n_ctx_checkpoints = 1024, 1, 0, 0
params.fit_params = params.warmup = False
params.embedding = embedding
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
answers = []
for path, body in calls:
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode())
    answers.append(json.load(urllib.request.urlopen(request)))
print(json.dumps(answers))
"""

WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def ask(model: Path, *calls: tuple[str, dict[str, Any]], embedding: bool = False) -> list[Any]:
    """The server's answers to `calls`, made one after the other."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _ASK],
        input=json.dumps([str(model), embedding, calls]),
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[Any] = json.loads(done.stdout)
    return answers


def chat(*messages: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    """A chat request."""
    return "/v1/chat/completions", {"messages": messages, "max_tokens": 100, **fields}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@needs_llama_cpp
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - {"bert"}))
def test_llama_cpp_loads_and_generates(architecture: str) -> None:
    model = tiny_model(architecture, n_layers=7 if architecture == "gemma3" else 2)
    tokens, answer = ask(
        model,
        ("/tokenize", {"content": "the é 漢 \U0001f600", "with_pieces": False}),
        ("/completion", {"prompt": "The code is", "n_predict": 3, "ignore_eos": True}),
    )
    assert len(tokens["tokens"]) == len(" é 漢 \U0001f600".encode()) + len(b"the")
    assert (answer["tokens_predicted"], answer["stop_type"]) == (3, "limit")


@needs_llama_cpp
def test_llama_cpp_loads_a_split_model(tmp_path: Path) -> None:
    write_tiny(tmp_path / "split.gguf", tensors_per_file=10)
    shards = sorted(tmp_path.glob("*.gguf"))
    assert [parse_shard(shard.name) for shard in shards] == [Shard("split", number, 3) for number in (1, 2, 3)]
    headers = [read_header(shard) for shard in shards]
    assert [header.shard_count for header in headers] == [3, 3, 3]
    assert sum(len(header.tensors) for header in headers) == len(read_header(tiny_model()).tensors)
    (answer,) = ask(shards[0], ("/completion", {"prompt": "The code is", "n_predict": 3, "ignore_eos": True}))
    assert answer["tokens_predicted"] == 3


@needs_llama_cpp
def test_llama_cpp_embeds() -> None:
    model = tiny_model("bert")
    same, other, again = (
        item["embedding"][0]
        for item in ask(
            model, *(("/embedding", {"content": text}) for text in ("one text", "another", "one text")), embedding=True
        )
        for item in item
    )
    assert len(same) == TinyShape().width
    assert same == again
    assert same != other


@needs_llama_cpp
def test_the_script_is_followed() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    asked, result = {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "21"}
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    answers = ask(
        scripted_model(),
        chat(user("What is 2+3=?")),
        chat(user("Hi")),
        chat(user("Tell me a story")),
        chat(user("Please think")),
        chat(user("JSON, please"), response_format={"type": "json_schema", "json_schema": {"schema": schema}}),
        chat(user("How is the weather?"), tools=[WEATHER_TOOL]),
        chat(user("How is the weather?"), asked, {**result, "tool_call_id": "a"}, tools=[WEATHER_TOOL]),
        chat(user("How is the weather?")),
    )
    choices = [answer["choices"][0] for answer in answers]
    five, greeting, story, thought, structured, called, answered, untooled = (choice["message"] for choice in choices)
    assert (five["content"], choices[0]["finish_reason"]) == ("5", "stop")
    assert greeting["content"] == untooled["content"] == GREETING.text
    assert story["content"].startswith(RAMBLE.text * 2)
    assert choices[2]["finish_reason"] == "length"
    assert (thought["reasoning_content"].strip(), thought["content"]) == (
        "Two plus three makes five.",
        "The answer: five.",
    )
    assert structured["content"] == JSON_ANSWER.text
    assert called["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    assert choices[5]["finish_reason"] == "tool_calls"
    assert answered["content"] == TOOL_ANSWER.text


@needs_llama_cpp
def test_a_script_of_ones_own() -> None:
    replies = [Reply("five", when="2+3="), Reply("", when="say nothing"), Reply('a "b" \\ é 漢 a "b"', when='"q" \\ é')]
    answers = ask(
        scripted_model(replies, n_layers=2, n_heads=2, vocab_size=500),
        *(chat(user(text)) for text in ("2+3=", "say nothing", 'quote "q" \\ é', "else")),
        ("/completion", {"prompt": "2+3=", "n_predict": 9}),
    )
    texts = [answer["choices"][0]["message"]["content"] for answer in answers[:-1]]
    assert texts == ["five", "", replies[2].text, replies[2].text]
    assert (answers[-1]["content"], answers[-1]["stop_type"]) == ("five", "eos")


def test_texts_without_a_word_of_their_own_are_refused() -> None:
    with pytest.raises(ValueError, match="reword"):
        scripted_model([Reply("same words")] * 3)


def test_a_model_is_written_once_per_parameters(tmp_path: Path) -> None:
    model = tiny_model("llama", context_length=512)
    assert tiny_model("llama", context_length=512) == model
    assert tiny_model("llama", context_length=768) != model
    again = tmp_path / "again.gguf"
    write_tiny(again, "llama", TinyShape(context_length=512))
    assert again.read_bytes() == model.read_bytes()
    assert read_header(model).context_length == 512
