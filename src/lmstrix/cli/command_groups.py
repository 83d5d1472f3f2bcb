"""The commands in the groups that the overview shows, by their first words. A newcomer reads from the top."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Begin": ("demo", "doctor", "scan", "list"),
    "Find limits": ("test", "history", "estimate", "recommend", "save", "reset"),
    "Ask": ("infer", "chat", "batch", "embed", "collections", "prompts", "conversations", "logs"),
    "Measure": ("bench", "power"),
    "Models and servers": ("get", "load", "unload", "ps", "monitor", "engine"),
    "Registry and settings": ("models", "registry", "config", "trust"),
    "This program": ("completion", "version"),
}
REST = "More"
"""Where a command stands that no group names."""


def grouped(paths: Iterable[tuple[str, ...]]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """The groups that have commands among these, with their commands in the group's order."""
    by_word: dict[str, list[tuple[str, ...]]] = {}
    for path in paths:
        by_word.setdefault(path[0], []).append(path)
    found = [(title, [path for word in words for path in by_word.pop(word, [])]) for title, words in GROUPS.items()]
    found.append((REST, [path for rest in by_word.values() for path in rest]))
    return [(title, inside) for title, inside in found if inside]
