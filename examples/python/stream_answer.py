"""Print an answer as it comes, then how fast it came: python examples/python/stream_answer.py MODEL PROMPT"""

from __future__ import annotations

import sys

from lmstrix import Finished, LMStrix, TextDelta


def main(model: str, prompt: str) -> None:
    """Ask one question."""
    with LMStrix() as lms:
        for event in lms.events(prompt, model=model, max_tokens=200):
            if isinstance(event, TextDelta) and not event.reasoning:
                print(event.text, end="", flush=True)
            elif isinstance(event, Finished):
                stats = event.result.stats
                print(f"\n{stats.completion_tokens} tokens, first after {stats.ttft_s or 0:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
