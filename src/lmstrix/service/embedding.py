"""Vectors of texts: find the embedding model, load it unless it is loaded, ask. Written once, as `answering` is."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lmstrix.core.answers.inference import OWN_PREFIX
from lmstrix.core.answers.request import Embedded
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.types import DEFAULT_LOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.unsuspended import Aside
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.service.facade import LMStrixService


async def embed(
    service: LMStrixService,
    connect: Callable[[], ModelBackend],
    texts: Sequence[str],
    model: str | None,
    *,
    ttl_s: float | None,
    aside: Aside,
) -> Embedded:
    """Embed texts. Without a model, the only embedding model there is. `ttl_s` 0 unloads what was loaded for it."""
    for number, text in enumerate(texts, 1):
        if not text:
            raise UsageError(f"text {number} is empty; an empty text has no vector")
    record = await aside(_find, service, model)
    backend = await aside(connect)
    loaded = next(
        (m for m in await backend.list_loaded() if m.model_key == record.model_key and m.kind == "embedding"), None
    )
    own = None
    if loaded is None:
        service.notify(f"loading {record.model_key}")
        loaded = own = await backend.load(
            record.model_key,
            DEFAULT_LOAD,
            instance_id=f"{OWN_PREFIX}{service.new_run_id()}-embed",
            kind="embedding",
            ttl_s=ttl_s or None,
        )
    try:
        vectors = await backend.embed(loaded.instance_id, texts)
    finally:
        if own is not None and ttl_s == 0:
            with suppress(LMStrixError):
                await backend.unload(own.instance_id, kind="embedding")
    return Embedded(vectors=tuple(tuple(vector) for vector in vectors), model_key=record.model_key)


def _find(service: LMStrixService, model: str | None) -> ModelRecord:
    if model is not None:
        record = service.find(model)
        if record.kind != "embedding":
            raise UsageError(f"{record.model_key} makes no embeddings; choose an embedding model")
        return record
    found = [record for record in service.known_models() if record.kind == "embedding" and not record.is_missing]
    if len(found) == 1:
        return found[0]
    names = ", ".join(record.model_key for record in found[:8])
    raise UsageError(f"which embedding model? give -m MODEL ({names or 'there is none yet: lmstrix scan'})")
