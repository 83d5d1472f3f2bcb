"""Words, prompt files and text files put together into what is sent; and what `lmstrix prompts` says of a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.prompts import rendering
from lmstrix.core.prompts.parsing import parse
from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import parameter
from lmstrix.loaders.contexts import load_text
from lmstrix.loaders.prompts import PromptReference, load_document, load_part, parse_names, parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lmstrix.core.prompts.library import PromptLibrary, RenderedPrompt
    from lmstrix.core.prompts.lint import LintFinding
    from lmstrix.ground.documents import Value

PARAGRAPH = "\n\n"
_ASKS_FOR_TEXT = re.compile(r"\{[{%][^{}]*\btext\b[^{}]*[%}]\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptWords:
    """What the user gave. `prompt` is the prompt itself, or with `file` the names of prompts in it.

    The text that goes with it is `text`, `text_file` or what was `piped` in; without a prompt it is the prompt.
    `context_files` go before everything. `fetched` has the texts of those among them that are no files.
    `edit` lets the user change a prompt: one in words before it is filled, one of a file when it is.
    """

    prompt: str | None
    file: str | None = None
    variables: Mapping[str, Value] = field(default_factory=dict)
    text: str | None = None
    text_file: str | None = None
    piped: str | None = None
    context_files: Sequence[str] = ()
    fetched: Mapping[str, str] = field(default_factory=dict)
    edit: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedPrompt:
    """Ready to send. `unused` are variables that no prompt asked for."""

    text: str
    system_prompt: str | None = None
    unused: tuple[str, ...] = ()


def compose(words: PromptWords) -> ComposedPrompt:
    """Read the files and fill the prompt. Raises UsageError or PromptError.

    A prompt in words is sent byte for byte, the text after it with a blank line between. It is a template when
    variables are given, or when it has a place for {{text}} and a text is given.
    """
    if words.text is not None and words.text_file is not None:
        raise UsageError(f"give {parameter('text')} or {parameter('text_file')}, not both")
    reference = _reference(words)
    prompt, text = words.prompt, _text_given(words)
    if reference is None and prompt is None:
        prompt, text = (text, None) if words.piped is None else (words.piped, text)
    elif words.piped is not None:
        if text is not None:
            raise UsageError(
                f"the text comes from stdin or from {parameter('text')} or {parameter('text_file')}, not from two "
                f"({parameter('no_stdin')} leaves stdin alone)"
            )
        text = words.piped
    if reference is not None:
        variables = {**words.variables, **({} if text is None else {"text": text})}
        composed = fill_from_file(reference.path, reference.names, variables)
        if words.edit is not None:
            composed = replace(composed, text=words.edit(composed.text))
    elif words.edit is not None:
        composed = fill(words.edit(prompt or ""), words.variables, text)
    elif prompt is None:
        raise UsageError(f"infer needs a PROMPT, or a text with {parameter('text_file')} or through a pipe")
    else:
        composed = fill(prompt, words.variables, text)
    contexts = [_text_of(words, file, "context_file") for file in words.context_files]
    return replace(composed, text=PARAGRAPH.join([*contexts, composed.text]))


def _text_given(words: PromptWords) -> str | None:
    return words.text if words.text_file is None else _text_of(words, words.text_file, "text_file")


def _text_of(words: PromptWords, name: str, option: str) -> str:
    text = words.fetched[name] if name in words.fetched else load_text(name)
    # Most likely another file was meant, or what writes it failed: the model would answer without it.
    if not text.strip():
        raise UsageError(f"{parameter(option)}: {'stdin' if name == '-' else name} is empty; leave it out")
    return text


def fill(prompt: str, variables: Mapping[str, Value], text: str | None = None) -> ComposedPrompt:
    """A prompt in words, as a template where there is something to fill it with; the text where it has its place, or
    after it. Raises PromptError.
    """
    if text is not None and _ASKS_FOR_TEXT.search(prompt):
        return fill(prompt, {**variables, "text": text})
    if variables:
        rendered = rendering.render(parse({"prompt": prompt}, source="the prompt"), ("prompt",), variables)
        composed = _composed(rendered)
    else:
        composed = ComposedPrompt(text=prompt)
    return composed if text is None else replace(composed, text=composed.text + PARAGRAPH + text)


def fill_from_file(path: Path | str, names: Sequence[str], variables: Mapping[str, Value]) -> ComposedPrompt:
    """Prompts of a file, joined with a blank line; without names, the only one there is."""
    return _composed(rendering.render(open_library(path), names, variables))


def _composed(rendered: RenderedPrompt) -> ComposedPrompt:
    return ComposedPrompt(text=rendered.text, system_prompt=rendered.system_prompt, unused=rendered.unused)


def _reference(words: PromptWords) -> PromptReference | None:
    """The prompts of a file, if the words name some."""
    if words.file is not None:
        return PromptReference(path=Path(words.file), names=parse_names(words.prompt) if words.prompt else ())
    # Only words: a text that comes through a pipe must not open files by looking like a name.
    return None if words.prompt is None else parse_reference(words.prompt)


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


def render(path: Path | str, names: Sequence[str], variables: Mapping[str, Value]) -> RenderedPrompt:
    """Fill the named prompts of a file."""
    return rendering.render(open_library(path), names, variables)


def lint(path: Path | str) -> list[LintFinding]:
    """What is wrong, or looks wrong, in a prompt file."""
    from lmstrix.core.prompts.lint import lint as lint_library

    return lint_library(open_library(path))
