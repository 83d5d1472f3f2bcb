"""Prompts far too long for a model, refused without counting them whole: fifty megabytes take a tokenizer minutes.

By its bytes alone a text has a least number of tokens, since no token is longer than so many bytes. Where that does not
decide, the model counts a part of the text; a part that overflows the context settles the matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.answers.tokens import MOST_BYTES_PER_TOKEN, size_bytes
from lmstrix.ground.errors import ContextOverflowError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import GenerationRequest

_PART_CHARS_PER_TOKEN = 8  # twice what prose has: a prompt that fits is hardly ever counted twice
_LEAST_PART_CHARS = 2**18  # counted in no time: below, the exact count tells more than a part of it
_GROWTH = 4  # so that all the parts together are less than half as long as the one that decides


def refuse_by_size(request: GenerationRequest, *, context_length: int) -> None:
    """Raise ContextOverflowError when the prompt cannot fit, whatever the model's tokens are."""
    size = size_bytes(_sent_text(request))
    least_tokens = -(-size // MOST_BYTES_PER_TOKEN)
    if least_tokens > context_length:
        raise ContextOverflowError(
            f"the prompt has {size:,} bytes, which are {least_tokens:,} tokens at the very least, but the context "
            f"holds {context_length:,}; shorten the prompt",
            context_length=context_length,
        )


async def refuse_by_part(
    backend: ModelBackend, instance_id: str, request: GenerationRequest, *, context_length: int
) -> None:
    """Raise ContextOverflowError when a part of a long prompt overflows the context already."""
    text = _sent_text(request)
    part_chars = max(context_length * _PART_CHARS_PER_TOKEN, _LEAST_PART_CHARS)
    while part_chars < len(text):
        tokens = await backend.count_tokens(instance_id, text[:part_chars])
        if tokens > context_length:
            raise ContextOverflowError(
                f"the prompt does not fit: the first {part_chars:,} of its {len(text):,} characters are {tokens:,} "
                f"tokens, but the context holds {context_length:,}: load a larger context "
                f"({parameter('context_length')}), or shorten the prompt",
                context_length=context_length,
            )
        part_chars *= _GROWTH


def _sent_text(request: GenerationRequest) -> str:
    """The text that is in the prompt for certain: templates may strip a message, and drop the thoughts of answers."""
    if request.raw_prompt is not None:
        return request.raw_prompt
    return "\n".join(message.text.strip() for message in request.messages if message.role != "assistant")
