"""A batch: each prompt to each model about each input, one file per answer. Pure; service/batching.py asks and writes.

An answer's file is OUT/MODEL/PROMPT[__INPUT].txt. A name that not every file system takes is cleaned and gets a short
hash of itself, so that the same batch always names the same files: what is there is done.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lmstrix.ground.types import TruncatedBy

MAX_NAME = 80  # characters; a prompt's and an input's name, their hashes and the ending together stay below 255


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPrompt:
    """A prompt under a name. `compose` makes what is sent with an input, or with None without one."""

    name: str
    compose: Callable[[str | None], ComposedText]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedText:
    """What is sent: the prompt, and a system prompt if it has one."""

    text: str
    system_prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInput:
    """A text the prompts are asked about. `source` tells inputs of one name apart."""

    name: str
    text: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """One question to one model; `file` is where its answer goes, below the output folder, with slashes."""

    model_key: str
    prompt: str
    input: str | None
    composed: ComposedText
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome:
    """How an item ended. `outcome` is "ok", "skipped" or the name of the failure."""

    item: BatchItem
    outcome: str
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_s: float | None = None
    total_s: float | None = None
    decode_tokens_per_second: float | None = None
    stop_reason: str | None = None
    truncated_by: TruncatedBy | None = None

    @property
    def failed(self) -> bool:
        return self.outcome not in ("ok", "skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress:
    """After each item: its outcome, how many of all are done, how long the rest will take (None: not known yet)."""

    latest: BatchOutcome
    done: int
    total: int
    remaining_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """All items of a batch, in the order they ended."""

    outcomes: tuple[BatchOutcome, ...]
    out: str
    elapsed_s: float

    def count(self, outcome: str) -> int:
        """How many items ended with this outcome."""
        return sum(item.outcome == outcome for item in self.outcomes)

    @property
    def failed(self) -> tuple[BatchOutcome, ...]:
        return tuple(item for item in self.outcomes if item.failed)


def plan_items(
    models: Sequence[str], prompts: Sequence[BatchPrompt], inputs: Sequence[BatchInput]
) -> dict[str, list[BatchItem]]:
    """The items of each model, models in the order given. Composes every prompt, so that a bad one is told at once."""
    prompt_names = file_names((prompt.name, prompt.name) for prompt in prompts)
    input_names = file_names((item.name, item.source) for item in inputs)
    questions: list[tuple[str, str | None, ComposedText, str]] = []
    for prompt, prompt_file in zip(prompts, prompt_names, strict=True):
        if not inputs:
            questions.append((prompt.name, None, prompt.compose(None), f"{prompt_file}.txt"))
        for given, input_file in zip(inputs, input_names, strict=True):
            questions.append((prompt.name, given.name, prompt.compose(given.text), f"{prompt_file}__{input_file}.txt"))
    folders = file_names((model, model) for model in models)
    return {
        model: [
            BatchItem(model_key=model, prompt=prompt, input=given, composed=composed, file=f"{folder}/{file}")
            for prompt, given, composed, file in questions
        ]
        for model, folder in zip(models, folders, strict=True)
    }


def file_names(named: Iterable[tuple[str, str]]) -> list[str]:
    """A safe name for each (name, identity), different where the identities are, whatever the file system."""
    from pathvalidate import sanitize_filename

    pairs = list(named)
    clean = [sanitize_filename(name.strip(), replacement_text="_", platform="universal") for name, _ in pairs]
    # Two underscores separate a prompt's name from an input's.
    clean = [name.replace("__", "_")[:MAX_NAME].strip(" .") for name in clean]
    # Without case, because some file systems do not tell "Story" from "story".
    often = Counter(name.casefold() for name in clean)
    return [
        safe
        if safe and safe == name and often[safe.casefold()] == 1
        else f"{safe or 'unnamed'}-{_short_hash(identity)}"
        for safe, (name, identity) in zip(clean, pairs, strict=True)
    ]


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
