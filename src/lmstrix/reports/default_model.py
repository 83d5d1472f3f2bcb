"""The default model on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lmstrix.reports.table import clean

if TYPE_CHECKING:
    from lmstrix.reports.console import Console


def show_default_model(console: Console, chosen: str | None, *, used_last: str | None) -> None:
    """The key alone on stdout, for scripts; where there is none, what is asked instead."""
    if console.json:
        console.result("models-default", {"model_key": chosen, "used_last": used_last})
    elif chosen is not None:
        sys.stdout.write(f"{clean(chosen)}\n")
    else:
        instead = f"{used_last}, used last, is asked" if used_last is not None else "name models with -m"
        console.note(f"there is no default model; {instead} (lmstrix models default MODEL chooses one)")
