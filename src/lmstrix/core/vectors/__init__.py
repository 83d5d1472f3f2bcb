"""Collections of texts as vectors: kept in a file of their own, cut into pieces a model can take, and searched."""

from __future__ import annotations

from lmstrix.core.vectors.records import CollectionInfo, EmbeddedPart, Match
from lmstrix.core.vectors.store import CollectionStore

__all__ = ["CollectionInfo", "CollectionStore", "EmbeddedPart", "Match"]
