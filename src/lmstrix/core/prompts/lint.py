"""What is wrong, or looks wrong, in a prompt file, found without rendering for real. Pure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lmstrix.core.prompts.library import is_own_name
from lmstrix.core.prompts.rendering import fixed_text
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.core.prompts.library import PromptLibrary, PromptTemplate, PromptText

_SINGLE_BRACES = re.compile(r"(?<![{$\\])\{([a-z_][a-z0-9_]*)\}(?!\})")
_FIELDS = ("prompt", "system_prompt", "description", "defaults", "version", "tags")
_WELL_KNOWN = {"text"}  # given by --text, --text-file or stdin, so a name near to it is likely that one misspelt

Code = Literal["syntax", "resolution", "undeclared", "unused-default", "field", "single-braces", "empty"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """One finding. An error keeps the prompt from rendering, a warning is a likely slip, a note is for information."""

    severity: Literal["error", "warning", "note"]
    code: Code
    prompt: str
    message: str


def lint(library: PromptLibrary) -> list[LintFinding]:
    """Every finding of a file, prompt by prompt in its order.

    `syntax` and `resolution` (cycles, size, missing parts) are errors. `undeclared` lists what the caller has to give:
    a note, or a warning when the name is nearly one the file has. `unused-default` is a default no text asks for.
    """
    return [finding for template in library.templates.values() for finding in _findings(library, template)]


def _findings(library: PromptLibrary, template: PromptTemplate) -> Iterator[LintFinding]:
    texts = [library.texts[path] for path in template.paths]
    broken = [text for text in texts if text.problem]
    for text in broken:
        yield _finding("error", "syntax", template, f"{text.path}: {text.problem}")
    # What a broken text lacks would only repeat that it is broken.
    if not broken:
        try:
            fixed_text(library, template.name)
        except PromptError as exc:
            yield _finding("error", "resolution", template, str(exc).removeprefix(f"{library.source}: "))
        yield from _undeclared(library, template, texts)
        yield from _unused_defaults(template, texts)
    yield from _slips(library, template)


def _undeclared(library: PromptLibrary, template: PromptTemplate, texts: list[PromptText]) -> Iterator[LintFinding]:
    known = [*template.defaults, *library.texts, *_WELL_KNOWN]
    inputs = []
    for name in dict.fromkeys(name for text in texts for name in text.placeholders):
        root = name.partition(".")[0]
        if name not in template.defaults and any(is_own_name(name, path) for path in template.paths):
            inputs.append(name)
            continue
        if name in known or root in template.defaults or _in_file(library, name):
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        if close:
            yield _finding(
                "warning", "undeclared", template, f"{{{{{name}}}}} is declared nowhere; did you mean {close[0]}?"
            )
        else:
            inputs.append(name)
    if inputs:
        yield _finding("note", "undeclared", template, f"the caller has to give {', '.join(inputs)}")


def _in_file(library: PromptLibrary, name: str) -> bool:
    """Whether the file has a value, not a table of prompts, under this name."""
    value: object = library.document
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return not isinstance(value, dict) or name in library.templates


def _unused_defaults(template: PromptTemplate, texts: list[PromptText]) -> Iterator[LintFinding]:
    asked = {part for text in texts for name in text.names for part in (name, name.partition(".")[0])}
    for name in template.defaults:
        if name not in asked:
            yield _finding(
                "warning", "unused-default", template, f"the default {name!r} is asked for by no placeholder"
            )


def _slips(library: PromptLibrary, template: PromptTemplate) -> Iterator[LintFinding]:
    if not template.prompt.strip():
        yield _finding("warning", "empty", template, "the prompt is empty")
    single = sorted(set(_SINGLE_BRACES.findall(template.prompt)))
    if single:
        written = ", ".join(f"{{{name}}}" for name in single)
        meant = ", ".join(f"{{{{{name}}}}}" for name in single)
        yield _finding("warning", "single-braces", template, f"{written} is sent as it is; a placeholder is {meant}")
    # A text beside a prompt's own, under nearly the name of one of its fields, is most likely that field misspelt.
    table, _, key = template.path.rpartition(".")
    tables = {other.path.rpartition(".")[0] for other in library.templates.values() if other.path != other.name}
    if key not in _FIELDS and template.path == template.name and table in tables:
        close = difflib.get_close_matches(key, _FIELDS, n=1, cutoff=0.8)
        if close:
            yield _finding("warning", "field", template, f"{key!r} is taken as a prompt; did you mean {close[0]}?")


def _finding(
    severity: Literal["error", "warning", "note"], code: Code, template: PromptTemplate, message: str
) -> LintFinding:
    return LintFinding(severity=severity, code=code, prompt=template.name, message=message)
