"""A batch: each prompt to each model about each input, one file per answer. Pure; service/batching.py asks and writes.

An answer's file is OUT/MODEL/PROMPT[__INPUT].txt, named so that the same batch always names the same files. What was
asked is known by a hash: an answer is kept as long as its question and settings are the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.answers.batch_names import file_names
from lmstrix.ground.errors import LMStrixError, PromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lmstrix.ground.types import GenerationRequest, TruncatedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPrompt:
    """A prompt under a name. `source` tells prompts of one name apart.

    `compose` makes what is sent with an input, or with None without one. Raises PromptError.
    """

    name: str
    source: str
    compose: Callable[[str | None], ComposedText]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedText:
    """What is sent: the prompt, and a system prompt if it has one. `unused` are variables that it does not ask for."""

    text: str
    system_prompt: str | None = None
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInput:
    """A text the prompts are asked about, or why there is none. `source` tells inputs of one name apart."""

    name: str
    source: str
    text: str | LMStrixError


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """One question to one model, or why it cannot be asked.

    `input` is the path of the input as it was given; `file` is where the answer goes, below the output folder, with
    slashes.
    """

    model_key: str
    prompt: str
    input: str | None
    composed: ComposedText | LMStrixError
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
    """The items of each model, models in the order given.

    Composes every prompt. One that fails with every input is wrong itself, which is raised at once; where it fails with
    some, those items fail.
    """
    prompt_names = file_names((prompt.name, prompt.source) for prompt in prompts)
    input_names = file_names((item.name, item.source) for item in inputs)
    questions: list[tuple[str, str | None, ComposedText | LMStrixError, str]] = []
    for prompt, prompt_file in zip(prompts, prompt_names, strict=True):
        if not inputs:
            questions.append((prompt.name, None, _filled(prompt, None), f"{prompt_file}.txt"))
            continue
        for given, input_file, composed in zip(inputs, input_names, _composed(prompt, inputs), strict=True):
            questions.append((prompt.name, given.source, composed, f"{prompt_file}__{input_file}.txt"))
    folders = file_names((model, model) for model in models)
    return {
        model: [
            BatchItem(model_key=model, prompt=prompt, input=given, composed=composed, file=f"{folder}/{file}")
            for prompt, given, composed, file in questions
        ]
        for model, folder in zip(models, folders, strict=True)
    }


def request_hash(request: GenerationRequest, *, model_key: str, limit: float | None) -> str:
    """What was asked, as a hash: the texts, images and sampling, and the room for the answer as it was asked for.

    The context length is left out: it decides whether a question fits, not what the answer is.
    """
    images = {path: _file_hash(path) for message in request.messages for path in message.images}
    fields = asdict(request)
    fields["messages"] = [_set_fields(message) for message in fields["messages"]]
    described = [model_key, limit, _set_fields(fields), images]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _composed(prompt: BatchPrompt, inputs: Sequence[BatchInput]) -> list[ComposedText | LMStrixError]:
    composed: list[ComposedText | LMStrixError] = []
    readable = [given for given in inputs if isinstance(given.text, str)]
    wrong: list[PromptError] = []
    for given in inputs:
        if isinstance(given.text, LMStrixError):
            composed.append(given.text)
            continue
        try:
            composed.append(_filled(prompt, given.text))
        except PromptError as exc:
            wrong.append(exc)
            composed.append(exc)
    if wrong and len(wrong) == len(readable):
        raise wrong[0]
    return composed


def _filled(prompt: BatchPrompt, text: str | None) -> ComposedText:
    composed = prompt.compose(text)
    if not composed.text.strip():
        raise PromptError(f"{prompt.source}: this prompt is empty; write a question")
    return composed


def _set_fields(fields: Mapping[str, object]) -> dict[str, object]:
    # Without what is not set: a field that a later version adds must not make every question a new one.
    return {name: value for name, value in fields.items() if value is not None and value not in ((), [], {}, "")}


def _file_hash(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
