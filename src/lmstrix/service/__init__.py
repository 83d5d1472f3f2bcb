"""The use cases: one module each, functions of a Workspace; LMStrixService has them all by name."""

from lmstrix.service.facade import LMStrixService

__all__ = ["LMStrixService"]
