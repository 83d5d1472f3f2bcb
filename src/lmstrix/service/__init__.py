"""The use cases: `LMStrixService` has one method each, returns records and prints nothing."""

from lmstrix.service.facade import LMStrixService
from lmstrix.service.records import InferRequest

__all__ = ["InferRequest", "LMStrixService"]
