"""What a config.json leaves out: the defaults of the configuration classes in a wheel of `transformers`, as JSON.

    pip download transformers --no-deps
    python tools/read_class_defaults.py transformers-*.whl src/lmstrix/data/class_defaults.json

The classes are read as text (`ast`), never imported: neither torch nor transformers has to be installed. Kept are the
values that say how long and how wide a language model is, and what it keeps for each token.
"""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTHS = {"max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"}
_LAYERS = {"num_hidden_layers", "n_layer", "n_layers", "num_layers"}
_KEPT = {
    *_LENGTHS,
    *_LAYERS,
    *("hidden_size", "n_embd", "d_model", "vocab_size"),
    *("num_attention_heads", "n_head", "n_heads", "num_key_value_heads", "num_kv_heads", "head_dim"),
    *("global_head_dim", "num_kv_shared_layers", "sliding_window", "attention_chunk_size", "attention_window_size"),
    *("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "index_head_dim"),
    *("linear_conv_kernel_dim", "linear_key_head_dim", "linear_value_head_dim"),
    *("linear_num_key_heads", "linear_num_value_heads"),
    *("mamba_d_state", "mamba_d_conv", "mamba_expand", "mamba_n_heads", "mamba_d_head", "mamba_n_groups"),
    *("mamba_d_ssm", "mamba_num_heads", "mamba_head_dim", "ssm_state_size"),
    *("state_size", "conv_kernel", "expand", "n_groups", "num_heads"),
    *("conv_L_cache", "lru_width", "conv1d_width", "attn_layer_period", "attn_layer_offset", "layer_group_size"),
}


def class_defaults(wheel: Path) -> dict[str, dict[str, dict[str, int] | str]]:
    """Model type -> its numbers, and type -> the type of its language model where it has one inside."""
    numbers: dict[str, dict[str, int] | str] = {}
    types: dict[str, str] = {}
    inside: dict[str, dict[str, int] | str] = {}
    for found in _classes(wheel):
        model_type = _constant(found.get("model_type"))
        if not isinstance(model_type, str):
            continue
        types[str(_constant(found["class"]))] = model_type
        values = {name: size for name, node in found.items() if name in _KEPT and (size := _size(node))}
        if "vocab_size" in values and values.keys() & _LAYERS:
            numbers[model_type] = dict(sorted(values.items()))
        if (part := _text_part(found.get("sub_configs_defaults"))) is not None:
            inside[model_type] = part
    inside = {outer: types.get(part, part) for outer, part in inside.items() if isinstance(part, str)}
    return {"class_defaults": dict(sorted(numbers.items())), "text_types": dict(sorted(inside.items()))}


def _classes(wheel: Path) -> Iterator[dict[str, ast.expr]]:
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if "/configuration_" in name and name.endswith(".py"):
                for node in ast.parse(archive.read(name)).body:
                    if isinstance(node, ast.ClassDef):
                        yield _assigned(node)


def _assigned(node: ast.ClassDef) -> dict[str, ast.expr]:
    values: dict[str, ast.expr] = {"class": ast.Constant(node.name)}
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            values[statement.target.id] = statement.value
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            values[statement.targets[0].id] = statement.value
    return values


def _constant(node: ast.expr | None) -> object:
    # Some lengths are written as products.
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _constant(node.left), _constant(node.right)
        return left * right if isinstance(left, int) and isinstance(right, int) else None
    return node.value if isinstance(node, ast.Constant) else None


def _size(node: ast.expr) -> int:
    """A count that a model can have; 0 for anything else."""
    value = _constant(node)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _text_part(node: ast.expr | None) -> str | None:
    """The class, or the model type, of the part called text_config."""
    if not isinstance(node, ast.Dict):
        return None
    for key, value in zip(node.keys, node.values, strict=True):
        if _constant(key) != "text_config":
            continue
        if isinstance(value, ast.Name):
            return value.id
        if isinstance(value, ast.Call):
            told = {word.arg: word.value for word in value.keywords}
            by_class = told.get("config_class")
            model_type = _constant(told.get("model_type"))
            if isinstance(model_type, str):
                return model_type
            return by_class.id if isinstance(by_class, ast.Name) else None
    return None


def main(wheel: Path, target: Path) -> None:
    found = class_defaults(wheel)
    lines = ["{", f'"source": {json.dumps(wheel.name)},']
    for part in ("text_types", "class_defaults"):
        rows = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found[part].items()]
        lines += [f"{json.dumps(part)}: {{", ",\n".join(rows), "}," if part == "text_types" else "}"]
    target.write_text("\n".join([*lines, "}", ""]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
