"""`/api/v0`: OpenAI's endpoints with figures, and a list of models that says which are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.engine.rest.openai import OpenAiRoutes

if TYPE_CHECKING:
    from lmstrix.engine.instance import Instance
    from lmstrix.engine.records import CatalogEntry


class V0Routes(OpenAiRoutes):
    """Handlers under `/api/v0`."""

    prefix = "/api/v0"
    detailed = True

    def model_rows(self) -> list[dict[str, Any]]:
        """A row for every loaded instance, and one for every model of which there is none."""
        rows = []
        for entry in self._state.pool.catalog.entries:
            loaded = [each for each in self._state.pool.list_loaded() if each.entry.model_key == entry.model_key]
            rows += [_row(entry, instance) for instance in loaded] or [_row(entry, None)]
        return rows


def _row(entry: CatalogEntry, instance: Instance | None) -> dict[str, Any]:
    # This older interface has names of its own for the kinds.
    kind = "embeddings" if entry.kind == "embedding" else "vlm" if entry.vision else "llm"
    row: dict[str, Any] = {
        "id": entry.model_key if instance is None else instance.identifier,
        "object": "model",
        "type": kind,
        "publisher": entry.publisher,
        "arch": entry.architecture,
        "compatibility_type": "gguf",
        "quantization": entry.quantization,
        "state": "not-loaded" if instance is None else "loaded",
        "max_context_length": entry.max_context_length,
    }
    if instance is not None:
        row["loaded_context_length"] = instance.context_length
        row["loaded_context_source"] = instance.context_source
    if entry.trained_for_tool_use:
        row["capabilities"] = ["tool_use"]
    return row
