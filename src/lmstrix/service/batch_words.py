"""The words of a batch: which models, which prompts, about which inputs; as a plan of what is to be asked of whom."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.answers.batch import BatchInput, BatchItem, BatchPrompt, ComposedText, plan_items
from lmstrix.core.answers.batch_names import input_name
from lmstrix.core.prompts.rendering import render
from lmstrix.ground.errors import LMStrixError, PromptError, UsageError
from lmstrix.ground.wording import call, parameter
from lmstrix.loaders.contexts import load_text
from lmstrix.loaders.prompts import parse_reference
from lmstrix.service.prompting import PARAGRAPH, open_library

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lmstrix.core.answers.answer_schema import AnswerSchema
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.prompts.library import PromptLibrary
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.ground.documents import Value

ALL_MODELS = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """What a batch is told. `request` has the sampling and limits of every question; its prompt is not used.

    `prompts` are prompt files (with :NAME,NAME for some of their prompts) or text files, or texts by name. `inputs` are
    files, folders or patterns, or texts by name. `models` are names, or "all". An answer that is not of the `schema`
    fails.
    """

    prompts: Sequence[str] | Mapping[str, str]
    models: Sequence[str]
    out: Path
    request: InferRequest
    inputs: Sequence[str] | Mapping[str, str] = ()
    variables: Mapping[str, Value] = field(default_factory=dict)
    parallel: int = 1
    skip_existing: bool = True
    schema: AnswerSchema | None = None


def plan_batch(registry: ModelRegistry, asked: BatchRequest) -> list[tuple[ModelRecord, list[BatchItem]]]:
    """What would be asked of which model, the smallest first. Raises whatever is wrong before anything runs."""
    if asked.parallel < 1:
        raise UsageError(f"{parameter('parallel')}: at least 1 request at a time")
    prompts = list(_prompts(asked))
    if not prompts:
        raise UsageError(f"there are no prompts; {parameter('prompts')} names files of them")
    records = _models(registry, asked.models)
    planned = plan_items([record.model_key for record in records], prompts, list(_inputs(asked.inputs)))
    return [(record, planned[record.model_key]) for record in records]


def unused_variables(asked: BatchRequest, items: Iterable[BatchItem]) -> list[str]:
    """The variables that no prompt asks for: most likely misspelled."""
    unused = dict.fromkeys(asked.variables)
    for item in items:
        if isinstance(item.composed, ComposedText):
            unused = {name: None for name in unused if name in item.composed.unused}
    return list(unused)


def _models(registry: ModelRegistry, words: Sequence[str]) -> list[ModelRecord]:
    """The named models, smallest first."""
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    if not names:
        raise UsageError(f"which models? name some in {parameter('models')}, or give {parameter('models', ALL_MODELS)}")
    if names == [ALL_MODELS]:
        chosen = [
            record
            for record in registry
            if record.kind == "llm" and not record.is_missing and record.test_status != "failed"
        ]
    else:
        chosen = [record for name in names for record in registry.find_answering(name)]
    for record in chosen:
        if record.kind == "embedding":
            raise UsageError(f"{record.model_key} is an embedding model and answers no prompts")
    # Two names may mean the same model.
    unique = {record.path: record for record in chosen}
    if not unique:
        raise UsageError(f"there are no models yet; {call('scan')} finds them")
    return sorted(unique.values(), key=lambda record: (record.size_bytes or 0, record.model_key))


def _prompts(asked: BatchRequest) -> Iterator[BatchPrompt]:
    if isinstance(asked.prompts, Mapping):
        for name, text in asked.prompts.items():
            yield BatchPrompt(name=name, source=name, compose=partial(_plain, text, asked.variables))
        return
    seen: set[str] = set()
    for word in asked.prompts:
        for prompt in _prompts_of(word, asked.variables):
            if prompt.source not in seen:
                seen.add(prompt.source)
                yield prompt


def _prompts_of(word: str, variables: Mapping[str, Value]) -> Iterator[BatchPrompt]:
    # On the command line a prompt file may be written without its @.
    reference = parse_reference(word if word.startswith("@") else f"@{word}")
    if reference is None:
        path = _as_given(word)
        yield BatchPrompt(name=Path(word).stem, source=path, compose=partial(_plain, load_text(word), variables))
        return
    library = open_library(reference.path)
    for name in reference.names or tuple(library.templates):
        source = f"{_as_given(reference.path)}:{name}"
        yield BatchPrompt(name=name, source=source, compose=partial(_rendered, library, name, variables))


def _plain(prompt: str, variables: Mapping[str, Value], text: str | None) -> ComposedText:
    return ComposedText(text=prompt if text is None else prompt + PARAGRAPH + text, unused=tuple(variables))


def _rendered(library: PromptLibrary, name: str, variables: Mapping[str, Value], text: str | None) -> ComposedText:
    rendered = render(library, [name], {**variables, **({} if text is None else {"text": text})})
    return ComposedText(text=rendered.text, system_prompt=rendered.system_prompt, unused=rendered.unused)


def _inputs(given: Sequence[str] | Mapping[str, str]) -> Iterator[BatchInput]:
    if isinstance(given, Mapping):
        for name, text in given.items():
            yield BatchInput(name=name, source=name, text=_not_empty(text, name))
        return
    seen: set[str] = set()
    for word in given:
        for file in _files(word):
            path = _as_given(file)
            if path not in seen:
                seen.add(path)
                yield BatchInput(name=input_name(path), source=path, text=_read(file))


def _as_given(path: Path | str) -> str:
    """A path as somebody wrote it, in one way: ./a and a are one, and what leads up is said from the top."""
    plain = os.path.normpath(Path(path).expanduser())
    return os.path.normpath(Path(plain).absolute()) if plain.startswith(os.pardir) else plain


def _read(file: Path) -> str | LMStrixError:
    """The text of an input. What is wrong with one file is no reason not to ask about the others."""
    try:
        return _not_empty(load_text(file), str(file))
    except PromptError as exc:
        return exc


def _not_empty(text: str, source: str) -> str | LMStrixError:
    return text if text.strip() else PromptError(f"{source} is empty; there is nothing to ask about")


def _files(word: str) -> Iterable[Path]:
    path = Path(word).expanduser()
    try:
        if path.is_dir():
            found = [file for file in path.iterdir() if _is_input(file) and not file.name.startswith(".")]
        elif any(mark in word for mark in "*?[") and not path.exists():
            pattern = str(path.relative_to(path.anchor))
            found = [file for file in Path(path.anchor or ".").glob(pattern) if _is_input(file)]
        else:
            return [path]
    except OSError as exc:
        raise UsageError(f"{parameter('inputs')}: {word} cannot be read: {exc.strerror or exc}") from exc
    if not found:
        raise UsageError(f"{parameter('inputs')}: there are no files in {word}")
    return sorted(found)


def _is_input(file: Path) -> bool:
    # A link that leads nowhere too: it is told as a failure, where a file left out in silence would be missed.
    return file.is_file() or (file.is_symlink() and not file.exists())
