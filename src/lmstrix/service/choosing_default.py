"""`models default`: the model that is asked where none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from lmstrix.service.workspace import Workspace


def choose_default_model(workspace: Workspace, model: str | None) -> str | None:
    """Keep the key of a model, or with None no choice. Raises ModelNotFoundError, UsageError."""
    if model is None:
        workspace.default_model.write(None)
        return None
    record = workspace.find(model)
    if record.kind == "embedding":
        raise UsageError(f"{record.model_key} is an embedding model and answers no prompts; choose an llm")
    workspace.default_model.write(record.model_key)
    return record.model_key
