"""The earlier exceptions by the names of those that are raised in their place."""

from __future__ import annotations

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

APIConnectionError = LMStudioConnectionError = LMStudioInstallationNotFoundError = BackendUnavailableError
InferenceError = GenerationError
InferenceTimeoutError = StreamStalledError
ContextLimitExceededError = ContextOverflowError
ConfigurationError = PromptError
ModelRegistryError = RegistryValidationError = InvalidModelError = InvalidModelCountError = RegistryError
ValidationError = InvalidContextLimitError = InvalidModelSizeError = UsageError
__all__ = ["LMStrixError", "ModelLoadError", "ModelNotFoundError"]
