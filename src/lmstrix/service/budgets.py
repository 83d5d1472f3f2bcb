"""How much memory models may take where their server runs, and what its process takes beside them.

The server's own word goes first: it may run on another machine, in a container or under a limit. Else this machine's
memory stands for it, where the server is on this machine; of any other machine nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.memory.host import HostMemory, read_host_memory
from lmstrix.core.memory.prediction import breakdown, predicted_limit
from lmstrix.core.memory.runtime import EMBEDDED, EMBEDDED_ADDRESS_SPACE, LM_STUDIO, Runtime
from lmstrix.ground.addresses import is_local

if TYPE_CHECKING:
    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import LoadConfig, MemoryLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What models may take: `available_bytes`, None where nobody knows; `limited_by` is the server's word for why.

    `beside_checkpoints`: a server's context checkpoints, which lie in main memory, take from the same memory.
    """

    available_bytes: int | None
    runtime: Runtime
    limited_by: MemoryLimit | None = None
    beside_checkpoints: bool = True

    def cost(self, shape: ModelShape, context_length: int, load: LoadConfig) -> int:
        """What loading takes. Readings after a load compare with it: checkpoints come later."""
        return breakdown(shape, context_length, load, runtime=self.runtime).loaded_bytes

    def touched_later(self, shape: ModelShape, context_length: int, load: LoadConfig) -> int:
        """How much of that a load has not taken before a long prompt is read."""
        # A card's buffers are taken as they are made.
        if self.limited_by == "graphics card":
            return 0
        return breakdown(shape, context_length, load, runtime=self.runtime).touched_later_bytes

    def use(self, shape: ModelShape, context_length: int, load: LoadConfig) -> int:
        """What the model takes in use, in the memory this budget is of."""
        return self.cost(shape, context_length, load) + self._checkpoint_bytes(shape, load)

    def for_loading(self, shape: ModelShape, load: LoadConfig) -> int | None:
        """What a load of this model may take, so that its checkpoints fit too."""
        if self.available_bytes is None:
            return None
        return max(0, self.available_bytes - self._checkpoint_bytes(shape, load))

    def limit(self, shape: ModelShape, ceiling: int, load: LoadConfig) -> int:
        """The longest context up to `ceiling` that fits; `ceiling` where nobody knows."""
        room = self.for_loading(shape, load)
        return ceiling if room is None else predicted_limit(shape, room, ceiling, load, runtime=self.runtime)

    def _checkpoint_bytes(self, shape: ModelShape, load: LoadConfig) -> int:
        parts = breakdown(shape, 1, load, runtime=self.runtime)  # they are of one size at any length
        return parts.checkpoint_bytes if self.beside_checkpoints else 0


def host_budget(runtime: Runtime) -> Budget:
    """What this machine has for models now."""
    return _of_host(read_host_memory(), runtime)


def _of_host(memory: HostMemory, runtime: Runtime) -> Budget:
    return Budget(available_bytes=memory.model_budget_bytes, runtime=runtime, beside_checkpoints=not memory.gpus)


def assumed_runtime(server: str) -> Runtime:
    """The runtime to reckon with before any server is asked; `server` is the setting of that name."""
    return EMBEDDED if server == "embedded" else LM_STUDIO


async def server_budget(backend: ModelBackend, *, with_own_limit: bool = False) -> Budget:
    """What models may take on this server now; `with_own_limit` for those who do not ask its guardrail as well."""
    told = await backend.memory()
    if told is not None:
        runtime = EMBEDDED_ADDRESS_SPACE if told.machine_limited_by == "address space" else EMBEDDED
        if with_own_limit:
            return Budget(available_bytes=told.available_bytes, runtime=runtime, limited_by=told.limited_by)
        return Budget(available_bytes=told.machine_bytes, runtime=runtime, limited_by=told.machine_limited_by)
    runtime = EMBEDDED if backend.server.engine == "embedded" else LM_STUDIO
    unknown = Budget(available_bytes=None, runtime=runtime)
    if not is_local(backend.server.address):
        return unknown
    memory = read_host_memory()
    # A card that does not tell its memory may hold any part of a model.
    return unknown if memory.unreadable_gpus else _of_host(memory, runtime)
