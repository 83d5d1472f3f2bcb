"""How an instance was loaded: what is sent with a load is what is read back from an answer of the same form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.api.convert import load_config_stack
from lmstrix.api.load_settings import told_load
from lmstrix.ground.loads import LoadConfig

if TYPE_CHECKING:
    from lmstrix.ground.types import ModelKind

EMBEDDING = LoadConfig(context_length=512, gpu_ratio=0.0, eval_batch_size=64, keep_in_memory=True, mmap=False, seed=3)
TEXT = LoadConfig(
    context_length=4096,
    gpu_ratio=0.5,
    k_cache_type="q8_0",
    v_cache_type="q4_0",
    flash_attention=True,
    parallel_slots=4,
    unified_kv=False,
    eval_batch_size=128,
    offload_kv_cache=False,
    rope_frequency_base=10_000.0,
    rope_frequency_scale=0.5,
    mmap=True,
    keep_in_memory=False,
    threads=3,
    seed=7,
)


@pytest.mark.parametrize(("load", "kind"), [(TEXT, "llm"), (EMBEDDING, "embedding")])
def test_what_is_sent_is_read_back(load: LoadConfig, kind: ModelKind) -> None:
    (layer,) = load_config_stack(load, kind)["layers"]
    assert told_load(layer["config"], kind) == load


@pytest.mark.parametrize("answer", [None, [], {}, {"fields": 3}, {"fields": [1, {"value": 2}, {"key": "other"}]}])
def test_nothing_told_is_nothing_known(answer: object) -> None:
    assert told_load(answer, "llm") == LoadConfig(context_length=None)


def test_what_is_off_or_of_another_type_is_left_out() -> None:
    values = {
        "llm.load.llama.kCacheQuantizationType": {"checked": False, "value": "f16"},
        "llm.load.llama.vCacheQuantizationType": {"checked": True, "value": "q9"},
        "llm.load.llama.flashAttention": 1,
        "llm.load.llama.evalBatchSize": True,
        "llm.load.llama.cpuThreadPoolSize": "4",
    }
    answer = {"fields": [{"key": key, "value": value} for key, value in values.items()]}
    assert told_load(answer, "llm") == LoadConfig(context_length=None)
