"""From the events of an answer to what most callers want of them: the text as it comes, the result at the end."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from lmstrix.ground.types import Finished, TextDelta
from lmstrix.python.results import InferenceResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from lmstrix.core.answers.answer_schema import AnswerSchema
    from lmstrix.ground.types import GenerationResult, StreamEvent


async def checked(answer: AsyncGenerator[StreamEvent], schema: AnswerSchema) -> AsyncGenerator[StreamEvent]:
    """All events, the result too; then InvalidAnswerError where the answer is not of this shape."""
    async with aclosing(answer) as events:
        async for event in events:
            yield event
            if isinstance(event, Finished):
                schema.check(event.result)


async def texts_of(answer: AsyncGenerator[StreamEvent]) -> AsyncGenerator[str]:
    """The pieces of the answer's text, without reasoning."""
    async with aclosing(answer) as events:
        async for event in events:
            # A structural piece is the tag around reasoning, which is no text of the answer either.
            if isinstance(event, TextDelta) and not event.reasoning and not event.structural:
                yield event.text


async def result_of(answer: AsyncGenerator[StreamEvent]) -> GenerationResult:
    """The result of an answer whose events are read to their end, where its shape is checked."""
    result: GenerationResult | None = None
    async with aclosing(answer) as events:
        async for event in events:
            if isinstance(event, Finished):
                result = event.result
    assert result is not None, "a stream ends with Finished, or raises"
    return result


async def answer_of(answer: AsyncGenerator[StreamEvent]) -> InferenceResult:
    """The result the events end with, as callers see it."""
    return InferenceResult.of(await result_of(answer))
