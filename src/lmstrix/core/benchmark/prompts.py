"""The prompts of a benchmark: never twice the same from the first token on, and as long as a tier asks for. Pure.

A nonce opens the first message, because prefix caches match from token 0; the sentences after it come in another order
each time, because some servers also reuse pieces from the middle. The sentences themselves stay, so the length in
tokens does too. How many characters make a token is learnt from the server's own counts of the first prompts, so no
tokenizer is needed; the prose is real enough that speculative decoding shows what it would show on text.
"""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.recall.prose import Prose

if TYPE_CHECKING:
    from lmstrix.core.benchmark.records import BenchRequest

TASKS = {
    "story": (
        "Write a long story about a river that wants to reach the sea. Tell it in full, with many scenes, and do not "
        "stop before you are told to."
    ),
    "html": (
        "Write one complete, self-contained HTML page with inline CSS and JavaScript, and no external files: an "
        "animated clock with a dial and hands that shows the present time. Answer with the page's source only."
    ),
    "code": (
        "Write a Python module that implements an LRU cache with a time to live, thread-safe, with type hints, "
        "docstrings and a full set of unit tests. Answer with the code only."
    ),
    "summary": "Summarise what is known about the history of bridge building, from wood to steel, in many paragraphs.",
    "qa": "Explain in detail, step by step, why the sky is blue by day and red at sunset, and what happens on Mars.",
    "custom": "",
}
_OVER_TEXT = {
    "summary": "Summarise the text above in many paragraphs, leaving out nothing of importance.",
    "qa": "Who does what in the text above? Answer in a long list, one person a line, with the place and the reason.",
}
FIRST_GUESS_CHARS = 4.2  # characters of English prose per token, for the vocabularies in use
SAMPLE_CHARS = 2400
_LEAST_LEARNT_TOKENS = 64
_SHORTEST_SENTENCE = 16  # the prose has none; a shorter one was cut


@dataclass(slots=True)
class PromptWriter:
    """Writes the prompts of one cell. `learn` teaches it how long they are in tokens; `last` is the newest."""

    task: str
    seed: int
    chars_per_token: float = FIRST_GUESS_CHARS
    overhead_tokens: float = 32.0
    _learnt: tuple[int, int] | None = None
    last: str = ""
    _written: int = 0

    @classmethod
    def of(cls, request: BenchRequest, *, filled: bool) -> PromptWriter:
        """The writer for a request's task; a `filled` prompt has text before the question."""
        task = request.prompt if request.prompt is not None else TASKS[request.task]
        if filled and request.prompt is None:
            task = _OVER_TEXT.get(request.task, task)
        return cls(task=task, seed=request.seed)

    @property
    def learnt(self) -> bool:
        """Whether any count is known yet."""
        return self._learnt is not None

    def bare(self) -> str:
        """The task alone, after a nonce."""
        self.last = f"{nonce()}\n{self.task}"
        return self.last

    def filled(self, tokens: int) -> str:
        """A prompt of about `tokens` tokens: prose, then the task."""
        chars = (tokens - self.overhead_tokens) * self.chars_per_token
        return self.of_chars(max(0, round(chars) - len(self.of_chars(0))))

    def of_chars(self, chars: int) -> str:
        """`chars` characters of prose between nonce and task."""
        self.last = f"{nonce()}\n{self._prose(chars)}\n\n{self.task}"
        return self.last

    def learn(self, prompt: str, prompt_tokens: int) -> None:
        """The server counted `prompt_tokens` for `prompt`: characters per token, and the tokens of the template."""
        # One prompt alone cannot tell the two apart; a second of another length gives the slope, and so the rest.
        chars = len(prompt)
        if self._learnt is None:
            self.chars_per_token = chars / max(1, prompt_tokens)
            self.overhead_tokens = 0.0
        else:
            tokens_apart = prompt_tokens - self._learnt[1]
            if abs(tokens_apart) >= _LEAST_LEARNT_TOKENS:
                self.chars_per_token = (chars - self._learnt[0]) / tokens_apart
            self.overhead_tokens = prompt_tokens - chars / self.chars_per_token
        self._learnt = (chars, prompt_tokens)

    def _prose(self, chars: int) -> str:
        """The same sentences for the same length, in an order of its own each time."""
        if chars <= 0:
            return ""
        prose = Prose(random.Random(f"bench {self.seed}"))
        sentences: list[str] = []
        left = chars
        while left > 0:
            sentences.append(_within(prose.sentence(), left))
            left -= len(sentences[-1]) + 1
            if len(sentences[-1]) < _SHORTEST_SENTENCE:
                break
        self._written += 1
        random.Random(f"order {self.seed} {self._written}").shuffle(sentences)
        return " ".join(sentences).strip()


def _within(sentence: str, chars: int) -> str:
    """The sentence, or the words of it that fit."""
    return sentence if len(sentence) <= chars else sentence[:chars].rpartition(" ")[0]


def nonce() -> str:
    """Words no prompt began with before: the first one differs from call to call, all together never come again."""
    number = secrets.randbits(64)
    first = chr(ord("A") + number % 26)
    return f"{first}{number:016x}:"
