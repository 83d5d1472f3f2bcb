"""The earlier exceptions, which are those of today, and what they told by its earlier names."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmstrix.ground.errors import (
    BackendUnavailableError,
    ContextOverflowError,
    GenerationError,
    LMStrixError,
    ModelLoadError,
    ModelNotFoundError,
    PromptError,
    RegistryError,
    StreamStalledError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

APIConnectionError = LMStudioConnectionError = LMStudioInstallationNotFoundError = BackendUnavailableError
InferenceError = GenerationError
InferenceTimeoutError = StreamStalledError
ContextLimitExceededError = ContextOverflowError
ConfigurationError = PromptError
ModelRegistryError = RegistryValidationError = InvalidModelError = InvalidModelCountError = RegistryError
ValidationError = InvalidContextLimitError = InvalidModelSizeError = UsageError
__all__ = ["LMStrixError", "ModelLoadError", "ModelNotFoundError"]

_ATTRIBUTES = {"prompt_tokens": "input_tokens", "context_length": "context_limit"}


@contextmanager
def telling(model: str | None) -> Iterator[None]:
    """What is raised in here, where this model is asked, has the earlier attributes too."""
    try:
        yield
    except LMStrixError as exc:
        told = vars(exc)
        told |= {"message": str(exc), "reason": str(exc), "details": {}, "model_id": told.get("model_key") or model}
        told |= {earlier: told[now] for now, earlier in _ATTRIBUTES.items() if now in told}
        raise
