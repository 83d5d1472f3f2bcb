"""The fleet of tests/data/fleet.json: 77 public models as the memory model sees them.

Its records describe models as their makers do; here they are turned into the metadata a GGUF file of the model has.
What they leave out (the widths of feed-forward layers) is filled in with the usual proportions, so compute buffers are
close but not exact; caches and states are exact where the facts are.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstrix.core.memory.shape import ModelShape, shape_from_metadata

__all__ = ["FleetModel", "fleet", "fleet_metadata", "fleet_shapes"]

_DATA = Path(__file__).parents[1] / "data" / "fleet.json"
_SLIDING_PERIOD = {"gemma4": 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetModel:
    """One model: its name, class of attention, declared context length and shape."""

    name: str
    attention_class: str
    context_length: int
    active_params_billions: float
    uncertain: bool
    shape: ModelShape


@functools.cache
def fleet() -> tuple[FleetModel, ...]:
    """Every model of the fleet, in the file's order."""
    entries = json.loads(_DATA.read_text(encoding="utf-8"))["models"]
    return tuple(
        FleetModel(
            name=entry["name"],
            attention_class=entry["attention_class"],
            context_length=entry["context_length"],
            active_params_billions=float(entry["active_params_b"]),
            uncertain=entry["uncertain"],
            shape=shape_from_metadata(fleet_metadata(entry), file_bytes=entry["file_size_bytes"]),
        )
        for entry in entries
    )


def fleet_shapes() -> dict[str, ModelShape]:
    """The shape of each model by name."""
    return {model.name: model.shape for model in fleet()}


def fleet_metadata(entry: dict[str, Any]) -> dict[str, object]:
    """The GGUF metadata of a fleet record: the architecture's keys as llama.cpp reads them."""
    layers, n_embd = entry["block_count"], entry["embedding_length"]
    keys: dict[str, object] = {
        "block_count": layers,
        "context_length": entry["context_length"],
        "embedding_length": n_embd,
        "feed_forward_length": n_embd * 7 // 2,
        "vocab_size": entry["vocab_size"],
        "attention.head_count": entry["head_count"],
        "attention.head_count_kv": entry["head_count_kv"],
        "attention.key_length": entry["key_length"],
        "attention.value_length": entry["value_length"],
        "attention.sliding_window": entry["sliding_window"],
        "attention.shared_kv_layers": entry["shared_kv_layers"],
        "nextn_predict_layers": entry["nextn_predict_layers"],
        **_experts(entry),
        **_latent(entry),
        **_state(entry),
        **_two_kinds_of_layers(entry),
    }
    architecture = entry["gguf_architecture"]
    known = {f"{architecture}.{key}": value for key, value in keys.items() if value is not None}
    return {"general.architecture": architecture, **known}


def _experts(entry: dict[str, Any]) -> dict[str, object]:
    if entry["active_params_b"] > 0.9 * entry["params_b"]:
        return {}
    return {"expert_used_count": 8, "expert_feed_forward_length": entry["embedding_length"] * 3 // 8}


def _latent(entry: dict[str, Any]) -> dict[str, object]:
    if not entry["mla"]:
        return {}
    return {"attention.key_length_mla": 192, "attention.kv_lora_rank": entry["mla"]["kv_lora_rank"]}


def _state(entry: dict[str, Any]) -> dict[str, object]:
    """Keys of recurrent layers, and which layers they are: those without key/value heads, the last of each run full."""
    state = dict(entry["ssm"] or {})
    if not state:
        return {}
    keys: dict[str, object] = {"shortconv.l_cache": state.pop("shortconv_l_cache", None)}
    keys |= {f"ssm.{key}": value for key, value in state.items()}
    if entry["attention_class"] == "hybrid-linear" or isinstance(entry["head_count_kv"], list):
        return keys
    layers, full, recurrent = entry["block_count"], entry["full_attention_layers"], entry["recurrent_layers"]
    kinds = ["full"] * full + ["recurrent"] * recurrent + ["feed forward"] * (layers - full - recurrent)
    keys["attention.head_count_kv"] = [entry["head_count_kv"] if kind == "full" else 0 for kind in kinds]
    if "feed forward" in kinds:  # nemotron_h alternates mixers and feed-forward layers
        width = entry["embedding_length"] * 7 // 2
        keys["feed_forward_length"] = [width if kind == "feed forward" else 0 for kind in kinds]
    return keys


def _two_kinds_of_layers(entry: dict[str, Any]) -> dict[str, object]:
    """Gemma 4: sliding and full layers differ in heads and widths, and the file lists which is which."""
    if "global_key_length" not in entry:
        return {}
    layers, period = entry["block_count"], _SLIDING_PERIOD[entry["gguf_architecture"]]
    slides = [il % period != period - 1 for il in range(layers)]
    heads = entry["head_count_kv"]
    if not isinstance(heads, list):
        heads = [heads if sliding else entry["global_head_count_kv"] for sliding in slides]
    return {
        "attention.head_count_kv": heads,
        "attention.key_length": entry["global_key_length"],
        "attention.value_length": entry["global_value_length"],
        "attention.key_length_swa": entry["key_length"],
        "attention.value_length_swa": entry["value_length"],
        "attention.sliding_window_pattern": slides,
    }
