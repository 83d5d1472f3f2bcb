"""A wrong value is refused with one line that names the parameter, whatever the value is, before a server is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lmstrix import AsyncLMStrix, LMStrix, LMStrixError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Call = tuple[str, str, "Callable[[Any, Path], object]"]
CALLS: list[Call] = [
    ("prompt", "no text", lambda lms, _: lms.infer(5, "m")),
    ("model", "no text", lambda lms, _: lms.infer("hi", 5)),
    ("system_prompt", "no text", lambda lms, _: lms.infer("hi", "m", system_prompt=b"x")),
    ("raw", "True or False", lambda lms, _: lms.infer("hi", "m", raw="yes")),
    ("stop", "no text", lambda lms, _: lms.infer("hi", "m", stop=5)),
    ("stop", "no text", lambda lms, _: lms.infer("hi", "m", stop=[5])),
    ("images", "no text", lambda lms, _: lms.infer("hi", "m", images=5)),
    ("messages", "Message", lambda lms, _: lms.infer("hi", "m", messages="hi")),
    ("variables", "by name", lambda lms, _: lms.infer("hi", "m", variables=["a"])),
    ("context_length", "not a number", lambda lms, _: lms.load("m", "1024")),
    ("k_cache_type", "one of", lambda lms, _: lms.load("m", 1024, k_cache_type="q3")),
    ("flash_attention", "True or False", lambda lms, _: lms.estimate("m", 1024, flash_attention="on")),
    ("model", "no text", lambda lms, _: lms.estimate(None)),
    ("precision", "one of", lambda lms, _: lms.test_model("m", precision="bold")),
    ("load", "LoadConfig", lambda lms, _: lms.test_all(load={"seed": 1})),
    ("order", "one of", lambda lms, _: lms.test_all(order="size_bytes")),
    ("threshold", "out of range", lambda lms, _: lms.plan_tests("m", threshold=0)),
    ("task", "one of", lambda lms, _: lms.recommend(task="dance")),
    ("task", "one of", lambda lms, _: lms.bench("m", task="dance")),
    ("models", "no text", lambda lms, _: lms.bench(5)),
    ("models", "empty", lambda lms, _: lms.bench([])),
    ("tiers", "not a number", lambda lms, _: lms.bench("m", tiers="4k")),
    ("deadlines", "Deadlines", lambda lms, _: lms.bench("m", deadlines=5)),
    ("models", "no text", lambda lms, out: lms.batch({"a": "b"}, 5, out)),
    ("prompts", "no text", lambda lms, out: lms.batch({"a": 5}, "m", out)),
    ("inputs", "no text", lambda lms, out: lms.batch({"a": "b"}, "m", out, inputs=[5])),
    ("parallel", "out of range", lambda lms, out: lms.batch({"a": "b"}, "m", out, parallel=0)),
    ("texts", "no text", lambda lms, _: lms.embed([5])),
    ("sort", "one of", lambda lms, _: lms.list_models(sort="age")),
    ("filter", "no text", lambda lms, _: lms.list_models(5)),
    ("forget", "one of", lambda lms, _: lms.scan(forget="none")),
    ("model", "no text", lambda lms, _: lms.reset(None)),
    ("instance", "no text", lambda lms, _: lms.unload(5)),
    ("limit", "out of range", lambda lms, _: lms.save(limit=1.5)),
    ("watch_s", "out of range", lambda lms, _: lms.power(0)),
    ("last", "out of range", lambda lms, _: lms.benches.history(last=0)),
    ("max_rounds", "out of range", lambda lms, _: lms.act("hi", "m", tools=[], max_rounds=0)),
    ("ttl_s", "not a number", lambda lms, _: lms.embed("a", ttl_s="soon")),
    ("model", "no text", lambda lms, _: lms.get_model(5)),
    ("quantization", "Hugging Face alone", lambda lms, _: lms.get_model("a/b", quantization="Q4_K_M")),
    ("texts", "no text", lambda lms, _: lms.collections.add("notes", [5])),
    ("chunk_tokens", "out of range", lambda lms, _: lms.collections.add("notes", "a", chunk_tokens=0)),
    ("keep_texts", "True or False", lambda lms, _: lms.collections.add("notes", "a", keep_texts="yes")),
    ("top", "out of range", lambda lms, _: lms.collections.search("notes", "a", top=0)),
    ("name", "no text", lambda lms, _: lms.collections.delete(None)),
]


@pytest.mark.parametrize(("name", "why", "call"), CALLS)
def test_it_is_refused_by_name(name: str, why: str, call: Callable[[Any, Path], object], tmp_path: Path) -> None:
    with LMStrix(server="127.0.0.1:1") as lms, pytest.raises(LMStrixError) as caught:
        call(lms, tmp_path)
    message = str(caught.value)
    assert name in message
    assert why in message
    assert "--" not in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"timeout_s": "soon"}, "timeout_s"), ({"timeout_s": 0}, "timeout_s"), ({"server": 5}, "server")],
)
def test_a_client_is_not_made_of_wrong_values(wrong: dict[str, Any], name: str) -> None:
    for kind in (LMStrix, AsyncLMStrix):
        with pytest.raises(LMStrixError, match=name):
            kind(**wrong)


def test_a_misspelled_parameter_is_pythons_own_error() -> None:
    with LMStrix(server="127.0.0.1:1") as lms, pytest.raises(TypeError, match="temprature"):
        lms.infer("hi", "m", temprature=0.2)  # type: ignore[call-arg]
