"""How much a model reads and computes for one more token, by how far its context is filled. Pure.

Decoding reads all weights that a token passes, and the keys and values of all tokens before it: so its speed falls as
the context fills, on any machine. The two are added as bytes,

    work(n) = weights * share of the experts used + 2 * attended width * n

where the attended width counts the keys and values of every query head for itself, at two bytes each. Heads that share
keys read fewer bytes, but not every backend makes use of it, and computing is per head; smaller types of the cache read
fewer bytes too and compute more. So this is more than any backend reads, and a fall of speed beyond it is not the
model's doing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.core.memory.shape import ModelShape

__all__ = ["decode_work_bytes"]

_BYTES_PER_ELEMENT = 2


def decode_work_bytes(shape: ModelShape, filled_tokens: int) -> float:
    """The work of one token behind `filled_tokens` others; for a shape that was guessed, in proportion to them."""
    # Nothing known of the weights: then all the time may go into attention, which is the steepest fall there is.
    if shape.approximate:
        return float(max(1, filled_tokens))
    attended = _width(shape, shape.full.count, shape.full.k_width + shape.full.v_width) * filled_tokens
    window = min(filled_tokens, shape.sliding_window)
    attended += _width(shape, shape.sliding.count, shape.sliding.k_width + shape.sliding.v_width) * window
    # Never nothing: works are compared as a ratio.
    return max(1.0, shape.file_bytes * shape.expert_share + _BYTES_PER_ELEMENT * attended)


def _width(shape: ModelShape, layers: int, cached_width: int) -> int:
    """Elements that all heads of some layers attend to per token; `attention_width` is queries and results, so twice
    the heads of one layer."""
    return max(layers * shape.attention_width, cached_width)
