"""Prompt files: what is in one, and filling its prompts. Pure; loaders/prompts.py reads the files.

Every text of the document is a prompt, named by its keys joined with dots. A table with a `prompt` (or `template`) text
is one too, named by the table; beside the text it may carry `system_prompt`, `description`, `defaults`, `version`,
`tags` and `name`. A placeholder `{{name}}` takes, in this order, the caller's value, the prompt's own default, and the
file's own entry of that dotted name. Only the file's texts are templates: values of the caller, defaults and what
stands in lists go in as they are and are never looked into again.

References between texts are resolved depth first, each text once a rendering; the way down is known at every step, so
a cycle or a text that grows too large is refused with its path before it is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmstrix.core.prompts.logic import MAX_CHARACTERS, LogicProgram, UndefinedNameError, Value, link, run, to_text
from lmstrix.core.prompts.text import SPECIAL_VALUES, LogicText, PlainText, compile_text
from lmstrix.ground.errors import PromptError

TEXT_KEYS = ("prompt", "template")
MAX_TABLE_DEPTH = 16
MAX_REFERENCE_DEPTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """One prompt as its file has it. `placeholders` are those written in its prompt and system prompt, in order."""

    name: str
    prompt: str
    system_prompt: str | None = None
    description: str = ""
    defaults: Mapping[str, Value] = field(default_factory=dict)
    version: str | None = None
    tags: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()


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
    aliases: Mapping[str, str]
    missing_parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """Ready to send. `used` and `unused` are the caller's variables that the prompts take and do not take."""

    text: str
    system_prompt: str | None
    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def parse(
    document: Mapping[str, object], *, source: str = "prompts", parts: Mapping[str, str] | None = None
) -> PromptLibrary:
    """Understand a TOML document. `parts` are texts that prompts may include by name beside the file's own.

    A text that is no valid template is kept with its problem, and only rendering it fails. `missing_parts` of the
    result names includes found neither in the file nor in `parts`. Raises PromptError on a document of wrong shape.
    """
    return _Parser(source, document, parts or {}).parse()


def render(library: PromptLibrary, names: Sequence[str], variables: Mapping[str, Value]) -> RenderedPrompt:
    """Fill the named prompts and join them with a blank line; without names, the only prompt of the file.

    Raises PromptError naming every missing variable at once, a cycle, or what is too large; and when `text` is given
    but no prompt has a place for it.
    """
    rendering = _Rendering(library, variables)
    templates = [find(library, name) for name in names] if names else [_only(library)]
    texts = [rendering.text(library.aliases[template.name]) for template in templates]
    systems = [
        rendering.text(_system_path(library, template)) for template in templates if template.system_prompt is not None
    ]
    rendering.refuse_missing(templates)
    unused = tuple(name for name in variables if name not in rendering.used)
    if "text" in unused:
        raise PromptError(_no_place_for_text(library, templates))
    return RenderedPrompt(
        text="\n\n".join(texts),
        system_prompt="\n\n".join(dict.fromkeys(systems)) if systems else None,
        used=tuple(name for name in variables if name in rendering.used),
        unused=unused,
    )


def fixed_text(library: PromptLibrary, name: str) -> str:
    """What a prompt costs before anything is filled in: system prompt and text, what the caller gives left empty."""
    template = find(library, name)
    rendering = _Rendering(library, {}, lenient=True)
    paths = [library.aliases[template.name]]
    if template.system_prompt is not None:
        paths.insert(0, _system_path(library, template))
    return "\n\n".join(rendering.text(path) for path in paths)


def find(library: PromptLibrary, name: str) -> PromptTemplate:
    """The prompt of this name, or of the text under this dotted path. Raises PromptError with suggestions."""
    if name in library.templates:
        return library.templates[name]
    for template in library.templates.values():
        if library.aliases[template.name] == name:
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


def _only(library: PromptLibrary) -> PromptTemplate:
    if len(library.templates) == 1:
        return next(iter(library.templates.values()))
    known = ", ".join(list(library.templates)[:12])
    raise PromptError(f"{library.source} has {len(library.templates)} prompts: name one of {known or 'none'}")


def _system_path(library: PromptLibrary, template: PromptTemplate) -> str:
    table, _, _ = library.aliases[template.name].rpartition(".")
    return f"{table}.system_prompt" if table else "system_prompt"


def _no_place_for_text(library: PromptLibrary, templates: Sequence[PromptTemplate]) -> str:
    names = ", ".join(repr(template.name) for template in templates)
    single = any("{text}" in template.prompt for template in templates)
    remedy = "write {{text}} with two braces instead of {text}" if single else "add {{text}} where it belongs"
    return f"{library.source}: {names} has no {{{{text}}}} placeholder, so the text given would be lost: {remedy}"


class _Parser:
    def __init__(self, source: str, document: Mapping[str, object], parts: Mapping[str, str]) -> None:
        self.source = source
        self.document = document
        self.parts = parts
        self.written: dict[str, str] = {}
        self.defaults: dict[str, Mapping[str, Value]] = {}
        self.records: dict[str, str] = {}
        self.metadata: dict[str, Mapping[str, object]] = {}
        self.prompts: list[str] = []
        self.missing_parts: dict[str, None] = {}
        self.part_texts: dict[str, LogicText] = {}

    def parse(self) -> PromptLibrary:
        self.table(self.document, "", 0)
        texts = {path: self.compile(path, written) for path, written in self.written.items()}
        templates = {}
        aliases = {}
        for path in self.prompts:
            template = self.template(path, texts)
            templates[template.name] = template
            aliases[template.name] = path
        return PromptLibrary(
            source=self.source,
            templates=templates,
            texts=texts,
            document=self.document,
            aliases=aliases,
            missing_parts=tuple(self.missing_parts),
        )

    def table(self, table: Mapping[str, object], path: str, depth: int) -> None:
        if depth > MAX_TABLE_DEPTH:
            raise PromptError(f"{self.source}: table {path[:60]}… is nested deeper than {MAX_TABLE_DEPTH}")
        text_key = next((key for key in TEXT_KEYS if isinstance(table.get(key), str)), None)
        hidden: set[str] = set()
        defaults: Mapping[str, Value] = {}
        if text_key:
            hidden = {"system_prompt", "description", "defaults", "version", "tags", "name"}
            defaults = self.check_metadata(table, path)
            self.records[_join(path, text_key)] = path or text_key
            self.metadata[_join(path, text_key)] = table
        for key, value in table.items():
            where = _join(path, key)
            if isinstance(value, str):
                if where in self.written:
                    raise PromptError(
                        f"{self.source}: two entries are called {where!r}; rename the one with a dot in its key"
                    )
                if key not in hidden:
                    self.prompts.append(where)
                elif key != "system_prompt":
                    continue
                self.written[where] = value
                self.defaults[where] = defaults
            elif isinstance(value, Mapping) and key not in hidden:
                self.table(value, where, depth + 1)

    def check_metadata(self, table: Mapping[str, object], path: str) -> Mapping[str, Value]:
        """The defaults; refuses fields of the wrong type."""
        for key in ("system_prompt", "description", "name"):
            if key in table and not isinstance(table[key], str):
                raise PromptError(f"{self.source}: {_join(path, key)} is {_kind(table[key])}, expected text")
        tags = table.get("tags", [])
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise PromptError(f'{self.source}: {_join(path, "tags")} must be a list of texts such as ["a", "b"]')
        if not isinstance(table.get("version", ""), str | int | float):
            raise PromptError(f"{self.source}: {_join(path, 'version')} is {_kind(table['version'])}, expected text")
        defaults = table.get("defaults", {})
        if not isinstance(defaults, Mapping):
            raise PromptError(f"{self.source}: {_join(path, 'defaults')} is {_kind(defaults)}, expected a table")
        return defaults

    def compile(self, path: str, written: str) -> PromptText:
        compiled: PlainText | LogicProgram | None = None
        problem = None
        try:
            text = compile_text(written)
            compiled = text if isinstance(text, PlainText) else self.link(text, path)
        except PromptError as exc:
            problem = str(exc)
        return PromptText(path=path, written=written, compiled=compiled, problem=problem, defaults=self.defaults[path])

    def link(self, text: LogicText, path: str) -> LogicProgram:
        """Gather the parts a text includes, by the parts' own includes too."""
        parts: dict[str, LogicText] = {}
        self.gather(text, parts, (self.records.get(path, path),))
        return link(text, parts)

    def gather(self, text: LogicText, parts: dict[str, LogicText], way: tuple[str, ...]) -> None:
        for name in text.includes:
            if name in way:
                raise PromptError(f"includes go in a circle: {' → '.join((*way, name))}")
            if name not in parts:
                part = self.part(name)
                self.gather(part, parts, (*way, name))
                parts[name] = part

    def part(self, name: str) -> LogicText:
        if name not in self.part_texts:
            written = self.parts.get(name)
            for path in (name, *(f"{name}.{key}" for key in TEXT_KEYS)):
                written = self.written.get(path, written)
            if written is None:
                self.missing_parts[name] = None
                raise PromptError(f"it includes {name!r}, which is neither a prompt of this file nor a file beside it")
            try:
                self.part_texts[name] = compile_text(written, as_part=True)  # type: ignore[assignment]
            except PromptError as exc:
                raise PromptError(f"in {name!r}: {exc}") from exc
        return self.part_texts[name]

    def template(self, path: str, texts: Mapping[str, PromptText]) -> PromptTemplate:
        text = texts[path]
        table = self.metadata.get(path)
        if table is None:
            return PromptTemplate(name=path, prompt=text.written, placeholders=text.placeholders)
        name = self.records[path]
        system = texts.get(_join(path.rpartition(".")[0], "system_prompt"))
        placeholders = (*text.placeholders, *(system.placeholders if system else ()))
        version, tags = table.get("version"), table.get("tags")
        return PromptTemplate(
            name=name,
            prompt=text.written,
            system_prompt=system.written if system else None,
            description=str(table.get("description", "")),
            defaults=text.defaults,
            version=None if version is None else str(version),
            tags=tuple(str(tag) for tag in tags) if isinstance(tags, list) else (),
            placeholders=tuple(dict.fromkeys(placeholders)),
        )


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return names.get(type(value), "a date")


class _Missing:
    """The mark of a name without a value."""


_MISSING = _Missing()


class _Rendering:
    """One call of render: every text of the file is resolved at most once."""

    def __init__(self, library: PromptLibrary, variables: Mapping[str, Value], *, lenient: bool = False) -> None:
        self.library = library
        self.variables = variables
        self.lenient = lenient
        self.used: set[str] = set()
        self.missing: dict[str, None] = {}
        self.done: dict[str, str] = {}
        self.way: list[str] = []

    def text(self, path: str) -> str:
        """The finished text under this path."""
        if path in self.done:
            return self.done[path]
        text = self.library.texts[path]
        if isinstance(text.compiled, PlainText) and not text.compiled.names:
            return text.written
        if path in self.way:
            circle = " → ".join([*self.way[self.way.index(path) :], path])
            raise PromptError(
                f"{self.library.source}: the references go in a circle: {circle}; break it, or give one as a variable"
            )
        if text.compiled is None:
            raise PromptError(f"{self.library.source}: {path}: {text.problem}")
        self.way.append(path)
        if len(self.way) > MAX_REFERENCE_DEPTH:
            raise PromptError(
                f"{self.library.source}: references are nested deeper than {MAX_REFERENCE_DEPTH}: "
                f"{' → '.join(self.way[:4])} → …"
            )
        done = (
            self.plain(text, text.compiled) if isinstance(text.compiled, PlainText) else self.logic(text, text.compiled)
        )
        self.way.pop()
        self.done[path] = done
        return done

    def plain(self, text: PromptText, compiled: PlainText) -> str:
        literals = compiled.literals
        pieces = [literals[0]]
        characters = len(literals[0])
        for name, literal in zip(compiled.names, literals[1:], strict=True):
            value = self.lookup(name, text)
            if isinstance(value, _Missing):
                self.missing[name] = None
                value = ""
            elif not isinstance(value, str):
                value = to_text(value)
            characters += len(value) + len(literal)
            if characters > MAX_CHARACTERS:
                raise PromptError(
                    f"{self.library.source}: {' → '.join([*self.way, name])} grows past {MAX_CHARACTERS:,} characters; "
                    "use fewer references"
                )
            pieces += (value, literal)
        return "".join(pieces)

    def logic(self, text: PromptText, program: LogicProgram) -> str:
        special = program.special
        found = {name: self.lookup(name, text, whole=True) for name in sorted(program.needs | special)}
        absent = [name for name, value in found.items() if isinstance(value, _Missing)]
        given = {name: value for name, value in found.items() if not isinstance(value, _Missing)}
        if self.lenient:
            given.update(dict.fromkeys(absent, ""))
        values = _nested({name: value for name, value in given.items() if name not in special})
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
            raise PromptError(f"{self.library.source}: {' → '.join(self.way)}: {exc}") from exc

    def lookup(self, name: str, text: PromptText, *, whole: bool = False) -> Value | _Missing:
        """The value of a name: the caller's, the prompt's default, the file's. `whole` allows tables."""
        variables = self.variables
        if name in variables:
            self.used.add(name)
            return variables[name]
        value = _walk(variables, name)
        if not isinstance(value, _Missing):
            self.used.add(name.partition(".")[0])
            return value
        if text.defaults:
            value = _walk(text.defaults, name)
            if not isinstance(value, _Missing):
                return value
        return self.own(name, whole)

    def own(self, name: str, whole: bool) -> Value | _Missing:
        """What the file has under this name: a text is resolved, a table of prompts is no value."""
        texts = self.library.texts
        if name in texts:
            return self.text(name)
        for key in TEXT_KEYS:
            if f"{name}.{key}" in texts:
                return self.text(f"{name}.{key}")
        value = _walk(self.library.document, name)
        if not isinstance(value, Mapping):
            return value
        return self.tree(name, value) if whole else _MISSING

    def tree(self, path: str, table: Mapping[str, Value]) -> Value:
        """A table for logic to walk through, with its texts resolved."""
        resolved: dict[str, Value] = {}
        for key, value in table.items():
            where = _join(path, key)
            if where in self.variables:
                self.used.add(where)
                resolved[key] = self.variables[where]
            elif where in self.library.texts:
                resolved[key] = self.text(where)
            else:
                resolved[key] = self.tree(where, value) if isinstance(value, Mapping) else value
        return resolved

    def refuse_missing(self, templates: Sequence[PromptTemplate]) -> None:
        if not self.missing:
            return
        names = ", ".join(repr(template.name) for template in templates)
        known = [*(name for name in self.variables if name not in self.used), *self.library.texts]
        wanted = []
        for name in self.missing:
            close = difflib.get_close_matches(name, known, n=1)
            wanted.append(f"{name} (did you mean {close[0]}?)" if close else name)
        remedy = "give text with --text, --text-file or stdin" if "text" in self.missing else ""
        if set(self.missing) - {"text"}:
            remedy += f"{', the others ' if remedy else 'give them '}with --var NAME=VALUE"
        raise PromptError(
            f"{self.library.source}: {names} needs {', '.join(wanted)}: {remedy}", missing=tuple(self.missing)
        )


def _walk(values: Mapping[str, object], name: str) -> Value | _Missing:
    """The value under a dotted name, through tables and list positions."""
    if name in values:
        return values[name]  # type: ignore[return-value]
    if "." not in name:
        return _MISSING
    value: object = values
    for key in name.split("."):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return _MISSING
    return value  # type: ignore[return-value]


def _nested(named: Mapping[str, Value]) -> dict[str, Value]:
    """Dotted names as the nested tables minijinja walks; a name inside a value that is there whole adds nothing."""
    values: dict[str, Value] = {}
    for name in sorted(named, key=lambda name: name.count(".")):
        *tables, last = name.split(".")
        if any(".".join(tables[:count]) in named for count in range(1, len(tables) + 1)):
            continue
        place = values
        for key in tables:
            place = place.setdefault(key, {})  # type: ignore[assignment]  # only tables made here are on the way
        place[last] = named[name]
    return values
