"""What MLX holds for a prompt where it differs from llama.cpp. Pure.

Its cache is taken as the prompt grows, in steps of 256 cells, always of 16 bits; a sliding layer keeps its window and,
while it reads, the step that is being read; recurrent layers keep a state. On top come the inputs of the whole prompt
and, for heads that MLX has no fused kernel for, their scores over all of it for the tokens of one step.

Source: `context_fit.py` of LM Studio's MLX engine, which measured this on Macs with dense and expert models of the Qwen
3.5 and Gemma 4 families; the largest peak it did not explain was 2.41 GiB. LM Studio logs the terms when it loads a
model (`full_kv`, `prompt_inputs`, `attention`, `rotating_peak`, `fixed_ssm`); `tests/data/mlx` has what users posted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.context_lengths import aligned_up

if TYPE_CHECKING:
    from lmstrix.core.memory.shape import ModelShape

__all__ = ["prefill_bytes", "window_cells"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxReading:
    """How LM Studio's MLX engine reads a prompt."""

    step_tokens: int = 2048
    """Tokens read at once; it takes fewer near the end of its memory. Its logs: 65,536 bytes for 16 heads."""
    element_bytes: int = 2
    """F16 or BF16, which all quantized models compute in."""


_READING = MlxReading()


def window_cells(window: int, context_length: int) -> int:
    """Cells that a sliding layer holds at most: its window and the step being read, which overlap by one."""
    return min(aligned_up(context_length), window + _READING.step_tokens - 1)


def prefill_bytes(shape: ModelShape, context_length: int) -> int:
    """The inputs of a prompt that fills the context, and the scores of the step that is read last."""
    step = min(_READING.step_tokens, context_length)
    return context_length * _READING.element_bytes * (shape.n_embd + shape.scored_heads * step)
