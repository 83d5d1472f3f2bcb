"""A TOML document read into a prompt library: which texts are prompts, and what each of them includes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lmstrix.core.prompts.library import TEXT_KEYS, PromptLibrary, PromptTemplate, PromptText, joined
from lmstrix.core.prompts.limits import LIMITS
from lmstrix.core.prompts.logic import LogicProgram, link
from lmstrix.core.prompts.text import LogicText, PlainText, compile_part, compile_text
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from lmstrix.ground.documents import Value

_METADATA_KEYS = frozenset({"system_prompt", "description", "defaults", "version", "tags", "name"})


def parse(
    document: Mapping[str, object], *, source: str = "prompts", parts: Mapping[str, str] | None = None
) -> PromptLibrary:
    """Understand a TOML document. `parts` are texts that prompts may include by name beside the file's own.

    A text that is not a valid template is kept with its problem, and only rendering it fails. `missing_parts` of the
    result names includes found neither in the file nor in `parts`. Raises PromptError on a document of wrong shape.
    """
    return _Parser(source, document, parts or {}).parse()


class _Parser:
    def __init__(self, source: str, document: Mapping[str, object], parts: Mapping[str, str]) -> None:
        self.source = source
        self.document = document
        self.parts = parts
        self.written: dict[str, str] = {}
        self.defaults: dict[str, Mapping[str, Value]] = {}
        self.tables: dict[str, Mapping[str, object]] = {}
        self.prompt_names: dict[str, str] = {}
        self.missing_parts: dict[str, None] = {}
        self.compiled_parts: dict[str, LogicText] = {}

    def parse(self) -> PromptLibrary:
        self.collect(self.document, "", 0)
        texts = {path: self.compile(path, written) for path, written in self.written.items()}
        templates = {name: self.template(name, path, texts) for path, name in self.prompt_names.items()}
        return PromptLibrary(
            source=self.source,
            templates=templates,
            texts=texts,
            document=self.document,
            missing_parts=tuple(self.missing_parts),
        )

    def collect(self, table: Mapping[str, object], path: str, depth: int) -> None:
        """Note every text in the table and below it."""
        if depth > LIMITS.table_depth:
            raise PromptError(f"{self.source}: table {path[:60]}… is nested deeper than {LIMITS.table_depth}")
        text_key = next((key for key in TEXT_KEYS if isinstance(table.get(key), str)), None)
        metadata_keys: frozenset[str] = _METADATA_KEYS if text_key else frozenset()
        defaults = self.checked_defaults(table, path) if text_key else {}
        for key, value in table.items():
            where = joined(path, key)
            if isinstance(value, Mapping) and key not in metadata_keys:
                self.collect(value, where, depth + 1)
            elif isinstance(value, str):
                # Refused even for metadata: "a.b" beside [a] b is the same name twice.
                if where in self.written:
                    raise PromptError(
                        f"{self.source}: two entries are called {where!r}; rename the one with a dot in its key"
                    )
                if key in metadata_keys and key != "system_prompt":
                    continue
                self.written[where] = value
                self.defaults[where] = defaults
                if key == text_key:
                    self.tables[where] = table
                    self.prompt_names[where] = path or key
                elif key not in metadata_keys:
                    self.prompt_names[where] = where

    def checked_defaults(self, table: Mapping[str, object], path: str) -> Mapping[str, Value]:
        """The defaults of one prompt's table; refuses every field of the wrong type."""
        for key in ("system_prompt", "description", "name"):
            if key in table and not isinstance(table[key], str):
                raise PromptError(f"{self.source}: {joined(path, key)} is {_kind(table[key])}, expected text")
        tags = table.get("tags", [])
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise PromptError(f'{self.source}: {joined(path, "tags")} must be a list of texts such as ["a", "b"]')
        if not isinstance(table.get("version", ""), str | int | float):
            raise PromptError(f"{self.source}: {joined(path, 'version')} is {_kind(table['version'])}, expected text")
        defaults = table.get("defaults", {})
        if not isinstance(defaults, Mapping):
            raise PromptError(f"{self.source}: {joined(path, 'defaults')} is {_kind(defaults)}, expected a table")
        return defaults

    def compile(self, path: str, written: str) -> PromptText:
        compiled: PlainText | LogicProgram | None = None
        problem = None
        try:
            text = compile_text(written)
            compiled = text if isinstance(text, PlainText) else self.link(text, path)
        except PromptError as exc:
            # Kept, not raised: one broken prompt must not hide the others of its file.
            problem = str(exc)
        return PromptText(path=path, written=written, compiled=compiled, problem=problem, defaults=self.defaults[path])

    def link(self, text: LogicText, path: str) -> LogicProgram:
        """Put a text together with the parts it includes, and with what those include."""
        # The text's own name begins the chain, so that a text which includes itself is found out as well.
        parts: dict[str, LogicText] = {}
        self.gather_parts(text, parts, (self.prompt_names.get(path, path),))
        return link(text, parts)

    def gather_parts(self, text: LogicText, parts: dict[str, LogicText], chain: tuple[str, ...]) -> None:
        if len(chain) > LIMITS.reference_depth:
            raise PromptError(f"includes are nested deeper than {LIMITS.reference_depth}: {' → '.join(chain[:4])} → …")
        for name in text.includes:
            if name in chain:
                raise PromptError(f"includes go in a circle: {' → '.join((*chain, name))}")
            if name not in parts:
                part = self.part(name)
                self.gather_parts(part, parts, (*chain, name))
                parts[name] = part

    def part(self, name: str) -> LogicText:
        if name not in self.compiled_parts:
            written = self.parts.get(name)
            # The file's own prompt of this name beats a file beside it.
            for path in (name, *(f"{name}.{key}" for key in TEXT_KEYS)):
                written = self.written.get(path, written)
            if written is None:
                self.missing_parts[name] = None
                raise PromptError(f"it includes {name!r}, which is neither a prompt of this file nor a file beside it")
            try:
                self.compiled_parts[name] = compile_part(written)
            except PromptError as exc:
                raise PromptError(f"in {name!r}: {exc}") from exc
        return self.compiled_parts[name]

    def template(self, name: str, path: str, texts: Mapping[str, PromptText]) -> PromptTemplate:
        text = texts[path]
        table = self.tables.get(path)
        if table is None:
            return PromptTemplate(name=name, path=path, prompt=text.written, placeholders=text.placeholders)
        system_path = joined(path.rpartition(".")[0], "system_prompt")
        system = texts.get(system_path)
        placeholders = (*text.placeholders, *(system.placeholders if system else ()))
        version, tags = table.get("version"), table.get("tags")
        return PromptTemplate(
            name=name,
            path=path,
            prompt=text.written,
            system_path=system_path if system else None,
            system_prompt=system.written if system else None,
            description=str(table.get("description", "")),
            defaults=text.defaults,
            version=None if version is None else str(version),
            tags=tuple(str(tag) for tag in tags) if isinstance(tags, list) else (),
            placeholders=tuple(dict.fromkeys(placeholders)),
        )


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return names.get(type(value), "a date")
