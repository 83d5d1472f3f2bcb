"""How models are named: keys made from paths, quantization read from file names, and names found from what people type.

The rule follows LM Studio as far as it is known: the key is the lower-cased file stem without its quantization; a file
called `ggml-model*` or `model*` takes its repository's name; embedding models are prefixed `text-embedding-`; models
that would share a key are told apart as `key@q4_k_m`. Pure: nothing here looks at a disk.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmstrix.ground.types import ModelKind

_SHARD = re.compile(r"(?P<base>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})", re.IGNORECASE)
_QUANTIZATION = re.compile(
    r"(?:^|[-._])(?P<name>(?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32))$",
    re.IGNORECASE,
)
_MMPROJ = re.compile(r"(?:^|[-._])mmproj(?:[-._]|$)", re.IGNORECASE)
_ANONYMOUS_STEM = re.compile(r"(?:ggml-)?model(?:[-._].*)?", re.IGNORECASE)
_GGUF_SUFFIX = re.compile(r"[-._]gguf$", re.IGNORECASE)
_EMBEDDING_PREFIX = "text-embedding-"


class Shard(NamedTuple):
    """One file of a model split in several: `base` is the name they share, `number` counts from 1."""

    base: str
    number: int
    total: int


class NamedModel(NamedTuple):
    """What the naming rule needs to know of a model."""

    path: str
    kind: ModelKind = "llm"
    quantization: str | None = None


def file_stem(path: str) -> str:
    """The last part of a POSIX path without `.gguf`."""
    name = path.rpartition("/")[2]
    return name[:-5] if name.lower().endswith(".gguf") else name


def parse_shard(path: str) -> Shard | None:
    """`model-00002-of-00003.gguf` -> Shard("model", 2, 3); None for a file that is a whole model."""
    match = _SHARD.fullmatch(file_stem(path))
    if match is None:
        return None
    shard = Shard(match["base"], int(match["number"]), int(match["total"]))
    # A number out of range belongs to a name that only looks like a shard's.
    return shard if 1 <= shard.number <= shard.total else None


def is_mmproj(path: str) -> bool:
    """Whether the file name is that of a vision projector, which belongs to a model and is not one itself."""
    return _MMPROJ.search(file_stem(path)) is not None


def quantization_of(path: str) -> str | None:
    """The quantization a file name ends in, upper-cased: `…-Q4_K_M.gguf` -> "Q4_K_M"; None when it names none."""
    match = _QUANTIZATION.search(_stem_without_shard(path))
    if match is None:
        return None
    name = match["name"].upper()
    # File names have both spellings; the header of a file says F16 and F32, and the two must agree.
    return {"FP16": "F16", "FP32": "F32"}.get(name, name)


def bits_of(quantization: str | None) -> int | None:
    """About how many bits per weight a quantization has, from its name: "Q4_K_M" -> 4, "BF16" -> 16, "8bit" -> 8."""
    match = re.search(r"\d+", quantization or "")
    return int(match[0]) if match else None


def model_key_for(path: str, kind: ModelKind = "llm") -> str:
    """The key of a model at `path` (relative, POSIX; a file, or a directory for MLX), before collisions are settled."""
    stem = _stem_without_shard(path)
    if path.lower().endswith(".gguf"):
        stem = _QUANTIZATION.sub("", stem)
    repository = path.rpartition("/")[0].rpartition("/")[2]
    # "model.gguf" says nothing; its repository does.
    if repository and (not stem or _ANONYMOUS_STEM.fullmatch(stem)):
        stem = _GGUF_SUFFIX.sub("", repository)
    key = stem.lower()
    if kind == "embedding" and not key.startswith(_EMBEDDING_PREFIX):
        key = _EMBEDDING_PREFIX + key
    return key


def unique_keys(models: Iterable[NamedModel]) -> dict[str, str]:
    """Path -> key for all `models` together, each key once, whatever their order.

    Shared keys become `key@quantization`, those still shared `publisher/key@quantization`, then the lower-cased path.
    """
    models = list(models)
    keys: dict[str, str] = {}
    for name in (_plain_key, _variant_key, _publisher_key, _path_key):
        by_key: defaultdict[str, list[NamedModel]] = defaultdict(list)
        for model in models:
            by_key[name(model)].append(model)
        taken = set(keys.values())  # a longer key may equal a plain one that was given out before
        models = []
        for key, sharing in by_key.items():
            if len(sharing) == 1 and key not in taken:
                keys[sharing[0].path] = key
            else:
                models += sharing
    # Paths that differ only in case.
    keys.update((model.path, model.path) for model in models)
    return keys


def match_names(query: str, names: Iterable[tuple[str, str]]) -> list[str]:
    """The paths, of (path, key) pairs, that `query` may mean: those found by the strictest rule that finds any.

    Rules: the exact path or key; the same in any case; the key without its `@variant`, the path without its ending, or
    the file name; the beginning of any of these. One path found is an answer, several ask back.
    """
    pairs = list(names)
    exact = exact_names(query, pairs)
    if exact or not query:
        return exact
    wanted = query.lower()
    return [
        path
        for path, low, key in ((path, path.lower(), key.lower()) for path, key in pairs)
        if key.startswith(wanted) or low.startswith(wanted) or low.rpartition("/")[2].startswith(wanted)
    ]


def exact_names(query: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The paths, of (path, key) pairs, that `query` names as a whole: all rules of `match_names` but the last."""
    exact = [path for path, key in pairs if query == path] or [path for path, key in pairs if query == key]
    if exact or not query:
        return exact
    wanted = query.lower()
    folded = [(path, path.lower(), key.lower()) for path, key in pairs]
    same = [path for path, low, key in folded if wanted in (low, key)]
    if same:
        return same
    return [
        path
        for path, low, key in folded
        if wanted in (key.partition("@")[0], low.removesuffix(".gguf"), file_stem(low), low.rpartition("/")[2])
    ]


def names_with_part(query: str, names: Iterable[tuple[str, str]]) -> list[str]:
    """The paths, of (path, key) pairs, that have `query` in their path or key, from the beginning of a word on.

    Inside a word it says little: llama-3 is no name for codellama-34b.
    """
    part = re.compile(rf"(?:^|[^a-z0-9]){re.escape(query.lower())}")
    return [path for path, key in names if query and (part.search(path.lower()) or part.search(key.lower()))]


def _stem_without_shard(path: str) -> str:
    shard = parse_shard(path)
    return shard.base if shard else file_stem(path)


def _plain_key(model: NamedModel) -> str:
    return model_key_for(model.path, model.kind)


def _variant_key(model: NamedModel) -> str:
    quantization = model.quantization or quantization_of(model.path)
    key = _plain_key(model)
    return f"{key}@{quantization.lower()}" if quantization else key


def _publisher_key(model: NamedModel) -> str:
    publisher = model.path.partition("/")[0].lower() if "/" in model.path else ""
    return f"{publisher}/{_variant_key(model)}"


def _path_key(model: NamedModel) -> str:
    return model.path.lower().removesuffix(".gguf")
