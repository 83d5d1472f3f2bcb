"""How many tokens a model has worked on: counters of the model, and how far each of its requests is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine.records import PromptProgressEvent

Status = Literal["idle", "processingPrompt", "generating", "computingEmbedding"]


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one model has done since it was loaded. Prompt tokens are those it processed, not those it kept."""

    answered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(slots=True, eq=False, kw_only=True)  # two requests are never the same one, whatever they do
class Turn:
    """One request on its way through a model: what it does now, how far it is, and how to end it when the model goes.

    `prompt_done_tokens` has the tokens in it that were kept from an earlier prompt.
    """

    on_unload: Callable[[], None]
    tally: Tally = field(default_factory=Tally)
    status: Status = "idle"
    began_s: float = field(default_factory=time.perf_counter)
    prompt_tokens: int | None = None
    prompt_done_tokens: int = 0
    completion_tokens: int = 0
    _round_tokens: int = 0

    def process(self, event: PromptProgressEvent) -> None:
        """Take note of how far the prompt is; of each round, where an answer takes several."""
        # A smaller number is the beginning of another round, whose prompt is processed anew.
        before = self._round_tokens if event.processed_tokens >= self._round_tokens else 0
        self.tally.prompt_tokens += event.processed_tokens - before
        self._round_tokens = event.processed_tokens
        self.prompt_tokens = event.total_tokens
        self.prompt_done_tokens = event.cached_tokens + event.processed_tokens

    def generate(self, count: int) -> None:
        """Take note of tokens that were generated."""
        self.completion_tokens += count
        self.tally.completion_tokens += count

    def settle(self, completion_tokens: int) -> None:
        """Count the tokens that came without an event: of a character's parts, or of a tool call."""
        self.generate(max(0, completion_tokens - self.completion_tokens))

    def embed(self, prompt_tokens: int) -> None:
        """Take note of a text that was embedded."""
        self.prompt_tokens = self.prompt_done_tokens = prompt_tokens
        self.tally.prompt_tokens += prompt_tokens
