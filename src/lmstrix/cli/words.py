"""Words to values: argv checked and coerced against the method signatures, before Fire dispatches. Pure.

Fire reads words as Python literals, runs a command before it notices an unknown flag, and prints help to stderr. So the
words are read here: a prompt stays the exact string it was, every flag is known and its value converted before anything
runs, and help is text for stdout. Fire is then handed a command that needs no more words.

A command is a public method; its signature is its syntax and its docstring (Google style) its help:
positional-or-keyword parameters are words in order (each also usable as --name), keyword-only parameters are options,
`bool` is a switch (--x / --no-x), `list[str]` may be repeated, `*names` takes the remaining words. A bare - is the
switch `stdin` where a command has it; the text "-" goes after --.
"""

from __future__ import annotations

import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from lmstrix.ground import units
from lmstrix.ground.errors import UsageError


@dataclass(frozen=True, slots=True)
class Kind:
    """How a word becomes a value: `convert(word, what)`; `shown` stands for it in help."""

    shown: str
    convert: Callable[[str, str], object]


@dataclass(frozen=True, slots=True)
class Flag:
    """The option's name where it is not the parameter's (which may shadow no builtin)."""

    name: str


def _whole(word: str, what: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise UsageError(f"{what}: {word!r} is not a whole number") from None


def _number(word: str, what: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise UsageError(f"{what}: {word!r} is not a number")
    return value


def _text(word: str, what: str) -> str:
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what}: the text is not valid UTF-8; convert it first") from None
    return word


def _positive_tokens(word: str, what: str) -> int:
    return units.parse_tokens(word, what=what, minimum=1)


def _tokens_or_ratio(word: str, what: str) -> int | float:
    return units.parse_tokens_or_ratio(word, what=what)


def _seconds(word: str, what: str) -> float:
    return units.parse_seconds(word, what=what)


def _byte_count(word: str, what: str) -> int:
    return units.parse_bytes(word, what=what)


def _port(word: str, what: str) -> int:
    port = _whole(word, what)
    if not 0 <= port <= 65535:
        raise UsageError(f"{what}: {port} is not a port number (0 to 65535)")
    return port


Tokens = Annotated[int, Kind("N", _positive_tokens)]
TokensOrRatio = Annotated[int | float, Kind("N|N%", _tokens_or_ratio)]
Seconds = Annotated[float, Kind("SECONDS", _seconds)]
ByteCount = Annotated[int, Kind("BYTES", _byte_count)]
Port = Annotated[int, Kind("PORT", _port)]

_PLAIN: Mapping[object, Kind] = {str: Kind("TEXT", _text), int: Kind("N", _whole), float: Kind("X", _number)}
_HELP_WIDTH = 80
_SHORT = {"m": "model", "v": "verbose", "q": "quiet", "h": "help"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One word or option of a command. `switch` takes no value; `many` may be given several times."""

    name: str
    flag: str
    kind: Kind
    positional: bool
    switch: bool
    many: bool
    required: bool
    variadic: bool
    choices: tuple[str, ...]
    default: Any
    help: str

    def convert(self, word: str) -> Any:
        what = f"--{self.flag}" if not self.positional else self.flag.upper()
        if self.choices:
            if word not in self.choices:
                raise UsageError(f"{what}: {word!r} is not one of {', '.join(self.choices)}")
            return word
        return self.kind.convert(word, what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: `path` are its words ("engine", "start")."""

    path: tuple[str, ...]
    summary: str
    details: str
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        return " ".join(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What was asked. `command` None means: show `help_text` and leave."""

    command: Command | None
    positionals: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    help_text: str = ""


def describe(path: tuple[str, ...], function: Callable[..., object]) -> Command:
    """The command a method's signature and docstring spell."""
    hints = typing.get_type_hints(function, include_extras=True)
    summary, details, texts = _docstring(inspect.getdoc(function) or "")
    parameters = tuple(
        _parameter(parameter, hints.get(parameter.name, str), texts.get(parameter.name, ""))
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    )
    return Command(path=path, summary=summary, details=details, parameters=parameters)


def _parameter(parameter: inspect.Parameter, hint: Any, text: str) -> Parameter:
    flag = parameter.name.replace("_", "-")
    kind: Kind | None = None
    hint = _without_none(hint)
    if typing.get_origin(hint) is Annotated:
        hint, *marks = typing.get_args(hint)
        hint = _without_none(hint)
        for mark in marks:
            if isinstance(mark, Flag):
                flag = mark.name
            elif isinstance(mark, Kind):
                kind = mark
    if typing.get_origin(hint) is Annotated:
        hint, *marks = typing.get_args(hint)
        kind = next((mark for mark in marks if isinstance(mark, Kind)), kind)
    many = typing.get_origin(hint) is list
    if many:
        (hint,) = typing.get_args(hint)
    choices = tuple(typing.get_args(hint)) if typing.get_origin(hint) is typing.Literal else ()
    variadic = parameter.kind is inspect.Parameter.VAR_POSITIONAL
    return Parameter(
        name=parameter.name,
        flag=flag,
        kind=kind or (Kind("|".join(choices), _text) if choices else _PLAIN.get(hint, _PLAIN[str])),
        positional=variadic or parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD,
        switch=hint is bool,
        many=many,
        required=parameter.default is inspect.Parameter.empty and not variadic,
        variadic=variadic,
        choices=choices,
        default=None if parameter.default is inspect.Parameter.empty else parameter.default,
        help=text,
    )


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(hint) if part is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return hint


def _docstring(text: str) -> tuple[str, str, dict[str, str]]:
    head, _, arguments = text.partition("\nArgs:\n")
    summary, _, details = head.partition("\n")
    texts: dict[str, str] = {}
    name = ""
    for line in arguments.splitlines():
        match = re.match(r"^ {4}\*?(\w+): (.*)$", line)
        if match:
            name = match[1]
            texts[name] = match[2].strip()
        elif name and line.strip():
            texts[name] += " " + line.strip()
    return summary.strip(), details.strip(), texts


def suggestion(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


Functions = Mapping[tuple[str, ...], Callable[..., object]]


def parse(words: Sequence[str], commands: Functions, common: Sequence[Parameter]) -> Invocation:
    """Check and coerce all words. Raises UsageError naming the word that is wrong and what to do."""
    words = list(words)
    found: dict[str, Any] = {}
    while words and words[0].startswith("-") and words[0] not in ("-", "--"):
        words = _take_option(words, common, found, where="")
    if found.pop("help", False) or not words:
        return Invocation(command=None, help_text=overview(commands, common), common=found)
    if words[0] == "help":
        return Invocation(command=None, help_text=_help_for(words[1:], commands, common), common=found)
    path = _find(words, commands)
    if path is None:
        return Invocation(command=None, help_text=_help_for(words[:1], commands, common), common=found)
    return _parse_command(describe(path, commands[path]), words[len(path) :], common, found)


def _find(words: Sequence[str], commands: Functions) -> tuple[str, ...] | None:
    """The longest path the words begin with (a command may also be a group); None when a mere group is named alone."""
    paths = [path for path in commands if tuple(words[: len(path)]) == path]
    if paths:
        return max(paths, key=len)
    names = {path[1]: path for path in commands if path[0] == words[0] and len(path) > 1}
    if not names:
        known = {path[0] for path in commands}
        raise UsageError(f"unknown command {words[0]!r}{suggestion(words[0], known)} (lmstrix --help lists them)")
    if len(words) == 1 or words[1] in ("-h", "--help"):
        return None
    raise UsageError(
        f"{words[0]}: unknown command {words[1]!r}{suggestion(words[1], names)} (there are: {', '.join(sorted(names))})"
    )


def _parse_command(
    command: Command, words: list[str], common: Sequence[Parameter], found: dict[str, Any]
) -> Invocation:
    options: dict[str, Any] = {}
    taken: list[str] = []
    while words:
        if words[0] == "--":
            taken += words[1:]
            break
        if words[0] == "-" and any(p.name == "stdin" for p in command.parameters):
            options["stdin"] = True
            words.pop(0)
            continue
        if _looks_like_option(words[0]):
            both = {**found, **options}
            known = [p for p in command.parameters if not p.variadic]
            words = _take_option(words, [*known, *common], both, where=command.name)
            own = {p.name for p in known}
            options = {name: value for name, value in both.items() if name in own}
            found = {name: value for name, value in both.items() if name not in own}
        else:
            taken.append(words.pop(0))
    if found.pop("help", False):
        return Invocation(command=None, help_text=command_help(command, common), common=found)
    positionals = _assign(command, taken, options)
    return Invocation(command=command, positionals=positionals, options=options, common=found)


def _looks_like_option(word: str) -> bool:
    """-x and --word are options; "-", "- item", "-5" and "-a b" are text."""
    return re.fullmatch(r"-[A-Za-z]|--[A-Za-z][\w-]*(=.*)?|-[A-Za-z]{2,}", word, re.DOTALL) is not None


def _take_option(words: list[str], known: Sequence[Parameter], found: dict[str, Any], *, where: str) -> list[str]:
    word, *rest = words
    name, has_value, value = word.lstrip("-").partition("=")
    key = name.replace("_", "-")
    if not word.startswith("--"):
        key = _SHORT.get(name, name) if len(name) == 1 else ""
    parameter = next((p for p in known if key in (p.flag, p.name.replace("_", "-"))), None)
    negated = False
    if parameter is None and key.startswith("no-"):
        parameter = next((p for p in known if p.switch and key[3:] == p.flag), None)
        negated = parameter is not None
    if parameter is None:
        flags = [f"--{p.flag}" for p in known]
        raise UsageError(
            f"{where + ': ' if where else ''}unknown option {word.partition('=')[0]}{suggestion('--' + name, flags)}"
            " (text that begins with - goes after --)"
        )
    if parameter.switch:
        found[parameter.name] = _switch_value(parameter, value if has_value else "true") != negated
        return rest
    if not has_value:
        if not rest or (_looks_like_option(rest[0]) and _is_known(rest[0], known)):
            raise UsageError(f"--{parameter.flag} needs a value ({parameter.kind.shown})")
        value, *rest = rest
    converted = parameter.convert(value)
    if parameter.many:
        found[parameter.name] = [*found.get(parameter.name, []), converted]
    elif parameter.name in found:
        raise UsageError(f"--{parameter.flag} is given twice")
    else:
        found[parameter.name] = converted
    return rest


def _is_known(word: str, known: Sequence[Parameter]) -> bool:
    name = word.lstrip("-").partition("=")[0].replace("_", "-")
    name = _SHORT.get(name, name) if not word.startswith("--") else name
    return any(name in (p.flag, f"no-{p.flag}") for p in known)


def _switch_value(parameter: Parameter, word: str) -> bool:
    if word.lower() in ("true", "yes", "on", "1"):
        return True
    if word.lower() in ("false", "no", "off", "0"):
        return False
    raise UsageError(f"--{parameter.flag}: {word!r} is not true or false (write --{parameter.flag} alone)")


def _assign(command: Command, taken: list[str], options: dict[str, Any]) -> tuple[Any, ...]:
    """Words to positional parameters, in order, passing over those given as --name."""
    rest: tuple[Any, ...] = ()
    remaining = list(taken)
    for parameter in command.parameters:
        if not parameter.positional or parameter.name in options:
            continue
        if parameter.variadic:
            rest = tuple(parameter.convert(word) for word in remaining)
            remaining = []
        elif remaining:
            options[parameter.name] = parameter.convert(remaining.pop(0))
        elif parameter.required:
            raise UsageError(f"{command.name} needs {parameter.flag.upper()} (lmstrix {command.name} --help)")
    if remaining:
        raise UsageError(
            f"{command.name}: unexpected word {remaining[0]!r} (quote text that has spaces;"
            f" lmstrix {command.name} --help shows the options)"
        )
    missing = [p for p in command.parameters if p.required and p.name not in options and not p.positional]
    if missing:
        raise UsageError(f"{command.name} needs --{missing[0].flag}")
    return rest


def _help_for(words: Sequence[str], commands: Functions, common: Sequence[Parameter]) -> str:
    if not words:
        return overview(commands, common)
    path = _find(words, commands)
    if path is not None:
        return command_help(describe(path, commands[path]), common)
    rows = [(other[1], _summary(commands[other])) for other in commands if other[0] == words[0]]
    return f"Usage: lmstrix {words[0]} COMMAND\n\n{_columns(rows)}\n"


def _summary(function: Callable[..., object]) -> str:
    return (function.__doc__ or "").partition("\n")[0]


def overview(commands: Functions, common: Sequence[Parameter]) -> str:
    """The text of `lmstrix --help`."""
    rows = [(" ".join(path), _summary(function)) for path, function in commands.items()]
    return (
        "LMStrix finds the real context limit of every local model, remembers it, and uses it.\n\n"
        f"Usage: lmstrix COMMAND [WORDS] [OPTIONS]\n\nCommands:\n{_columns(rows)}\n\n"
        f"Options of every command:\n{_columns(_option_rows(common))}\n\n"
        "lmstrix COMMAND --help tells more. Exit codes: 0 done, 1 failed, 2 usage, 3 no server, 130 interrupted.\n"
    )


def command_help(command: Command, common: Sequence[Parameter]) -> str:
    """The text of `lmstrix COMMAND --help`."""
    words = []
    for parameter in command.parameters:
        if parameter.positional:
            word = parameter.flag.upper() + ("…" if parameter.variadic else "")
            words.append(word if parameter.required else f"[{word}]")
    parts = [f"Usage: lmstrix {' '.join([command.name, *words])} [OPTIONS]", command.summary]
    if command.details:
        parts.append(command.details)
    positional = [(p.flag.upper(), p.help) for p in command.parameters if p.positional]
    if positional:
        parts.append("Words:\n" + _columns(positional))
    options = _option_rows([p for p in command.parameters if not p.positional])
    if options:
        parts.append("Options:\n" + _columns(options))
    parts.append("Also: " + " ".join(f"--{p.flag}" for p in common))
    return "\n\n".join(parts) + "\n"


def _option_rows(parameters: Iterable[Parameter]) -> list[tuple[str, str]]:
    rows = []
    for parameter in parameters:
        short = next((f"-{letter}, " for letter, name in _SHORT.items() if name == parameter.flag), "")
        value = "" if parameter.switch else f" {parameter.kind.shown}"
        rows.append((f"{short}--{parameter.flag}{value}", parameter.help))
    return rows


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns in `_HELP_WIDTH`; a left side that is too long has a line of its own."""
    width = min(24, max((len(left) for left, _ in rows), default=0))
    lines = []
    for left, right in rows:
        first, *rest = _wrapped(right, _HELP_WIDTH - width - 4) or [""]
        lines += [f"  {left:<{width}}  {first}"] if len(left) <= width else [f"  {left}", f"{'':{width + 4}}{first}"]
        lines += [f"{'':{width + 4}}{line}" for line in rest]
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
