"""The embedded engine: an LM Studio-compatible server over llama.cpp.

with EmbeddedEngine(models_dir="models") as engine:
    client = lmstudio.Client(engine.address)
"""

from __future__ import annotations

from lmstrix.engine.embedded import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
