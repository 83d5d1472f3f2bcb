"""What the word being typed may become, by the commands' signatures. Pure: names come from functions that are given.

What a value is, is told by its parameter: its choices, else what its name says (a model, a prompt, a file). Where
nothing is known of a value, nothing is offered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.cli.help_text import SHORT_FLAGS
from lmstrix.cli.signatures import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lmstrix.cli.signatures import Command, Commands, Parameter

Candidate = tuple[str, str]
"""A word, and what it is (or nothing)."""
FILES = ":files"
"""In place of a word: names of files may stand here, which the shell itself knows best."""
SERVERS = ("auto", "lmstudio", "embedded")
MODEL_NAMES = frozenset({"model", "models", "against"})
FILE_NAMES = frozenset(
    {
        "file",
        "file_prompt",
        "image",
        "schema",
        "schema_multi",
        "save_response",
        "prompts",
        "inputs",
        "out",
        "config",
        "targets",
    }
    | {"first", "second", "folder", "files", "rows"}
)
_FILE_ENDINGS = ("_file", "_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Where names come from: the models' keys, the prompts of a file, and what is kept under a name."""

    models: Callable[[], Iterable[str]]
    prompts: Callable[[str], Iterable[str]]
    collections: Callable[[], Iterable[str]]
    conversations: Callable[[], Iterable[str]]


@dataclass(slots=True)
class _Read:
    """What the words before the current one say: the options and words a command has, and an option without a value."""

    options: dict[str, str]
    words: list[str]
    waiting: Parameter | None = None
    group: str = ""
    literal: bool = False


def candidates(
    before: Sequence[str], current: str, commands: Commands, common: Sequence[Parameter], names: Names
) -> list[Candidate]:
    """All words that `current` may become, after the words `before` it."""
    paths = [path for path in commands if tuple(before[: len(path)]) == path]
    if not paths:
        found = _commands(before, commands)
        return _beginning(current, [*found, *_flags(current, common, {})] if not before else found)
    path = max(paths, key=len)
    command = describe(path, commands[path])
    rest = before[len(path) :]
    found = _of_command(command, rest, current, common, names)
    # "bench" is a command, and the beginning of others.
    return found if rest else _beginning(current, _commands(before, commands)) + found


def _commands(before: Sequence[str], commands: Commands) -> list[Candidate]:
    """The words that may come next on the way to a command; a group says what it holds."""
    depth = len(before)
    ways: dict[str, str] = {}
    for path, function in commands.items():
        if len(path) > depth and path[:depth] == tuple(before):
            summary = (function.__doc__ or "").partition("\n")[0]
            inside = ", ".join(
                other[depth + 1] for other in commands if other[: depth + 1] == path[: depth + 1] != other
            )
            ways.setdefault(path[depth], summary if len(path) == depth + 1 else inside)
    return list(ways.items())


def _of_command(
    command: Command, rest: Sequence[str], current: str, common: Sequence[Parameter], names: Names
) -> list[Candidate]:
    known = [*(p for p in command.parameters if not p.variadic), *common]
    read = _read(rest, known)
    read.group = command.name.partition(" ")[0]
    if read.waiting is not None:
        return _beginning(current, _values(read.waiting, current, read, names))
    if current.startswith("-") and not read.literal:
        flag, equals, typed = current.partition("=")
        parameter = _option(flag, known)
        if equals and parameter is not None and not parameter.switch:
            values = _beginning(typed, _values(parameter, typed, read, names))
            return [(value if value == FILES else f"{flag}={value}", text) for value, text in values]
        return _beginning(current, _flags(current, known, read.options))
    return _beginning(current, _positional(command, current, read, names))


def _positional(command: Command, current: str, read: _Read, names: Names) -> list[Candidate]:
    places = [p for p in command.parameters if p.positional and p.name not in read.options]
    if not places:
        return []
    place = places[min(len(read.words), len(places) - 1)]
    if len(read.words) >= len(places) and not place.variadic:
        return []
    return _values(place, current, read, names)


def _read(words: Sequence[str], known: Sequence[Parameter]) -> _Read:
    read = _Read({}, [])
    for word in words:
        if read.waiting is not None:
            read.options[read.waiting.name] = word
            read.waiting = None
        elif word == "--" and not read.literal:
            read.literal = True
        elif not read.literal and word.startswith("-") and (parameter := _option(word.partition("=")[0], known)):
            _, equals, value = word.partition("=")
            read.options[parameter.name] = value
            read.waiting = None if parameter.switch or equals else parameter
        else:
            read.words.append(word)
    return read


def _option(word: str, known: Sequence[Parameter]) -> Parameter | None:
    """The option that is written so, or switched off so."""
    name = word.lstrip("-").replace("_", "-")
    name = name if word.startswith("--") else SHORT_FLAGS.get(name, "")
    for parameter in known:
        other = parameter.name.replace("_", "-")
        if name in (parameter.flag, other) or (parameter.switch and name in (f"no-{parameter.flag}", f"no-{other}")):
            return parameter
    return None


def _flags(current: str, known: Iterable[Parameter], given: Mapping[str, str]) -> list[Candidate]:
    """The options that may still be given; their --no- forms only once that is typed: lists would be twice as long."""
    off = current.startswith("--no-")
    return [
        (f"--{'no-' if off else ''}{p.flag}", p.help)
        for p in known
        if not p.positional and (p.many or p.name not in given) and (p.switch or not off)
    ]


def _values(parameter: Parameter, current: str, read: _Read, names: Names) -> list[Candidate]:
    if parameter.choices:
        return [(choice, "") for choice in parameter.choices]
    if parameter.name == "server":
        return [(server, "") for server in SERVERS]
    if parameter.name in MODEL_NAMES:
        return _joined(current, names.models())
    # A name is that of what its group of commands is about.
    kept = read.group if parameter.name == "name" else parameter.name
    if kept in ("conversation", "conversations"):
        return [(name, "") for name in names.conversations()]
    if kept == "collections":
        return [(name, "") for name in names.collections()]
    file = read.options.get("file_prompt") or (read.words[0] if parameter.name == "names" and read.words else None)
    if file and parameter.name in ("prompt", "names"):
        return _joined(current, names.prompts(file))
    if parameter.name in FILE_NAMES or parameter.name.endswith(_FILE_ENDINGS):
        return [(FILES, "")]
    return []


def _joined(current: str, names: Iterable[str]) -> list[Candidate]:
    """Names where several may be joined with commas: the last one is being typed."""
    head, comma, _ = current.rpartition(",")
    return [(head + comma + name, "") for name in names]


def _beginning(current: str, found: Iterable[Candidate]) -> list[Candidate]:
    return [(value, text) for value, text in found if value == FILES or value.startswith(current)]
