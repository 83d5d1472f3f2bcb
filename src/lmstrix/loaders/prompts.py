"""Prompt files from disk, and the words of the command line that name their prompts and fill them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.ground.documents import DocumentError, parse_json, parse_toml
from lmstrix.ground.errors import PromptError, UsageError
from lmstrix.ground.wording import parameter
from lmstrix.loaders.contexts import load_text

if TYPE_CHECKING:
    from lmstrix.ground.documents import Value

MAX_PROMPT_FILE_BYTES = 4 * 2**20

_REFERENCE = re.compile(r"@(?P<path>[^\r\n]+?\.toml)(?::(?P<names>[^\r\n:/\\]+))?", re.IGNORECASE)
# No separators, no drive letters, and no dot at the beginning: a part lies beside its prompt file.
_PART = re.compile(r"[^./\\:\0][^/\\:\0]*")
_DICT_ENTRY = re.compile(
    r"""\s*(?P<key>[^=,\s](?:[^=,]*[^=,\s])?)\s*=\s*
        (?:"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>(?:\\.|[^'\\])*)'|(?P<bare>[^,]*))
        \s*(?:,|\Z)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReference:
    """Prompts of a file, as `@file.toml:name,other` names them; no names means the file's only prompt."""

    path: Path
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptDocument:
    """A prompt file as read: its TOML tables, and the folder whose files its prompts may include."""

    source: str
    tables: dict[str, object]
    folder: Path


def load_document(path: Path | str) -> PromptDocument:
    """Read a TOML file. Raises PromptError when it is missing, too large, not UTF-8 or, with the line, not TOML."""
    file = Path(path).expanduser()
    text = load_text(file, max_bytes=MAX_PROMPT_FILE_BYTES)
    try:
        tables = parse_toml(text)
    except DocumentError as exc:
        hint = "; a text of several lines needs triple quotes" if "Illegal character" in str(exc) else ""
        raise PromptError(f"{file} {exc}{hint}") from exc
    return PromptDocument(source=file.name, tables=tables, folder=file.parent)


def load_part(folder: Path, name: str) -> str | None:
    """A text that a prompt includes, from its file's own folder and nowhere else; None when there is none.

    Raises PromptError for a name that leads out of the folder, through a link too.
    """
    if not _PART.fullmatch(name):
        raise PromptError(f"include {name!r}: only plain names of files beside the prompt file are allowed")
    file = folder / name
    if not file.is_file():
        return None
    # A prompt file may come from anybody: what it includes must not reach the rest of the disk through a link.
    if file.resolve().parent != folder.resolve():
        raise PromptError(f"include {name!r} is a link out of {folder}: put the file itself there")
    return load_text(file, max_bytes=MAX_PROMPT_FILE_BYTES)


def parse_reference(text: str) -> PromptReference | None:
    """`@file.toml`, `@file.toml:name` or `@file.toml:a,b.c`; None when the text is a prompt itself."""
    # The whole text must be a reference: a prompt that only begins with @ is sent as it is.
    match = _REFERENCE.fullmatch(text.strip())
    if not match:
        return None
    return PromptReference(path=Path(match["path"]), names=parse_names(match["names"]) if match["names"] else ())


def parse_names(text: str) -> tuple[str, ...]:
    """Prompt names joined by commas."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"{text!r} has an empty prompt name; write them as name,other.name")
    return names


def parse_dict(text: str) -> dict[str, str]:
    """Variables for --dict: `a=1,b='x, y'`. Quotes, single or double, keep commas; a backslash keeps a quote."""
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _DICT_ENTRY.match(text, position)
        if not match:
            rest = text[position : position + 40].strip()
            raise UsageError(
                f"{parameter('variables')}: {rest!r} is no name=value; write a=1,b='x, y' (quotes keep commas)"
            )
        key, quoted = match["key"], match["double"] if match["double"] is not None else match["single"]
        if key in values:
            raise UsageError(f"{parameter('variables')}: {key!r} is given twice")
        values[key] = match["bare"].strip() if quoted is None else re.sub(r"\\([\\\"'])", r"\1", quoted)
        position = match.end()
    if not values:
        raise UsageError(f"{parameter('variables')} is empty; write a=1,b='x, y'")
    return values


def parse_variable(text: str) -> tuple[str, Value]:
    """`name=value` of one --var, the value taken as it is; or `name:=json`, whose value may be a list or a table."""
    name, equals, value = text.partition("=")
    typed = name.endswith(":")
    name = name.removesuffix(":").strip()
    if not equals or not name:
        raise UsageError(f"{parameter('var')}: {text[:40]!r} is no NAME=VALUE, such as topic='the sea'")
    if not typed:
        return name, value
    try:
        return name, parse_json(value)  # type: ignore[return-value]  # what JSON can say
    except DocumentError as exc:
        raise UsageError(
            f"{parameter('var')}: {value[:40]!r} after {name}:= {exc}; a text is written {name}=TEXT"
        ) from exc


def load_variables(path: Path | str) -> dict[str, Value]:
    """Variables by name from a JSON or TOML file. Raises PromptError when it is no table of them."""
    file = Path(path).expanduser()
    text = load_text(file)
    try:
        found = parse_json(text) if file.suffix.lower() == ".json" else parse_toml(text)
    except DocumentError as exc:
        raise PromptError(f"{file} {exc}") from exc
    if not isinstance(found, dict):
        raise PromptError(f"{file} holds a list or a single value; write a table of variables by name")
    return found
