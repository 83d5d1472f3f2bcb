"""How many values a model's tensors hold and how many bits each truly takes. Pure.

MLX packs the values of a quantized layer into 32-bit words and keeps a scale, and mostly an offset, for each group of
them: `layer.weight`, `layer.scales` and `layer.biases`. The scales tell the values, as there is one for each group.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.loaders.mlx_config import numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lmstrix.loaders.mlx_config import MlxConfig
    from lmstrix.loaders.safetensors import SafetensorsHeader, Tensor

_DEFAULT_GROUP_SIZE = 64
_FLOAT_MODES = {"mxfp4": 4, "nvfp4": 4, "mxfp8": 8}
_PLAIN_BITS = {"F64": 64, "F32": 32, "BF16": 16, "F16": 16, "F8_E4M3": 8, "F8_E5M2": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxWeights:
    """All tensors of a model together: their bytes, their values, and how most of these are quantized."""

    size_bytes: int
    parameters: int
    quantization: str | None
    bits: int | None

    @property
    def bits_per_weight(self) -> float | None:
        return round(8 * self.size_bytes / self.parameters, 2) if self.parameters else None

    @property
    def size_label(self) -> str | None:
        if not self.parameters:
            return None
        billions = self.parameters / 1e9
        return f"{billions:.1f}B" if billions >= 1 else f"{max(1, round(1000 * billions))}M"


def count_weights(headers: Iterable[SafetensorsHeader], config: MlxConfig) -> MlxWeights:
    """Sum up the tensors of all files of a model."""
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    settings = _settings(config)
    counts: Counter[str] = Counter()
    for name, tensor in tensors.items():
        counts[tensor.dtype] += _values(name, tensor, tensors, settings)
    bits = max(numbers_of(settings.get("bits")), default=0) or None
    method = str(settings.get("mode") or settings.get("quant_method") or "").lower()
    quantization = f"{bits}bit" if bits else None
    if method in _FLOAT_MODES:
        quantization, bits = method.upper(), _FLOAT_MODES[method]
    elif bits is None and counts:
        quantization = counts.most_common(1)[0][0]
        bits = _PLAIN_BITS.get(quantization)
    return MlxWeights(
        size_bytes=sum(tensor.size_bytes for tensor in tensors.values()),
        parameters=counts.total(),
        quantization=quantization,
        bits=bits,
    )


def _settings(config: MlxConfig) -> Mapping[str, object]:
    # Converted models have both, and they agree; the second alone is of those quantized by other tools.
    return config.table("quantization") or config.table("quantization_config")


def _values(name: str, tensor: Tensor, tensors: Mapping[str, Tensor], settings: Mapping[str, object]) -> int:
    """The model's own values in a tensor: none in scales and offsets, several in each word of a packed one."""
    layer, _, part = name.rpartition(".")
    if part in ("scales", "biases") and f"{layer}.weight" in tensors:
        return 0
    # How the first files of gpt-oss are packed: two values in a byte, a scale to each 32.
    if name.endswith("_scales") and f"{name.removesuffix('_scales')}_blocks" in tensors:
        return 0
    if name.endswith("_blocks") and tensor.dtype == "U8":
        return 2 * tensor.n_values
    scales = tensors.get(f"{layer}.scales") if part == "weight" else None
    if scales is None or tensor.dtype != "U32":
        return tensor.n_values
    own = settings.get(layer)
    told = own.get("group_size") if isinstance(own, dict) else None
    group_size = max(numbers_of(told if told is not None else settings.get("group_size")), default=0)
    return scales.n_values * (group_size or _DEFAULT_GROUP_SIZE)
