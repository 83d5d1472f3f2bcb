"""Trusted folders on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.reports.table import Column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lmstrix.ground.trust import TrustedFolder
    from lmstrix.reports.console import Console

_COLUMNS = (Column(title="FOLDER", shrink=True, keep=20), Column(title="SETTINGS"))


def show_trusted(console: Console, folder: Path, settings: Mapping[str, object]) -> None:
    """What counts from now on."""
    if console.json:
        console.result("trust", {"folders": [{"folder": str(folder), "is_current": True}]})
        return
    given = ", ".join(f"{key} = {value!r}" for key, value in settings.items())
    console.note(f"{folder} is trusted; its file sets {given or 'nothing that needs it'}")


def show_removed(console: Console, folder: Path) -> None:
    """That the folder is trusted no longer."""
    if console.json:
        console.result("trust", {"folders": []})
    else:
        console.note(f"{folder} is trusted no longer")


def show_trusted_folders(console: Console, folders: Sequence[TrustedFolder]) -> None:
    """The trusted folders, with what became of their files."""
    if console.json:
        console.result("trust", {"folders": [{"folder": str(f.folder), "is_current": f.is_current} for f in folders]})
    elif folders:
        rows = [(str(f.folder), "taken" if f.is_current else "changed or gone, so left out") for f in folders]
        console.table(_COLUMNS, rows)
    else:
        console.note("no folder is trusted")
