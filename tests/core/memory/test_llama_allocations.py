"""The formulas against llama.cpp itself: models of every class are loaded and its buffer lines compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.core.memory.fit import compute_buffer_bytes, load_bytes
from lmstrix.core.memory.kv_cache import kv_cache_bytes, recurrent_state_bytes
from lmstrix.core.memory.runtime import LLAMA_CPP
from lmstrix.core.memory.shape import ModelShape, shape_from_metadata
from tests.core.memory.allocations import Allocations, allocations
from tests.core.memory.hollow_gguf import write_hollow_gguf
from tests.core.memory.hollow_models import CLASSES, HollowModel, Widths, dense, latent, linear_hybrid, sliding

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.ground.choices import CacheType

pytestmark = pytest.mark.slow

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install lmstrix[engine]")

_MIB = 2**20
_PRINTED_MIB = 0.011
"""llama.cpp prints two decimals, for up to two caches."""
_SMALL = Widths(n_layers=1, n_embd=256, n_head=2, n_head_kv=2, n_ff=512)
_OFF, _ON = "LLAMA_FLASH_ATTN_TYPE_DISABLED", "LLAMA_FLASH_ATTN_TYPE_ENABLED"

_reads_proc = pytest.mark.needs_linux("reads the process's memory from /proc")


def _load(folder: Path, model: HollowModel, n_ctx: int, **options: object) -> tuple[ModelShape, Allocations]:
    path = write_hollow_gguf(folder / "model.gguf", model.metadata, model.tensors)
    shape = shape_from_metadata(model.metadata, file_bytes=path.stat().st_size)
    return shape, allocations(path, n_ctx, **options)


def _flash(on: bool) -> dict[str, tuple[str, str]]:
    return {"flash_attn_type": ("llama_flash_attn_type", _ON if on else _OFF)}


@pytest.mark.parametrize("flash_attention", [True, False])
@pytest.mark.parametrize("name", CLASSES)
def test_every_class_of_cache(tmp_path: Path, name: str, flash_attention: bool) -> None:
    n_ctx = 5_000  # not a multiple of 256
    shape, actual = _load(tmp_path, CLASSES[name](Widths(n_layers=9)), n_ctx, enums=_flash(flash_attention))
    cache = kv_cache_bytes(shape, n_ctx, flash_attention=flash_attention)
    assert cache / _MIB == pytest.approx(actual.kv, abs=_PRINTED_MIB)
    assert recurrent_state_bytes(shape) / _MIB == pytest.approx(actual.recurrent, abs=_PRINTED_MIB)
    compute = compute_buffer_bytes(shape, n_ctx, flash_attention=flash_attention)
    assert compute / _MIB == pytest.approx(actual.compute, rel=0.12)
    assert shape.file_bytes / _MIB == pytest.approx(actual.model, abs=0.1)


@pytest.mark.parametrize(
    ("widths", "n_ctx"),
    [
        (Widths(n_layers=3, n_embd=2048, n_head=32, n_head_kv=8, head_dim=64, n_ff=8192), 16_384),
        (Widths(n_layers=3, n_embd=4096, n_head=32, n_head_kv=8, head_dim=128, n_ff=14_336), 4_096),
        (Widths(n_layers=3, n_embd=1024, n_head=16, n_head_kv=8, head_dim=128, n_ff=3072), 1_024),
    ],
)
def test_compute_buffers_of_true_widths_are_exact(tmp_path: Path, widths: Widths, n_ctx: int) -> None:
    for model in (dense(widths), sliding(widths)):
        shape, actual = _load(tmp_path, model, n_ctx, enums=_flash(True))
        assert compute_buffer_bytes(shape, n_ctx) / _MIB == pytest.approx(actual.compute, rel=0.002)


@pytest.mark.parametrize(
    ("k_type", "v_type"),
    [("f32", "f32"), ("bf16", "f16"), ("q8_0", "q8_0"), ("q5_1", "q5_0"), ("q4_1", "q4_0"), ("iq4_nl", "q8_0")],
)
def test_every_cache_type(tmp_path: Path, k_type: CacheType, v_type: CacheType) -> None:
    enums = {
        "cache_type_k": ("ggml_type", f"GGML_TYPE_{k_type.upper()}"),
        "cache_type_v": ("ggml_type", f"GGML_TYPE_{v_type.upper()}"),
        **_flash(True),
    }
    shape, actual = _load(tmp_path, sliding(Widths(n_layers=6)), 4_096, enums=enums)
    predicted = kv_cache_bytes(shape, 4_096, k_type=k_type, v_type=v_type)
    assert predicted / _MIB == pytest.approx(actual.kv, abs=_PRINTED_MIB)


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("slots", [2, 3])
@pytest.mark.parametrize("model", [sliding, linear_hybrid])
def test_slots(tmp_path: Path, model: Callable[[Widths], HollowModel], slots: int, unified: bool) -> None:
    n_ctx = 8_192
    shape, actual = _load(
        tmp_path, model(Widths(n_layers=6)), n_ctx, n_parallel=slots, kv_unified=unified, enums=_flash(True)
    )
    cache = kv_cache_bytes(shape, n_ctx, slots=slots, unified=unified)
    assert cache / _MIB == pytest.approx(actual.kv, abs=_PRINTED_MIB)
    assert recurrent_state_bytes(shape, slots=slots) / _MIB == pytest.approx(actual.recurrent, abs=_PRINTED_MIB)
    compute = compute_buffer_bytes(shape, n_ctx, slots=slots, unified=unified)
    assert compute / _MIB == pytest.approx(actual.compute, rel=0.12)


@pytest.mark.parametrize("ubatch", [64, 1024])
def test_batch_sizes(tmp_path: Path, ubatch: int) -> None:
    shape, actual = _load(
        tmp_path, sliding(Widths(n_layers=6)), 4_096, n_ubatch=ubatch, n_batch=2_048, enums=_flash(True)
    )
    assert kv_cache_bytes(shape, 4_096, ubatch=ubatch) / _MIB == pytest.approx(actual.kv, abs=_PRINTED_MIB)
    assert compute_buffer_bytes(shape, 4_096, ubatch=ubatch) / _MIB == pytest.approx(actual.compute, rel=0.01)


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize(("groups", "value_heads"), [(16, 16), (16, 32)])
@pytest.mark.parametrize("n_embd", [512, 2048])
def test_compute_buffers_of_delta_nets_of_true_widths(
    tmp_path: Path, n_embd: int, groups: int, value_heads: int, slots: int
) -> None:
    widths = Widths(n_embd=n_embd, n_ff=256)  # so that the recurrent step is the widest
    model = linear_hybrid(widths, groups=groups, value_heads=value_heads)
    shape, actual = _load(tmp_path, model, 2_048, n_parallel=slots, kv_unified=slots > 1, enums=_flash(True))
    assert compute_buffer_bytes(shape, 2_048, slots=slots) / _MIB == pytest.approx(actual.compute, rel=0.005)


@pytest.mark.parametrize("model", [dense, sliding, linear_hybrid])
@pytest.mark.parametrize("n_head_kv", [4, 8])
def test_compute_buffers_where_most_heads_have_keys_of_their_own(
    tmp_path: Path, n_head_kv: int, model: Callable[[Widths], HollowModel]
) -> None:
    widths = Widths(n_layers=8, n_head_kv=n_head_kv, head_dim=256, n_ff=512)
    shape, actual = _load(tmp_path, model(widths), 1_024, enums=_flash(True))
    assert compute_buffer_bytes(shape, 1_024) / _MIB == pytest.approx(actual.compute, rel=0.005)


@pytest.mark.parametrize(("head_dim", "rank"), [(128, 256), (256, 256)])
def test_compute_buffers_of_latent_attention(tmp_path: Path, head_dim: int, rank: int) -> None:
    shape, actual = _load(
        tmp_path, latent(Widths(n_head=16, head_dim=head_dim, n_ff=256), rank=rank), 1_024, enums=_flash(True)
    )
    assert compute_buffer_bytes(shape, 1_024) / _MIB == pytest.approx(actual.compute, rel=0.005)


@_reads_proc
@pytest.mark.parametrize("model", [dense, linear_hybrid])
@pytest.mark.parametrize("n_vocab", [1_024, 65_536])
def test_runtime_overhead_covers_what_a_loaded_process_holds(
    tmp_path: Path, n_vocab: int, model: Callable[[Widths], HollowModel]
) -> None:
    shape, actual = _load(tmp_path, model(Widths(n_vocab=n_vocab)), 4_096)
    resident = actual.resident["VmRSS"] * 1024 - (actual.kv + actual.recurrent + actual.model) * _MIB
    overhead = LLAMA_CPP.overhead_bytes(shape, batch=512)
    assert 0.6 * overhead < resident < 1.1 * overhead


@_reads_proc
def test_a_load_takes_what_was_predicted_once_its_context_is_full(tmp_path: Path) -> None:
    shape, actual = _load(tmp_path, dense(_SMALL), 4_096, prefill_tokens=4_000)
    predicted = load_bytes(shape, 4_096)
    assert 0.7 * predicted < actual.resident["VmHWM"] * 1024 < 1.05 * predicted
