"""Requests onto the wire and answers off it: nothing set is lost, nothing unset is sent, nothing odd breaks it."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.api import convert
from lmstrix.core.registry.defaults import ModelDefaults
from lmstrix.ground.errors import UsageError
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import GenerationRequest, Message, ModelKind, ToolCall, ToolDefinition
from tests.support.faulty_server import FaultyModel, collapse

if TYPE_CHECKING:
    from pathlib import Path

maybe_float = st.none() | st.floats(0, 2)
maybe_int = st.none() | st.integers(1, 10**6)
load_configs = st.builds(
    LoadConfig,
    context_length=maybe_int,
    gpu_ratio=st.none() | st.floats(0, 1),
    k_cache_type=st.sampled_from([None, "f16", "q8_0"]),
    v_cache_type=st.sampled_from([None, "f16", "q4_0"]),
    flash_attention=st.none() | st.booleans(),
    parallel_slots=st.integers(1, 8),
    unified_kv=st.none() | st.booleans(),
    eval_batch_size=maybe_int,
    offload_kv_cache=st.none() | st.booleans(),
    rope_frequency_base=maybe_float,
    rope_frequency_scale=maybe_float,
    mmap=st.none() | st.booleans(),
    seed=maybe_int,
)


def unpack(value: Any) -> Any:
    return value["value"] if isinstance(value, dict) and value.keys() == {"checked", "value"} else value


@given(load_configs, st.sampled_from(["llm", "embedding"]))
def test_a_load_config_is_sent_as_it_is(config: LoadConfig, kind: ModelKind) -> None:
    sent = collapse(json.loads(json.dumps(convert.load_config_stack(config, kind))))
    for field in convert.LOAD_FIELDS[kind]:
        value = getattr(config, field.attribute)
        assert unpack(sent.pop(field.key, None)) == value
    assert sent == (dict.fromkeys(convert.NO_AUTO_FIT, False) if kind == "llm" else {})


@pytest.mark.parametrize("kind", ["llm", "embedding"])
def test_no_config_asks_for_nothing_so_that_what_is_saved_counts(kind: ModelKind) -> None:
    assert collapse(convert.load_config_stack(None, kind)) == {}


def test_every_field_of_ours_has_a_place_on_the_wire() -> None:
    placed = {field.attribute for field in convert.LOAD_FIELDS["llm"]}
    assert placed == {field.name for field in fields(LoadConfig)}
    placed = {field.attribute for field in convert.PREDICTION_FIELDS} | {"messages", "raw_prompt"}
    # One field on the wire for three of mirostat, and one whose name depends on the model.
    placed |= {"reasoning_effort", "mirostat", "mirostat_tau", "mirostat_eta"}
    assert placed == {field.name for field in fields(GenerationRequest)}


@given(
    st.builds(
        GenerationRequest,
        raw_prompt=st.text(),
        temperature=maybe_float,
        top_k=maybe_int,
        min_p=maybe_float,
        max_tokens=maybe_int,
        stop=st.lists(st.text(max_size=5), max_size=3).map(tuple),
        overflow_policy=st.sampled_from(["stopAtLimit", "truncateMiddle", "rollingWindow"]),
    )
)
def test_a_request_is_sent_as_it_is(asked: GenerationRequest) -> None:
    sent = json.loads(json.dumps(convert.prediction_parameters({"type": "query"}, asked, {})))
    assert sent["history"]["messages"][0]["content"] == [{"type": "text", "text": asked.raw_prompt}]
    values = collapse({"layers": sent["predictionConfigStack"]["layers"][:1]})
    for field in convert.PREDICTION_FIELDS:
        value = getattr(asked, field.attribute)
        expected = (list(value) or None) if isinstance(value, tuple) else value
        assert unpack(values.pop(field.key, None)) == expected
    assert not values


def test_two_ways_to_force_a_form_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="choose one"):
        convert.prediction_parameters({}, GenerationRequest(json_schema={}, gbnf_grammar="root ::= x"), {})


def test_a_grammar_and_a_schema_keep_their_inner_names() -> None:
    schema = {"type": "object", "properties": {"snake_case": {"items": [["nested"]]}}}
    for request, expected in (
        (GenerationRequest(json_schema=schema), {"type": "json", "jsonSchema": schema}),
        (GenerationRequest(gbnf_grammar="root ::= x"), {"type": "gbnf", "gbnfGrammar": "root ::= x"}),
    ):
        sent = collapse(convert.prediction_parameters({}, request, {})["predictionConfigStack"])
        assert sent["llm.prediction.structured"] == expected


def test_an_empty_message_is_still_a_message() -> None:
    history = convert.history_json([Message(role="user"), Message(role="assistant", tool_calls=(CALL,))], {})
    assert [[part["type"] for part in message["content"]] for message in history["messages"]] == [
        ["text"],
        ["toolCallRequest"],
    ]


CALL = ToolCall(name="zoom", arguments=None)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
whole_info = FaultyModel().info() | {
    "identifier": "mine",
    "instanceReference": "ref",
    "ttlMs": 1500,
    "lastUsedTime": 1_700_000_000_000,
    "contextLength": 4096,
}


@given(st.dictionaries(st.sampled_from(sorted(whole_info)), json_values))
def test_odd_members_of_a_listing_are_passed_over(odd: dict[str, Any]) -> None:
    entry = whole_info | odd
    for model in convert.downloaded_models([entry, odd]):
        assert model.model_key
        assert model.size_bytes >= 0
        assert model.kind in ("llm", "embedding")
    for instance in map(convert.loaded_model, convert.local_instances([entry, odd, *odd.values()])):
        assert instance.instance_id
        assert instance.context_length >= 0


@given(json_values)
def test_a_listing_may_be_anything(listing: Any) -> None:
    assert convert.downloaded_models(listing) == []
    assert convert.local_instances(listing) == []


def test_an_instance_as_the_wire_tells_it() -> None:
    loaded = convert.loaded_model(whole_info, {"status": "generating", "queued": 2})
    assert (loaded.ttl_s, loaded.status, loaded.queued) == (1.5, "generating", 2)
    assert loaded.last_used_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_folders_are_parted_by_slashes_whatever_the_server_writes(tmp_path: Path) -> None:
    entry = whole_info | {"modelKey": "acme\\tiny", "path": "acme\\tiny-GGUF\\tiny-Q4_0.gguf"}
    (listed,) = convert.downloaded_models([entry])
    loaded = convert.loaded_model(entry)
    assert listed.path == loaded.path == "acme/tiny-GGUF/tiny-Q4_0.gguf"
    assert listed.model_key == "acme\\tiny"  # by this name the server knows it
    defaults = ModelDefaults(tmp_path)
    assert defaults.file_for(listed.path) == defaults.folder / "acme" / "tiny-GGUF" / "tiny-Q4_0.gguf.json"
    (unplaced,) = convert.downloaded_models([{**entry, "path": None}])
    assert unplaced.path == "acme/tiny"


@pytest.mark.parametrize("last_used_ms", [None, "yesterday", 10**300, -(10**18), float("nan")])
def test_a_time_that_cannot_be_is_unknown(last_used_ms: Any) -> None:
    assert convert.loaded_model(whole_info | {"lastUsedTime": last_used_ms}).last_used_at is None


def test_a_tool_is_a_function_on_the_wire() -> None:
    tool = ToolDefinition(name="zoom", description="Magnify", parameters={"type": "object"})
    assert convert.tool_json(tool)["function"]["parameters"] == {"type": "object"}
