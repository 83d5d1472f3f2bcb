"""Words, prompt files and text files put together into what is sent; and what `lmstrix prompts` says of a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.prompts import rendering
from lmstrix.core.prompts.parsing import parse
from lmstrix.ground.errors import UsageError
from lmstrix.loaders.contexts import load_text
from lmstrix.loaders.prompts import load_document, load_part, parse_names, parse_reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmstrix.core.answers.answer_schema import AnswerSchema
    from lmstrix.core.prompts.library import PromptLibrary, RenderedPrompt
    from lmstrix.core.prompts.lint import LintFinding
    from lmstrix.core.prompts.values import Value

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
    path, names = _named(words)
    if path is not None:
        variables: dict[str, Value] = {**words.variables, **({} if text is None else {"text": text})}
        rendered = rendering.render(open_library(path), names, variables)
        composed = ComposedPrompt(text=rendered.text, system_prompt=rendered.system_prompt, unused=rendered.unused)
    else:
        if words.prompt is None:
            raise UsageError("infer needs a PROMPT (or - to read it from stdin)")
        if words.variables:
            raise UsageError("--var and --dict fill prompt files: give --file-prompt F, or @F.toml:NAME as the prompt")
        composed = ComposedPrompt(text=words.prompt if text is None else words.prompt + PARAGRAPH + text)
    if not words.context_files:
        return composed
    context = PARAGRAPH.join(load_text(file) for file in words.context_files)
    return ComposedPrompt(
        text=context + PARAGRAPH + composed.text, system_prompt=composed.system_prompt, unused=composed.unused
    )


def _named(words: PromptWords) -> tuple[Path | None, tuple[str, ...]]:
    """The prompt file and the names in it, if the words name one."""
    if words.file is not None:
        return Path(words.file), parse_names(words.prompt) if words.prompt else ()
    reference = None if words.literal or words.prompt is None else parse_reference(words.prompt)
    return (reference.path, reference.names) if reference else (None, ())


def open_library(path: Path | str) -> PromptLibrary:
    """A prompt file, with the texts its prompts include from the same folder."""
    document = load_document(path)
    parts: dict[str, str] = {}
    while True:
        library = parse(document.tables, source=document.source, parts=parts)
        found = {name: text for name in library.missing_parts if (text := load_part(document.folder, name)) is not None}
        if not found:
            return library
        parts |= found


def render(path: str, names: Sequence[str], variables: Mapping[str, str]) -> RenderedPrompt:
    """Fill the named prompts of a file."""
    return rendering.render(open_library(path), names, dict(variables))


def lint(path: str) -> list[LintFinding]:
    """What is wrong, or looks wrong, in a prompt file."""
    from lmstrix.core.prompts.lint import lint as lint_library

    return lint_library(open_library(path))


def load_schema(reference: str) -> AnswerSchema:
    """The schema that `file.json` or `pydantic:module:Class` names."""
    from lmstrix.core.answers.answer_schema import schema_of_class, schema_of_mapping

    prefix, _, rest = reference.partition(":")
    if prefix == "pydantic":
        from lmstrix.loaders.user_code import load_object

        found = load_object(rest)
        if not isinstance(found, type):
            raise UsageError(f"{rest} is no class")
        return schema_of_class(found, name=rest)
    import json

    try:
        schema: object = json.loads(load_text(reference))
    except ValueError as exc:
        raise UsageError(f"{reference} is no JSON: {exc}") from exc
    return schema_of_mapping(schema, name=Path(reference).name)
