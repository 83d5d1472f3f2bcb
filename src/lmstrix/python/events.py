"""From the events of an answer to what most callers want of them: the text as it comes, the result at the end."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from lmstrix.core.answers.streaming import result_of
from lmstrix.ground.types import TextDelta
from lmstrix.python.results import InferenceResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from lmstrix.ground.types import StreamEvent


async def texts_of(answer: AsyncGenerator[StreamEvent]) -> AsyncGenerator[str]:
    """The pieces of the answer's text, without reasoning."""
    async with aclosing(answer) as events:
        async for event in events:
            # A structural piece is the tag around reasoning, which is no text of the answer either.
            if isinstance(event, TextDelta) and not event.reasoning and not event.structural:
                yield event.text


async def answer_of(answer: AsyncGenerator[StreamEvent]) -> InferenceResult:
    """The result the events end with, as callers see it."""
    return InferenceResult.of(await result_of(answer))
