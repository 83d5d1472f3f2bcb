"""The config.json of a model: its values under all the names they go by, with the defaults of its class.

Files leave out what equals the default of the configuration class they were written by, the more so in the part for the
language model of one that also sees. These defaults are in `data/class_defaults.json`, taken from a release of
transformers by `tools/read_class_defaults.py`. A value that is written as null is absent, whatever the default.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "seq_length",
    "max_seq_len",
    "max_seq_length",
    "n_ctx",
    "model_max_length",
)
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
WIDTH = ("hidden_size", "n_embd", "d_model", "dim")
HEADS = ("num_attention_heads", "n_head", "n_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "multi_query_group_num", "num_attention_groups")
VOCABULARY = ("vocab_size", "padded_vocab_size")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")

_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
_MAX_PARTS_DEEP = 3
_NUMBER_LIMIT = 2**32 - 1
_FURTHER_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "gemma4_text": {"global_head_dim": 512},
    "gemma4_unified_text": {"global_head_dim": 512},
}
"""What the classes set in code instead of in their list of values."""


class _KnownClasses(NamedTuple):
    text_types: Mapping[str, str]
    class_defaults: Mapping[str, Mapping[str, int]]


@cache
def _known_classes() -> _KnownClasses:
    raw = json.loads((files("lmstrix") / "data" / "class_defaults.json").read_text(encoding="utf-8"))
    return _KnownClasses(raw["text_types"], raw["class_defaults"])


class MlxConfig:
    """One config.json. Values are those of its language model, which may be a part of it."""

    def __init__(self, raw: Mapping[str, object]) -> None:
        self.raw = raw
        self.model_type = _text(raw.get("model_type"))
        self._parts = _parts(raw)
        inner = self._parts[0]
        known = _known_classes()
        told = _text(inner.get("model_type")) if inner is not raw else None
        self.text_type = told or known.text_types.get(self.model_type, self.model_type)
        # A part may carry the name of the whole.
        self.text_type = known.text_types.get(self.text_type, self.text_type)
        self._defaults = {
            **known.class_defaults.get(self.text_type, {}),
            **_FURTHER_DEFAULTS.get(self.text_type, {}),
        }

    def value(self, *names: str) -> object:
        """The first of `names` that is there, the innermost part first, else its default; None where there is none."""
        for part in self._parts:
            for name in names:
                if name in part:
                    return part[name]
        return next((self._defaults[name] for name in names if name in self._defaults), None)

    def number(self, *names: str, default: int = 0) -> int:
        """A size or count; for a list, its largest."""
        value = self.value(*names)
        return max(numbers_of(value), default=default)

    def text(self, name: str) -> str:
        return _text(self.value(name))

    def flag(self, name: str) -> bool:
        return self.value(name) is True

    def table(self, name: str) -> Mapping[str, object]:
        """An object within; empty where there is none."""
        value = self.value(name)
        return value if isinstance(value, dict) else {}

    @property
    def architectures(self) -> tuple[str, ...]:
        """The classes that the model's makers load it with."""
        value = self.raw.get("architectures")
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()

    @property
    def has_vision(self) -> bool:
        """Whether a part of it sees."""
        return any(isinstance(self.raw.get(name), dict) for name in ("vision_config", "vision_tower_config")) or any(
            isinstance(part.get("vision_config"), dict) for part in self._parts
        )

    @property
    def context_length(self) -> int | None:
        """The declared context length; None where the file and its class are silent."""
        length = self.number(*LENGTHS)
        return max(length, self._stretched(length)) or None

    def _stretched(self, length: int) -> int:
        """What YaRN stretches the positions to; 0 where it is not used."""
        for name in ("rope_scaling", "rope_parameters"):
            told = self.table(name)
            # Where layers differ in it, there is one object a kind of layer.
            for scaling in [told, *(item for item in told.values() if isinstance(item, dict))]:
                if "yarn" in (scaling.get("rope_type"), scaling.get("type")):
                    factor = scaling.get("factor")
                    original = max(numbers_of(scaling.get("original_max_position_embeddings")), default=length)
                    if isinstance(factor, int | float) and 1 <= factor <= 1024:
                        return min(int(original * factor), _NUMBER_LIMIT)
        return 0


def numbers_of(value: object) -> list[int]:
    """The sizes in a value that is one or a list of them; those a 32-bit field cannot hold are cut."""
    items = value if isinstance(value, list) else [value]
    return [min(max(item, 0), _NUMBER_LIMIT) for item in items if isinstance(item, int) and not isinstance(item, bool)]


def _parts(raw: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The objects to look into, the innermost language model first."""
    parts = [raw]
    for _ in range(_MAX_PARTS_DEEP):
        inner = next((part for name in _TEXT_PARTS if isinstance(part := parts[0].get(name), dict)), None)
        if inner is None:
            break
        parts.insert(0, inner)
    return parts


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
