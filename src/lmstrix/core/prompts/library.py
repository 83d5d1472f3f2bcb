"""What a prompt file holds: its texts, its prompts, and finding one by name. Pure.

Every text of the document is a prompt, named by its keys joined with dots. A table with a `prompt` (or `template`) text
is one too, named by the table; beside the text it may carry `system_prompt`, `description`, `defaults`, `version`,
`tags` and `name`. `parsing` reads a document into these records, `rendering` fills them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmstrix.core.prompts.logic import LogicProgram
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.core.prompts.text import PlainText
    from lmstrix.ground.documents import Value

TEXT_KEYS = ("prompt", "template")
"""The keys that make a table one prompt; `{{table}}` stands for `{{table.prompt}}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """One prompt as its file has it. `placeholders` are those written in its prompt and system prompt, in order.

    `path` and `system_path` are where its texts stand in the file: for the prompt `review` of a table, `review.prompt`.
    """

    name: str
    path: str
    prompt: str
    system_path: str | None = None
    system_prompt: str | None = None
    description: str = ""
    defaults: Mapping[str, Value] = field(default_factory=dict)
    version: str | None = None
    tags: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Where its texts stand, the prompt first."""
        return (self.path,) if self.system_path is None else (self.path, self.system_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptText:
    """One text of a file under its dotted `path`. `compiled` is None where `problem` says what is wrong with it."""

    path: str
    written: str
    compiled: PlainText | LogicProgram | None
    problem: str | None
    defaults: Mapping[str, Value]

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The names from outside it prints as they are."""
        if isinstance(self.compiled, LogicProgram):
            return self.compiled.printed
        return self.compiled.placeholders if self.compiled else ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name from outside it prints or asks about."""
        if isinstance(self.compiled, LogicProgram):
            return tuple(sorted(self.compiled.needs | self.compiled.special))
        return self.placeholders


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLibrary:
    """A parsed prompt file. `source` names it in messages; `texts` has every text, `templates` the prompts by name."""

    source: str
    templates: Mapping[str, PromptTemplate]
    texts: Mapping[str, PromptText]
    document: Mapping[str, object]
    missing_parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """Ready to send. `used` and `unused` are the caller's variables that the prompts take and do not take."""

    text: str
    system_prompt: str | None
    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def find(library: PromptLibrary, name: str) -> PromptTemplate:
    """The prompt of this name, or of the text under this dotted path. Raises PromptError with suggestions."""
    if name in library.templates:
        return library.templates[name]
    # Messages name texts by their path (`review.prompt`), and what they name must be found.
    for template in library.templates.values():
        if template.path == name:
            return template
    inside = [known for known in library.templates if known.startswith(f"{name}.")]
    close = difflib.get_close_matches(name, library.templates, n=3)
    if inside:
        hint = f"it is a table; pick one of {', '.join(inside[:8])}"
    elif close:
        hint = f"did you mean {' or '.join(close)}?"
    else:
        hint = f"it has {', '.join(list(library.templates)[:12]) or 'none'}"
    raise PromptError(f"{library.source} has no prompt {name!r}: {hint}")


def only_prompt(library: PromptLibrary) -> PromptTemplate:
    """The prompt of a file that has just one. Raises PromptError naming those there are."""
    if len(library.templates) == 1:
        return next(iter(library.templates.values()))
    known = ", ".join(list(library.templates)[:12])
    raise PromptError(f"{library.source} has {len(library.templates)} prompts: name one of {known or 'none'}")


def is_own_name(name: str, path: str) -> bool:
    """Whether a placeholder in the text at `path` names the prompt it stands in: no text holds itself, so that it can
    only mean a value of the caller's.
    """
    return path == name or path in (f"{name}.{key}" for key in (*TEXT_KEYS, "system_prompt"))


def joined(path: str, key: str) -> str:
    """The dotted path of a key inside the table at `path`; the document itself has the path ""."""
    return f"{path}.{key}" if path else key
