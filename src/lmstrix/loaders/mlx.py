"""Read an MLX model: a folder with a config.json, a template, and its weights as safetensors.

Nothing of the weights is read but their headers, some hundred kilobytes of a model. What they say is exact: the bytes
of all tensors together, the number of values, and so the bits a value truly takes with the scales of its group.

Traded away: what a config.json does not say is not guessed from the names of tensors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.errors import MlxError
from lmstrix.ground.regular_files import open_regular
from lmstrix.loaders.json_objects import read_object
from lmstrix.loaders.mlx_config import MlxConfig, numbers_of
from lmstrix.loaders.mlx_kinds import kind_of, why_no_language_model
from lmstrix.loaders.mlx_layers import layer_keys
from lmstrix.loaders.mlx_weights import MlxWeights, count_weights
from lmstrix.loaders.safetensors import SafetensorsHeader, read_header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lmstrix.ground.types import ModelKind

_SHARD = re.compile(r"(?P<base>.+)-\d{5}-of-(?P<total>\d{5})\.safetensors")
_INDEX = "model.safetensors.index.json"
_POOLING_FILES = ("modules.json", "config_sentence_transformers.json")
_MAX_TEMPLATE_BYTES = 2**20
_MAX_SHARDS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxModel:
    """What the files of a model say. `metadata` are the keys that `shape_from_metadata` reads.

    `context_length` is the declared one, None where neither the file nor the class of the model has any.
    `file_size_bytes` are those of the tensors, in all parts together.
    """

    model_type: str
    kind: ModelKind
    context_length: int | None
    vision: bool
    trained_for_tool_use: bool
    weights: MlxWeights
    metadata: Mapping[str, object]

    @property
    def file_size_bytes(self) -> int:
        return self.weights.size_bytes

    @property
    def vocabulary_size(self) -> int | None:
        return max(numbers_of(self.metadata.get("mlx.vocab_size")), default=None)

    @property
    def quantization(self) -> str | None:
        """ "4bit", "MXFP4", "BF16", …"""
        return self.weights.quantization

    @property
    def bits(self) -> int | None:
        """Bits of most values, as the model's makers say."""
        return self.weights.bits

    @property
    def bits_per_weight(self) -> float | None:
        """What a value takes on average, with scales and with the layers that were left as they were."""
        return self.weights.bits_per_weight

    @property
    def size_label(self) -> str | None:
        """ "4.0B", "268M": how many values there are."""
        return self.weights.size_label


def read_model(folder: Path) -> MlxModel:
    """Read the model in `folder`. Raises `MlxError`, naming the file and the fault, where it is no usable one."""
    raw = read_object(folder / "config.json")
    if raw is None:
        raise MlxError("there is no config.json", kind="not a model")
    config = MlxConfig(raw)
    if not config.model_type:
        raise MlxError("config.json has no model_type", kind="not a model")
    if (reason := why_no_language_model(config)) is not None:
        raise MlxError(reason, kind="not a model")
    pools = any((folder / name).is_file() for name in _POOLING_FILES)
    kind = kind_of(config, name=folder.name, pools=pools)
    metadata = layer_keys(config)
    length = config.context_length
    if length:
        metadata["mlx.context_length"] = length
    if kind == "embedding":
        metadata["mlx.attention.causal"] = False
    return MlxModel(
        model_type=config.model_type,
        kind=kind,
        context_length=length,
        vision=config.has_vision,
        trained_for_tool_use=kind == "llm" and "tools" in chat_template(folder),
        weights=count_weights(_headers(folder), config),
        metadata=metadata,
    )


def _headers(folder: Path) -> list[SafetensorsHeader]:
    """The headers of all files with weights, once none is found missing or cut short."""
    there = _weight_files(folder)
    announced = _announced(folder, there)
    if missing := sorted(announced - there):
        raise MlxError(
            f"{len(announced) - len(missing)} of {len(announced)} parts are there: download the others",
            kind="incomplete",
        )
    headers = []
    for name in sorted(announced):
        header = read_header(folder / name)
        if header.missing_bytes:
            raise MlxError(
                f"{header.missing_bytes:,} bytes are missing at the end of {name}: download it again", kind="corrupt"
            )
        headers.append(header)
    return headers


def _weight_files(folder: Path) -> set[str]:
    try:
        names = {entry.name for entry in folder.iterdir() if entry.name.endswith(".safetensors")}
    except OSError as exc:
        raise MlxError(f"cannot be read ({exc.strerror})", kind="unreadable") from exc
    # A folder may hold the same weights once more under another name, or adapters; MLX loads those called so.
    return {name for name in names if name.startswith("model")} or names


def _announced(folder: Path, there: set[str]) -> set[str]:
    """The files that make up the model: by its index, else by the numbers in their names."""
    index = read_object(folder / _INDEX)
    placed = (index or {}).get("weight_map")
    if isinstance(placed, dict):
        listed = {name for name in placed.values() if isinstance(name, str)}
        # An index that was copied from the original names files the converted model does not have.
        if listed and (listed & there or not there):
            return {name for name in listed if "/" not in name and "\\" not in name}
    announced = set(there)
    for name in there:
        shard = _SHARD.fullmatch(name)
        if shard and 0 < int(shard["total"]) <= _MAX_SHARDS:
            total = int(shard["total"])
            announced |= {f"{shard['base']}-{n:05d}-of-{total:05d}.safetensors" for n in range(1, total + 1)}
    return announced


def chat_template(folder: Path) -> str:
    """The model's template, from any of the three places it may stand in; empty where there is none.

    A file that cannot be read costs the answer to what it says, not the model.
    """
    try:
        with open_regular(folder / "chat_template.jinja") as file:
            return file.read(_MAX_TEMPLATE_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        pass
    return _template_in(folder / "chat_template.json") or _template_in(folder / "tokenizer_config.json")


def _template_in(path: Path) -> str:
    try:
        template = (read_object(path) or {}).get("chat_template")
    except MlxError:
        return ""
    # Several templates stand in a list, each with a name.
    several = template if isinstance(template, list) else [{"template": template}]
    texts = (item.get("template") for item in several if isinstance(item, dict))
    return "\n".join(text for text in texts if isinstance(text, str))
