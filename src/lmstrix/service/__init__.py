"""The use cases: `LMStrixService` has one method each, returns records and prints nothing."""

from lmstrix.core.answers.request import InferRequest
from lmstrix.service.facade import LMStrixService

__all__ = ["InferRequest", "LMStrixService"]
