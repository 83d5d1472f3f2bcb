"""The child processes a test has started, apart from those of engines that other tests share."""

from __future__ import annotations

import psutil

_shared: set[int] = set()


def note_shared() -> None:
    """What runs now belongs to others."""
    _shared.clear()
    _shared.update(child.pid for child in psutil.Process().children())


def own_children() -> list[psutil.Process]:
    """Children of this process started since."""
    return [child for child in psutil.Process().children() if child.pid not in _shared]
