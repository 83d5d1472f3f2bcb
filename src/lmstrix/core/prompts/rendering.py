"""Filling the prompts of a library. Pure.

A placeholder `{{name}}` takes, in this order, the caller's value, the prompt's own default, and the file's own entry of
that dotted name. Only the file's texts are templates: values of the caller, defaults and what stands in lists go in as
they are and are never looked into again.

Texts are read depth first, each once per rendering. One without references is joined from its pieces at once; those
with references are only measured, and toml-topl resolves them all together when everything is read. Text with logic has
to be run before a text that refers to it, so what it refers to itself is resolved just before.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmstrix.core.prompts.library import (
    TEXT_KEYS,
    PromptLibrary,
    PromptTemplate,
    PromptText,
    RenderedPrompt,
    find,
    is_own_name,
    joined,
    only_prompt,
)
from lmstrix.core.prompts.limits import LIMITS
from lmstrix.core.prompts.logic import LogicProgram, UndefinedNameError, run
from lmstrix.core.prompts.references import Reference, ReferenceGraph
from lmstrix.core.prompts.text import SPECIAL_VALUES, PlainText
from lmstrix.core.prompts.values import MISSING, Missing, nested, to_text, value_at
from lmstrix.ground.errors import PromptError
from lmstrix.ground.wording import variables

if TYPE_CHECKING:
    from lmstrix.ground.documents import Value

    _Unresolved = Value | Reference | Mapping[str, "_Unresolved"]


def render(library: PromptLibrary, names: Sequence[str], variables: Mapping[str, Value]) -> RenderedPrompt:
    """Fill the named prompts and join them with a blank line; without names, the only prompt of the file.

    Raises PromptError naming every missing variable at once, a cycle, or what is too large; and when `text` is given
    but no prompt has a place for it.
    """
    rendering = _Rendering(library, variables)
    templates = [find(library, name) for name in names] if names else [only_prompt(library)]
    system_paths = [template.system_path for template in templates if template.system_path is not None]
    texts = rendering.texts([*(template.path for template in templates), *system_paths])
    rendering.refuse_missing(templates)
    unused = tuple(name for name in variables if name not in rendering.used)
    if "text" in unused:
        raise PromptError(_no_place_for_text(library, templates))
    # Prompts joined together often share one system prompt: it is said once.
    systems = dict.fromkeys(texts[len(templates) :])
    return RenderedPrompt(
        text="\n\n".join(texts[: len(templates)]),
        system_prompt="\n\n".join(systems) if systems else None,
        used=tuple(name for name in variables if name in rendering.used),
        unused=unused,
    )


def fixed_text(library: PromptLibrary, name: str) -> str:
    """What a prompt costs before anything is filled in: system prompt and text, what the caller gives left empty."""
    paths = find(library, name).paths
    return "\n\n".join(_Rendering(library, {}, lenient=True).texts(paths[::-1]))


def _no_place_for_text(library: PromptLibrary, templates: Sequence[PromptTemplate]) -> str:
    names = ", ".join(repr(template.name) for template in templates)
    single = any("{text}" in template.prompt for template in templates)
    remedy = "write {{text}} with two braces instead of {text}" if single else "add {{text}} where it belongs"
    return f"{library.source}: {names} has no {{{{text}}}} placeholder, so the text given would be lost: {remedy}"


class _Rendering:
    """One call of render. `lenient` leaves the places of missing values empty."""

    def __init__(self, library: PromptLibrary, variables: Mapping[str, Value], *, lenient: bool = False) -> None:
        self.library = library
        self.variables = variables
        self.lenient = lenient
        self.used: set[str] = set()
        self.missing: dict[str, None] = {}
        self.graph = ReferenceGraph(library.source)

    def texts(self, paths: Sequence[str]) -> list[str]:
        """The finished texts under these paths."""
        # All are read before the first is asked for, so that their references are resolved together.
        for path in paths:
            self.read(path)
        return [self.graph.text(path) for path in paths]

    def read(self, path: str) -> None:
        """Put the text under this path into the graph, after everything it refers to."""
        if path in self.graph:
            return
        text = self.library.texts[path]
        compiled = text.compiled
        if compiled is None:
            raise PromptError(f"{self.library.source}: {path}: {text.problem}")
        if isinstance(compiled, PlainText) and not compiled.names:
            self.graph.add(path, text.written)
            return
        self.graph.enter(path)
        if isinstance(compiled, PlainText):
            self.read_plain(text, compiled)
        else:
            self.graph.add(path, self.logic(text, compiled))
        self.graph.leave()

    def read_plain(self, text: PromptText, compiled: PlainText) -> None:
        pieces: list[str | Reference] = [compiled.literals[0]]
        size_chars = len(compiled.literals[0])
        references = 0
        for name, literal in zip(compiled.names, compiled.literals[1:], strict=True):
            value = self.given(name, text)
            piece: str | Reference
            if isinstance(value, str):
                piece = value
            elif isinstance(value, Missing):
                piece = self.entry(name, text)
                references += isinstance(piece, Reference)
            else:
                piece = to_text(value)
            size_chars += len(piece) + len(literal)
            if size_chars > LIMITS.characters:
                raise self.graph.growth_error(name)
            pieces += (piece, literal)
        if references:
            self.graph.add_unresolved(text.path, pieces, size_chars)
        else:
            self.graph.add(text.path, "".join(pieces))  # type: ignore[arg-type]  # all of them are text

    def entry(self, name: str, text: PromptText) -> str | Reference:
        """A reference to what the file has under this name; where it has no value, the name is noted as missing."""
        if is_own_name(name, text.path):
            self.missing[name] = None
            return ""
        if name in self.graph:
            return self.graph.reference(name)
        path = self.path_of(name)
        if path is not None:
            self.read(path)
            return self.graph.reference(path)
        value = value_at(self.library.document, name)
        # A table of prompts has no form as text; naming one is most likely a slip for a prompt in it.
        if isinstance(value, Missing | Mapping):
            self.missing[name] = None
            return ""
        self.graph.add(name, to_text(value))
        return self.graph.reference(name)

    def path_of(self, name: str) -> str | None:
        """Where the text called `name` stands: there, or under the key that makes its table a prompt."""
        texts = self.library.texts
        if name in texts:
            return name
        return next((path for key in TEXT_KEYS if (path := f"{name}.{key}") in texts), None)

    def logic(self, text: PromptText, program: LogicProgram) -> str:
        """Run a text with logic."""
        special = program.special
        given: dict[str, Value] = {}
        own: dict[str, _Unresolved] = {}
        absent = []
        # Sorted, because sets have no order: the same mistake must give the same message each time.
        for name in sorted(program.needs | special):
            value = self.given(name, text)
            if not isinstance(value, Missing):
                given[name] = value
            elif is_own_name(name, text.path) or isinstance(entry := self.own_value(name), Missing):
                absent.append(name)
            else:
                own[name] = entry
        # Only now, when every entry it needs is in the graph, are their references resolved, together.
        given |= {name: self.resolved(entry) for name, entry in own.items()}
        if self.lenient:
            given.update(dict.fromkeys(absent, ""))
        values = nested({name: value for name, value in given.items() if name not in special})
        values[SPECIAL_VALUES] = {name: value for name, value in given.items() if name in special}
        try:
            return run(program, values)
        except UndefinedNameError as exc:
            printed = [name for name in program.printed if name in absent] or absent
            if not printed:
                raise PromptError(f"{self.library.source}: {text.path}, {exc}: give it, or ask first with if") from exc
            self.missing.update(dict.fromkeys(printed))
            return ""
        except PromptError as exc:
            raise PromptError(f"{self.library.source}: {self.graph.chain}: {exc}") from exc

    def given(self, name: str, text: PromptText) -> Value | Missing:
        """The caller's value, or the default of the prompt that the text belongs to."""
        if name in self.variables:
            self.used.add(name)
            return self.variables[name]
        value = value_at(self.variables, name)
        if not isinstance(value, Missing):
            self.used.add(name.partition(".")[0])
            return value
        return value_at(text.defaults, name) if text.defaults else MISSING

    def own_value(self, name: str) -> _Unresolved | Missing:
        """What logic finds in the file under this name: a reference to a text, or a table with references in it."""
        path = self.path_of(name)
        if path is not None:
            self.read(path)
            return self.graph.reference(path)
        value = value_at(self.library.document, name)
        return self.table(name, value) if isinstance(value, Mapping) else value

    def table(self, path: str, table: Mapping[str, Value]) -> _Unresolved:
        """A table of the file for logic to walk through. The caller's values beat the file's inside it, too."""
        entries: dict[str, _Unresolved] = {}
        for key, value in table.items():
            where = joined(path, key)
            if where in self.variables:
                self.used.add(where)
                entries[key] = self.variables[where]
            elif where in self.library.texts:
                self.read(where)
                entries[key] = self.graph.reference(where)
            else:
                entries[key] = self.table(where, value) if isinstance(value, Mapping) else value
        return entries

    def resolved(self, value: _Unresolved) -> Value:
        if isinstance(value, Reference):
            return self.graph.text(value.key)
        if isinstance(value, dict):
            return {key: self.resolved(item) for key, item in value.items()}
        return value  # type: ignore[return-value]  # references are in no other table

    def refuse_missing(self, templates: Sequence[PromptTemplate]) -> None:
        if not self.missing:
            return
        names = ", ".join(repr(template.name) for template in templates)
        known = [*(name for name in self.variables if name not in self.used), *self.library.texts]
        wanted = []
        for name in self.missing:
            others = [each for each in known if not is_own_name(name, each)]
            close = difflib.get_close_matches(name, others, n=1)
            wanted.append(f"{name} (did you mean {close[0]}?)" if close else name)
        raise PromptError(
            f"{self.library.source}: {names} needs {', '.join(wanted)}: {variables(tuple(self.missing))}",
            missing=tuple(self.missing),
        )
