"""Ask many questions at once, on one event loop: python examples/python/many_at_once.py MODEL QUESTION…"""

from __future__ import annotations

import asyncio
import sys

from lmstrix import AsyncLMStrix


async def main(model: str, questions: list[str]) -> None:
    """Print the answers in the order of the questions."""
    async with AsyncLMStrix() as lms:
        await lms.infer(questions[0], model=model, max_tokens=1)  # load the model once, before all ask for it
        answers = await asyncio.gather(*(lms.infer(question, model=model, max_tokens=100) for question in questions))
        for question, answer in zip(questions, answers, strict=True):
            print(f"{question} -> {answer.text}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
