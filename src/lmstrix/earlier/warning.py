"""The one warning of this folder: what was used, and what is its name today."""

from __future__ import annotations

import warnings


def warn(old: str, new: str) -> None:
    """Say it once per place that uses it, as Python does with such warnings."""
    # The frames between: this function, the one that was reached by the old name, and then the script's own line.
    warnings.warn(f"{old} is of the earlier LMStrix; now: {new}", DeprecationWarning, stacklevel=3)
