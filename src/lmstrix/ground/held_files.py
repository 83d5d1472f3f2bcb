"""Files that another program holds open, which Windows then lets nobody replace, remove or, at times, read.

A reader of ours, a virus scanner or the search indexer holds a file for milliseconds. The system says "access denied"
(WinError 5), "used by another process" (32) or "locked" (33), which Python makes a PermissionError; so a step that met
one is tried again for a while. Elsewhere names and open files are apart, and a refusal is a matter of permissions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from time import sleep
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

_MAY_BE_HELD = os.name == "nt"
"""Whether who is refused a file may be let in a moment later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPatience:
    """How long a file that somebody holds is waited for."""

    first_s: float = 0.01
    """A reader of a small file is done by then."""
    growth: float = 2.0
    most_s: float = 0.25
    total_s: float = 2.0
    """A scanner holds a new file for tens to hundreds of milliseconds; longer is a fault to be told."""

    def pauses(self) -> Iterator[float]:
        """Each wait, one after the other, until together they are as long as is waited."""
        pause_s, left_s = self.first_s, self.total_s
        while left_s > 0:
            yield min(pause_s, left_s)
            left_s -= pause_s
            pause_s = min(pause_s * self.growth, self.most_s)


PATIENCE = HeldPatience()


def while_held(step: Callable[[], T]) -> T:
    """The result of a step with a file, tried again while another program holds it. Raises OSError, the last one."""
    if _MAY_BE_HELD:
        for pause_s in PATIENCE.pauses():
            try:
                return step()
            except PermissionError:
                sleep(pause_s)
    return step()


def replace_file(source: Path, target: Path) -> None:
    """Put a file in the place of another, in one step. Raises OSError."""
    while_held(lambda: source.replace(target))


def remove_file(path: Path) -> None:
    """Remove a file that may be gone already. Raises OSError."""
    while_held(lambda: path.unlink(missing_ok=True))


def read_whole(path: Path) -> bytes:
    """All of a file that another process of ours may just be replacing. Raises OSError."""
    return while_held(path.read_bytes)
