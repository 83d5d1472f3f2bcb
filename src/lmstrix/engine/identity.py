"""What the engine says it is, and the llama.cpp build it runs."""

from __future__ import annotations

from functools import cache
from typing import Final

PACKAGE: Final = "lmstrix"
ENGINE_NAME: Final = "llama.cpp"


@cache
def llama_version() -> str:
    """The version of the llama.cpp build in use."""
    from importlib.metadata import version

    # The wheel's metadata says it without importing the wheel, which would load all of llama.cpp into this process.
    return version("xllamacpp")
