"""The file of small state between runs: one JSON object, of which each of its owners has some keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lmstrix.ground.files import PRIVATE, make_private_folder, write_whole
from lmstrix.ground.held_files import read_whole
from lmstrix.ground.one_writer import one_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def read_state(file: Path) -> dict[str, Any]:
    """All of it; empty where there is none or it cannot be read."""
    try:
        found = json.loads(read_whole(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_state(file: Path, changes: Mapping[str, Any]) -> None:
    """Change these keys and keep all others; None takes a key away. Raises OSError."""
    change_state(file, lambda _: changes)


def change_state(file: Path, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """The same with what `change` makes of the state that the file has at that moment. Raises OSError."""
    # The file is written only when it changes: most answers come from the same model, and reading costs less.
    if _changed(read_state(file), change) is None:
        return
    with one_writer(file):
        new = _changed(read_state(file), change)
        if new is not None:
            make_private_folder(file.parent)
            write_whole(file, json.dumps(new) + "\n", mode=PRIVATE, durable=False)


def _changed(old: Mapping[str, Any], change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> dict[str, Any] | None:
    """The new state; None where it is the old one."""
    new = {key: value for key, value in {**old, **change(old)}.items() if value is not None}
    return None if new == old else new
