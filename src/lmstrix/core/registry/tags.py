"""The tags of a model: its own, which the user gives, and those that follow from what the model is. Pure.

Models that share a tag are a group: commands that take several models take `tag:NAME` for all of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lmstrix.core.registry.records import ModelRecord

_TAG = re.compile(r"[\w][\w.+-]*")
# The files of a model of about 7 billion parameters at 4 bits take 4 GB, those of one of 30 billion 16 GB.
_SMALL_BYTES, _MEDIUM_BYTES = 4 * 10**9, 16 * 10**9


def check_tag(word: str) -> str:
    """A tag as it is stored. Raises UsageError where the word would not be read as one again."""
    tag = word.strip().lower()
    if not _TAG.fullmatch(tag):
        raise UsageError(f"{word!r} is no tag: letters, digits, and . + - _ after the first of them")
    return tag


def derived_tags(record: ModelRecord) -> tuple[str, ...]:
    """What a model is, as tags: embedding, vision, tools, mlx, its quantization, bits, architecture and size class.

    Small are files below 4 GB, medium below 16 GB, large the others.
    """
    is_tags = {
        "embedding": record.kind == "embedding",
        "vision": record.vision,
        "tools": record.trained_for_tool_use,
        "mlx": record.is_mlx,
    }
    facts = (
        record.quantization,
        f"{record.bits}bit" if record.bits else None,
        record.architecture,
        _size_class(record.all_bytes),
    )
    words = [word for word, holds in is_tags.items() if holds] + [fact.lower() for fact in facts if fact]
    return tuple(dict.fromkeys(words))


def have_tag(records: Iterable[ModelRecord], tag: str) -> list[ModelRecord]:
    """The models that are there and have a tag, own or derived."""
    wanted = tag.lower()
    return [record for record in records if not record.is_missing and wanted in all_tags(record)]


def all_tags(record: ModelRecord) -> tuple[str, ...]:
    """Own tags, then the derived ones."""
    return tuple(dict.fromkeys((*record.tags, *derived_tags(record))))


def _size_class(size_bytes: int) -> str | None:
    if not size_bytes:
        return None
    return "small" if size_bytes < _SMALL_BYTES else "medium" if size_bytes < _MEDIUM_BYTES else "large"
