"""Models of a runtime that takes memory as the prompt grows, as MLX does: a load holds at any length, filling may not.

    memory = LazyMemory(budget_bytes=16 * GIB, weights_bytes=8 * GIB, bytes_per_token=2**20)
    with FaultyServer(memory.model(declared=16_384)) as server:

`effective` makes the runtime load what it likes in place of what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.faulty_server import FaultyModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.faulty_server import FaultyServer

GIB = 2**30


def as_asked(asked: int) -> int:
    return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class LazyMemory:
    """What filling takes: the weights, the runtime's `overhead_bytes`, and so much for each token; while the prompt is
    read, the share `transient` more for each.
    """

    budget_bytes: int
    weights_bytes: int
    bytes_per_token: int
    transient: float = 0.0
    overhead_bytes: int = 0

    def kept_bytes(self, tokens: int) -> int:
        return self.weights_bytes + self.overhead_bytes + self.bytes_per_token * tokens

    def peak_bytes(self, tokens: int) -> int:
        return self.kept_bytes(tokens) + int(self.transient * self.bytes_per_token * tokens)

    def limit(self, declared: int) -> int:
        """The longest prompt that can be read, found by trying all of them."""
        return max((n for n in range(declared + 1) if self.peak_bytes(n) <= self.budget_bytes), default=0)

    def free_bytes(self, server: FaultyServer) -> int:
        """What is free now: the cache of the longest prompt stays, the transient of one goes when it is read."""
        taken = 0
        for instance in server.instances.values():
            of = self.peak_bytes if instance.running else self.kept_bytes
            taken += of(instance.read_tokens)
        return self.budget_bytes - taken

    def model(
        self, *, declared: int, effective: Callable[[int], int] = as_asked, key: str = "acme/tiny"
    ) -> FaultyModel:
        """Dies of the first prompt that takes more than there is."""
        return FaultyModel(
            key=key,
            declared=declared,
            prefillable=self.limit(declared),
            effective=effective,
            extra={"format": "safetensors", "path": key},
        )
