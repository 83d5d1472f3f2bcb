"""What a server's process takes beside the buffers of a model, which differs by the server and by what is counted.

llama.cpp keeps an entry for every node that its largest graph may have. Most models need a few thousand; those with a
gated delta net get 40 for each token of a batch, and their bookkeeping is larger than all else that a small one takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.core.memory.shape import ModelShape

__all__ = [
    "EMBEDDED",
    "EMBEDDED_ADDRESS_SPACE",
    "LLAMA_CPP",
    "LM_STUDIO",
    "NODE_BYTES_TOUCHED_LATER",
    "Runtime",
    "graph_nodes",
]

_MIB = 2**20
_LEAST_NODES = 1024
_NODES_PER_TENSOR = 8
_DELTA_NET_NODES_PER_TENSOR = 32
_DELTA_NET_NODES_PER_TOKEN = 40
NODE_BYTES_TOUCHED_LATER = 460
"""Of the resident bytes of a node: those that no load touches, only the first prompt (measured with `EMBEDDED`)."""
_TENSORS_PER_LAYER = 12
"""Of 9 (dense) to 16 (experts): the nodes of a layer more or less are a few kilobytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The memory of a process that hosts one model, beside its weights, cache, state and compute buffer.

    `context_checkpoints` are the copies of the recurrent state that a server keeps for each slot of a hybrid, so that
    it can go back to an earlier point of a prompt. They fill up in use; a load alone takes none. Where memory
    `counts_when_touched`, a load has not yet taken what only a prompt touches.
    """

    base_bytes: int
    bytes_per_vocabulary_entry: int
    bytes_per_graph_node: int
    context_checkpoints: int = 0
    counts_when_touched: bool = False

    def touched_later_bytes(self, shape: ModelShape, compute_buffer_bytes: int, *, batch: int) -> int:
        """What a load takes only once a long prompt is read: the compute buffer, and part of each graph node."""
        if not self.counts_when_touched:
            return 0
        return compute_buffer_bytes + NODE_BYTES_TOUCHED_LATER * graph_nodes(shape, batch=batch)

    def overhead_bytes(self, shape: ModelShape, *, batch: int) -> int:
        """What the process takes for `shape` in batches of `batch` tokens."""
        nodes = graph_nodes(shape, batch=batch)
        return self.base_bytes + self.bytes_per_vocabulary_entry * shape.n_vocab + self.bytes_per_graph_node * nodes


EMBEDDED = Runtime(
    base_bytes=31 * _MIB, bytes_per_vocabulary_entry=208, bytes_per_graph_node=1_360, counts_when_touched=True
)
"""Resident memory of a child of the embedded engine, code and interpreter included, once its context is full.

Measured on x86-64 Linux with llama.cpp 11549: 32 to 33 MiB over six classes of models, 512 to 64,000 vocabulary
entries, and 2,560 to 20,480 nodes.
"""
EMBEDDED_ADDRESS_SPACE = Runtime(base_bytes=67 * _MIB, bytes_per_vocabulary_entry=190, bytes_per_graph_node=22_530)
"""Address space of the same child beyond what it has before it loads anything: stacks, arenas, the graph's tables.

Measured likewise: 204 to 208 MiB at most, 116 of them before the load. A node has 60 tensors of 368 bytes reserved.
"""
LLAMA_CPP = Runtime(base_bytes=48 * _MIB, bytes_per_vocabulary_entry=208, bytes_per_graph_node=1_360)
"""Any other process that hosts llama.cpp on a CPU.

A GPU driver takes another 0.3 to 0.75 GiB, which the context search learns from what it sees.
"""
LM_STUDIO = replace(LLAMA_CPP, context_checkpoints=32)
"""LM Studio's default number of checkpoints."""


def graph_nodes(shape: ModelShape, *, batch: int) -> int:
    """How many nodes llama.cpp provides for in its graphs (`llama_context::graph_max_nodes`)."""
    tensors = _TENSORS_PER_LAYER * shape.n_layers
    if shape.delta_net is not None:
        return max(_DELTA_NET_NODES_PER_TOKEN * batch, _DELTA_NET_NODES_PER_TENSOR * tensors)
    return max(_LEAST_NODES, _NODES_PER_TENSOR * tensors)
