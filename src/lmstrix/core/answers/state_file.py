"""The file of small state between runs: one JSON object, of which each of its owners has some keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lmstrix.ground.files import PRIVATE, make_private_folder, write_whole
from lmstrix.ground.held_files import read_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_state(file: Path) -> dict[str, Any]:
    """All of it; empty where there is none or it cannot be read."""
    try:
        found = json.loads(read_whole(file))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_state(file: Path, changes: Mapping[str, Any]) -> None:
    """Change these keys and keep all others; None takes a key away. Raises OSError."""
    old = read_state(file)
    new = {key: value for key, value in (old | dict(changes)).items() if value is not None}
    # The file is written only when it changes: most answers come from the same model, and reading costs less.
    if new == old:
        return
    make_private_folder(file.parent)
    write_whole(file, json.dumps(new) + "\n", mode=PRIVATE, durable=False)
