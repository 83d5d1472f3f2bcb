"""Conditions by which a list chooses records."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.registry.filters import FIELDS, matches, parse_filter
from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.registry import ModelRegistry
from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.ground.errors import UsageError

NOW = datetime.now(UTC)
GB = 10**9
SMALL = ModelFacts(
    path="acme/small-coder-GGUF/small-coder-Q4_K_M.gguf",
    model_key="small-coder",
    size_bytes=2 * GB,
    max_context_length=32_768,
    architecture="llama",
    quantization="Q4_K_M",
    bits=4,
    params="3B",
    publisher="acme",
    trained_for_tool_use=True,
    mtime_ns=1,
)
LARGE = replace(
    SMALL,
    path="other/large-GGUF/large-Q8_0.gguf",
    model_key="large",
    size_bytes=9 * GB,
    max_context_length=131_072,
    architecture="qwen3",
    quantization="Q8_0",
    bits=8,
    params=None,
    publisher="other",
    vision=True,
    trained_for_tool_use=False,
)
MLX = replace(LARGE, path="mlx/seen-4bit", model_key="seen", format="safetensors", size_bytes=5 * GB, bits=None)
VECTORS = replace(SMALL, path="acme/e-GGUF/e-Q8_0.gguf", model_key="e", kind="embedding", max_context_length=2048)


@pytest.fixture
def registry() -> ModelRegistry:
    """`small-coder` was tested two days ago, to a quarter of what it declares; `seen` failed; others are untested."""
    registry = ModelRegistry()
    registry.merge_scan([SMALL, LARGE, MLX, VECTORS], now=NOW)
    proven = ContextResult(
        configuration=Configuration(),
        outcome="ok",
        tested_at=NOW - timedelta(days=2),
        loadable_context_length=16_384,
        effective_context_length=8192,
        ended_by="memory_at_load",
    )
    registry.find("small-coder").raw["tags"] = ["code", "Daily"]
    registry.record_outcome(SMALL.path, proven)
    registry.record_outcome(MLX.path, replace(proven, outcome="load failed", loadable_context_length=None))
    return registry


def chosen(registry: ModelRegistry, text: str) -> set[str]:
    conditions = parse_filter(text)
    return {record.model_key for record in registry if matches(record, conditions)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("small", "small-coder"),
        ("OTHER/large", "large"),
        ("name:*coder", "small-coder"),
        ("name:?arge", "large"),
        ("name:!large", "small-coder seen e"),
        ("name:large|seen", "large seen"),
        ("status:tested", "small-coder"),
        ("status:untested", "large e"),
        ("status:failed", "seen"),
        ("status:!tested,type:llm", "large seen"),
        ("size:>5GB", "large"),
        ("size:>=5GB", "large seen"),
        ("size:<2.5GB", "small-coder e"),
        ("size:4GB-6GB", "seen"),
        ("size: 4GB .. 6GB ", "seen"),
        ("ctx:8k", "small-coder"),
        ("ctx:-", "large seen e"),
        ("ctx:!-", "small-coder"),
        ("dtx:16384-65536", "small-coder"),
        ("dtx:>32k", "large seen"),
        ("loads:16k", "small-coder"),
        ("recalls:<=8192", "small-coder seen"),
        ("eff:<50%", "small-coder"),
        ("date:>=3d", "small-coder seen"),
        ("date:today", ""),
        ("date:-", "large e"),
        ("date:<2020-01-01", ""),
        ("date:2020-01-01-2099-12-31", "small-coder seen"),
        ("ended:memory-at-load", "small-coder seen"),
        ("type:embedding", "e"),
        ("type:vision", "large seen"),
        ("type:tools,type:llm", "small-coder"),
        ("format:mlx", "seen"),
        ("quant:q4*", "small-coder e"),
        ("quant:Q8_0", "large seen"),
        ("bits:>4", "large"),
        ("params:3b", "small-coder e"),
        ("params:-", "large seen"),
        ("arch:qwen3", "large seen"),
        ("publisher:other", "large seen"),
        ("tag:daily", "small-coder"),
        ("tag:-", "large seen e"),
        ("status:tested,size:<5GB,name:*coder*", "small-coder"),
        (" , ", "small-coder large seen e"),
    ],
)
def test_conditions(registry: ModelRegistry, text: str, expected: str) -> None:
    assert chosen(registry, text) == set(expected.split())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stauts:tested", "no field 'stauts': did you mean status?"),
        ("zzz:1", "there are name, status, size"),
        ("status:done", "status:done is none of tested, untested"),
        ("size:big", "'big' is not a number such as 2GiB"),
        ("size:>", "'' is not a number"),
        ("ctx:8q", "unknown unit in '8q'"),
        ("eff:half", "eff:half is no percentage"),
        ("bits:four", "bits:four is no number"),
        ("date:yesterday", "date:yesterday is no date such as 2026-01-31"),
        ("name:", "name: has no value"),
        ("ctx:16k-8k", "16k-8k ends below where it begins; write 8k-16k"),
        ("date:2026-02-01-2026-01-01", "ends below where it begins"),
        ("name:a||b", "name: has an empty value"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"filter: .*{reason}" if not reason.startswith("'") else reason):
        parse_filter(text)


@given(st.text(max_size=40) | st.builds("{}:{}".format, st.sampled_from(sorted(FIELDS)), st.text(max_size=12)))
def test_any_text_is_conditions_or_bad_usage(text: str) -> None:
    record = ModelRegistry()
    record.merge_scan([SMALL], now=NOW)
    try:
        conditions = parse_filter(text)
    except UsageError:
        return
    for each in record:
        matches(each, conditions)
