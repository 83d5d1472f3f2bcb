"""The JSON of results: the same bytes in every version, and whatever a file holds is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmstrix.core.registry.results import Configuration, result_from_json, result_to_json
from lmstrix.ground.loads import LoadConfig

FULL: dict[str, Any] = {
    "configuration": {
        "engine": "embedded", "host": "box", "k_cache_type": "q8_0", "v_cache_type": "q4_0", "flash_attention": False,
        "gpu_ratio": 0.5, "parallel_slots": 4, "eval_batch_size": 128,
    },
    "outcome": "ok", "tested_at": "2026-01-02T01:04:05+00:00", "conclusive": False,
    "ended_by": "recall", "loadable_context_length": 30000,
    "effective_context_length": 20000, "effective_range": [20000, 22016],
    "last_known_bad": 40000, "ttft_s": 1.5, "prefill_tokens_per_second": 900.0,
    "decode_tokens_per_second": 30.5, "error": "x", "recall_curve": [[2048, 1.0], [20000, 0.9]],
    "provenance": {
        "engine": "embedded", "engine_version": "2", "address": "a:1", "host": "h", "parallel_slots": 4,
        "k_cache_type": "q8_0", "v_cache_type": "q4_0", "flash_attention": True, "gpu_ratio": 1.0,
        "details": {"build": 7, "none": None},
    },
    "capped_by": {
        "context_length": 45000, "failed_at": "2026-01-01T01:04:05+00:00", "outcome": "out of memory at load",
        "free_bytes": 3300000000, "took_machine_down": False,
    },
    "free_bytes": 3000000000,
    "tested_context_length": 20000,
}  # fmt: skip
LEAST: dict[str, Any] = {
    "configuration": {"engine": "lmstudio", "parallel_slots": 1},
    "outcome": "failed",
    "tested_at": "1970-01-01T00:00:00+00:00",
    "conclusive": True,
    "recall_curve": [],
    "tested_context_length": 0,
}


def written(raw: dict[str, Any]) -> str:
    return json.dumps(result_to_json(result_from_json(raw)))


def test_a_result_is_written_as_it_was_read() -> None:
    assert written(FULL) == json.dumps(FULL)
    assert written(LEAST) == json.dumps(LEAST)


def test_a_configuration_is_named_by_what_its_load_asks_for() -> None:
    configuration = result_from_json(FULL).configuration
    assert configuration.key == "embedded@box k=q8_0 v=q4_0 fa=off gpu=0.5 slots=4 batch=128"
    assert not configuration.is_default
    assert (configuration.load.parallel_slots, configuration.load.context_length) == (4, None)


def test_threads_and_locked_weights_change_no_length() -> None:
    load = LoadConfig(context_length=None, threads=3, keep_in_memory=True)
    assert Configuration(load=load).is_default


def test_a_cache_type_of_a_later_version_is_kept() -> None:
    result = result_from_json(LEAST | {"configuration": {"engine": "lmstudio", "k_cache_type": "q2_9"}})
    assert result.configuration.key == "lmstudio k=q2_9"
    assert result_to_json(result)["configuration"]["k_cache_type"] == "q2_9"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("configuration", {"engine": 5, "k_cache_type": 7, "flash_attention": "yes", "parallel_slots": -1}),
        ("configuration", {"gpu_ratio": True, "parallel_slots": 0}),
        ("tested_at", 5),
        ("conclusive", "no"),
        ("ended_by", 7),
        ("configuration", {"engine": "lmstudio", "host": 3}),
        ("loadable_context_length", True),
        ("ttft_s", "1"),
        ("error", ""),
        ("effective_range", [1, None]),
        ("effective_range", [1]),
        ("effective_range", 1216),
        ("recall_curve", {"2048": 1.0}),
        ("recall_curve", [[1], "a", [None, 2]]),
        ("provenance", {"engine": 3}),
        ("provenance", "here"),
    ],
)
def test_a_damaged_value_reads_as_absent(name: str, value: object) -> None:
    assert written(LEAST | {name: value}) == json.dumps(LEAST)


def test_a_damaged_provenance_keeps_what_can_be_read() -> None:
    damaged = {"engine": "lmstudio", "details": [1], "parallel_slots": 0, "gpu_ratio": "x", "host": 4}
    result = result_from_json(LEAST | {"provenance": damaged})
    assert result_to_json(result)["provenance"] == {"engine": "lmstudio", "parallel_slots": 1, "details": {}}
