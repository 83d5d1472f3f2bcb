"""Commands as their functions spell them: the signature is the syntax, the docstring (Google style) the help. Pure.

Positional-or-keyword parameters are words in order (each also usable as --name), keyword-only parameters are options,
`bool` is a switch (--x / --no-x), `list[str]` may be repeated, `*names` takes the remaining words. A positional-only
parameter is what the command works with; the user's words never reach it.

A keyword-only parameter of a frozen record is an option group: each field is an option, its help stands in the record's
own docstring, a plain number has the range of its name (`ground/ranges.py`), and the command receives the whole record.
A command that takes part of a group says which with `Only`; a text under Args in its own docstring wins over the
group's.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from lmstrix.cli.kinds import PLAIN_KINDS, Flag, Kind, read_text
from lmstrix.ground.errors import UsageError
from lmstrix.ground.ranges import RANGES, NumberRange

CommandFunction = Callable[..., None]
Commands = Mapping[tuple[str, ...], CommandFunction]
"""Every command under the words that call it: ("engine", "start")."""


class Only:
    """The fields of an option group that a command has, in the order its help shows them."""

    def __init__(self, *fields: str) -> None:
        self.fields = fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One word or option of a command. `switch` takes no value; `many` may be given several times.

    `range` are the numbers it may be; None where it is no number, or its kind knows.
    """

    name: str
    flag: str
    kind: Kind
    positional: bool
    switch: bool
    many: bool
    required: bool
    variadic: bool
    choices: tuple[str, ...]
    range: NumberRange | None
    help: str

    def convert(self, word: str, written: str | None = None) -> Any:
        """The value. A refusal names the option as it was `written`, which may be its other name."""
        what = written or (self.flag.upper() if self.positional else f"--{self.flag}")
        # Choices have no kind of their own: their words are the values.
        if self.choices:
            if word not in self.choices:
                raise UsageError(f"{what}: {word!r} is not one of {', '.join(self.choices)}")
            return word
        value = self.kind.convert(word, what)
        if self.range is not None and value is not None:
            for each in value if isinstance(value, tuple) else (value,):
                self.range.check(each, what)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: `path` are its words ("engine", "start"), `groups` the records among its function's parameters."""

    path: tuple[str, ...]
    summary: str
    details: str
    parameters: tuple[Parameter, ...]
    groups: Mapping[str, type]

    @property
    def name(self) -> str:
        return " ".join(self.path)

    def arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What the function is called with: the values by name, those of a group gathered into its record."""
        arguments = dict(options)
        for name, record in self.groups.items():
            # Only what was said: the record knows its own defaults, also of fields that the command leaves out.
            own = {field.name: arguments.pop(field.name) for field in _fields(record) if field.name in options}
            arguments[name] = record(**own)
        return arguments


@cache
def describe(path: tuple[str, ...], function: CommandFunction) -> Command:
    """The command that a function's signature and docstring spell. One command line asks for it several times."""
    hints = typing.get_type_hints(function, include_extras=True)
    summary, details, texts = _docstring(inspect.getdoc(function) or "")
    parameters: list[Parameter] = []
    groups: dict[str, type] = {}
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name, str)
        record, marks = _unwrapped(hint)
        if dataclasses.is_dataclass(record) and isinstance(record, type):
            groups[parameter.name] = record
            only = next((mark.fields for mark in marks if isinstance(mark, Only)), None)
            parameters += options_of(record, only=only, texts=texts)
        # Positional-only parameters come from `run`, not from the words.
        elif parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            parameters.append(_parameter(parameter, hint, texts.get(parameter.name, "")))
    return Command(path=path, summary=summary, details=details, parameters=tuple(parameters), groups=groups)


def options_of(
    record: type, *, only: tuple[str, ...] | None = None, texts: Mapping[str, str] | None = None
) -> tuple[Parameter, ...]:
    """The options of a group, in the order of its fields or of `only`; `texts` win over the help it brings."""
    # A field has a default, whichever: an option of a group is never required, so `default` below only says that.
    hints = typing.get_type_hints(record, include_extras=True)
    helps = {**_docstring(inspect.getdoc(record) or "")[2], **(texts or {})}
    options = (
        _parameter(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None), hints[name], helps.get(name, "")
        )
        for name in only or [field.name for field in _fields(record)]
    )
    return tuple(_in_range_of_its_name(option) for option in options)


def _in_range_of_its_name(option: Parameter) -> Parameter:
    plain = option.kind in (PLAIN_KINDS[int], PLAIN_KINDS[float])
    return dataclasses.replace(option, range=RANGES.get(option.name)) if plain and option.range is None else option


def _fields(record: type) -> tuple[dataclasses.Field[Any], ...]:
    assert dataclasses.is_dataclass(record)
    return dataclasses.fields(record)


def _parameter(parameter: inspect.Parameter, hint: Any, text: str) -> Parameter:
    hint, marks = _unwrapped(hint)
    # A list is an option that may be repeated, so its kind is that of one item.
    many = typing.get_origin(hint) is list
    if many:
        hint, marks_of_item = _unwrapped(*typing.get_args(hint))
        marks += marks_of_item
    kind = next((mark for mark in marks if isinstance(mark, Kind)), None)
    flag = next((mark.name for mark in marks if isinstance(mark, Flag)), parameter.name.replace("_", "-"))
    # The last one: an option that narrows what its kind allows writes its own range outside.
    allowed = next((mark for mark in reversed(marks) if isinstance(mark, NumberRange)), None)
    choices = tuple(typing.get_args(hint)) if typing.get_origin(hint) is typing.Literal else ()
    variadic = parameter.kind is inspect.Parameter.VAR_POSITIONAL
    return Parameter(
        name=parameter.name,
        flag=flag,
        kind=kind or (Kind("|".join(choices), read_text) if choices else PLAIN_KINDS.get(hint, PLAIN_KINDS[str])),
        positional=variadic or parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD,
        switch=hint is bool,
        many=many,
        required=parameter.default is inspect.Parameter.empty and not variadic,
        variadic=variadic,
        choices=choices,
        range=allowed,
        help=text,
    )


def _unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    """What is inside `X | None` and `Annotated[X, …]`, however they are nested, and all the marks on the way."""
    marks: list[Any] = []
    while True:
        if typing.get_origin(hint) is Annotated:
            hint, *found = typing.get_args(hint)
            marks += found
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            rest = [part for part in typing.get_args(hint) if part is not type(None)]
            # A union of several kinds (`int | float`) stays whole: the mark beside it says how to read the word.
            if len(rest) != 1:
                return hint, marks
            (hint,) = rest
        else:
            return hint, marks


def _docstring(text: str) -> tuple[str, str, dict[str, str]]:
    """The summary, the paragraphs after it, and the texts under Args by name."""
    head, _, arguments = text.partition("\nArgs:\n")
    summary, _, details = head.partition("\n")
    texts: dict[str, str] = {}
    name = ""
    for line in arguments.splitlines():
        # Four spaces begin a name; a text that goes on in the next line stands deeper.
        match = re.match(r"^ {4}\*?(\w+): (.*)$", line)
        if match:
            name = match[1]
            texts[name] = match[2].strip()
        elif name and line.strip():
            texts[name] += " " + line.strip()
    return summary.strip(), details.strip(), texts
