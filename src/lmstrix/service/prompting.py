"""Words, prompt files and text files put together into what is sent; and what `lmstrix prompts` says of a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.prompts import rendering
from lmstrix.core.prompts.parsing import parse
from lmstrix.ground.errors import UsageError
from lmstrix.loaders.contexts import load_text
from lmstrix.loaders.prompts import PromptReference, load_document, load_part, parse_names, parse_reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmstrix.core.answers.answer_schema import AnswerSchema
    from lmstrix.core.prompts.library import PromptLibrary, RenderedPrompt
    from lmstrix.core.prompts.lint import LintFinding

PARAGRAPH = "\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptWords:
    """What the user gave. `prompt` is the prompt itself, or with `file` the names of prompts in it.

    `text` fills `{{text}}` of a prompt file, and follows a prompt given as words. `context_files` go before everything.
    With `literal` the prompt is never read as a reference such as @file.toml:name.
    """

    prompt: str | None
    file: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    text_file: str | None = None
    context_files: Sequence[str] = ()
    literal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedPrompt:
    """Ready to send. `unused` are variables that no prompt asked for."""

    text: str
    system_prompt: str | None = None
    unused: tuple[str, ...] = ()


def compose(words: PromptWords) -> ComposedPrompt:
    """Read the files and fill the prompt. Raises UsageError or PromptError. Words are sent byte for byte."""
    if words.text is not None and words.text_file is not None:
        raise UsageError("give --text or --text-file, not both")
    text = load_text(words.text_file) if words.text_file is not None else words.text
    reference = _reference(words)
    if reference is not None:
        variables = {**words.variables, **({} if text is None else {"text": text})}
        rendered = rendering.render(open_library(reference.path), reference.names, variables)
        composed = ComposedPrompt(text=rendered.text, system_prompt=rendered.system_prompt, unused=rendered.unused)
    elif words.prompt is None:
        raise UsageError("infer needs a PROMPT (or - to read it from stdin)")
    elif words.variables:
        raise UsageError("--var and --dict fill prompt files: give --file-prompt F, or @F.toml:NAME as the prompt")
    else:
        composed = ComposedPrompt(text=words.prompt if text is None else words.prompt + PARAGRAPH + text)
    contexts = [load_text(file) for file in words.context_files]
    return replace(composed, text=PARAGRAPH.join([*contexts, composed.text]))


def _reference(words: PromptWords) -> PromptReference | None:
    """The prompts of a file, if the words name some."""
    if words.file is not None:
        return PromptReference(path=Path(words.file), names=parse_names(words.prompt) if words.prompt else ())
    # A literal prompt came through a pipe: it must not open files by looking like a name.
    return None if words.literal or words.prompt is None else parse_reference(words.prompt)


def open_library(path: Path | str) -> PromptLibrary:
    """A prompt file, with the texts its prompts include from the same folder."""
    document = load_document(path)
    parts: dict[str, str] = {}
    # Included texts may include others, so the file is parsed again until no missing text can be found any more.
    while True:
        library = parse(document.tables, source=document.source, parts=parts)
        found = {name: text for name in library.missing_parts if (text := load_part(document.folder, name)) is not None}
        if not found:
            return library
        parts |= found


def render(path: str, names: Sequence[str], variables: Mapping[str, str]) -> RenderedPrompt:
    """Fill the named prompts of a file."""
    return rendering.render(open_library(path), names, variables)


def lint(path: str) -> list[LintFinding]:
    """What is wrong, or looks wrong, in a prompt file."""
    from lmstrix.core.prompts.lint import lint as lint_library

    return lint_library(open_library(path))


def load_schema(reference: str) -> AnswerSchema:
    """The schema that `file.json` or `pydantic:module:Class` names."""
    # Imported here, because few commands ask for a schema.
    from lmstrix.core.answers.answer_schema import schema_of_class, schema_of_mapping

    prefix, _, rest = reference.partition(":")
    if prefix == "pydantic":
        from lmstrix.loaders.user_code import load_object

        found = load_object(rest)
        if not isinstance(found, type):
            raise UsageError(f"{rest} is no class")
        return schema_of_class(found, name=rest)
    try:
        schema: object = json.loads(load_text(reference))
    except ValueError as exc:
        raise UsageError(f"{reference} is no JSON: {exc}") from exc
    return schema_of_mapping(schema, name=Path(reference).name)
