"""Texts with logic, run by minijinja within limits: fuel for its instructions, a cap on what it prints.

Undefined names may be tested but not printed. Nothing is escaped; lines that hold only a tag leave no blank line. The
filters that could make large texts out of small ones are replaced by bounded ones or left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.prompts.checks import KEYWORDS
from lmstrix.core.prompts.growth import Bound, bound_of
from lmstrix.core.prompts.keys_only import keys_only
from lmstrix.core.prompts.limits import LIMITS
from lmstrix.core.prompts.text import SPECIAL_VALUES, LogicText
from lmstrix.core.prompts.values import to_json, to_text
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from minijinja import Environment

    from lmstrix.ground.documents import Value

_LEFT_OUT = ("attr", "batch", "chain", "format", "pprint", "safe", "slice", "wordwrap")
_CAUSE = re.compile(r"^(?:caused by: )?(.*) \(in (.*):(\d+)\)$", re.MULTILINE)
_BUILT_IN = {"loop", "super", "self", "range", "dict", SPECIAL_VALUES}


class UndefinedNameError(Exception):
    """The text printed a name that has no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicProgram:
    """A text with the parts it includes, ready to run. `needs` are the dotted names it takes from outside; `bound` is
    that of the largest value it could build.
    """

    text: LogicText
    parts: Mapping[str, LogicText]
    needs: frozenset[str]
    bound: Bound

    def fuel(self, characters: int) -> int:
        """Instructions it may run, fewer when each may print a long literal, and all may print so many characters."""
        literals = [self.text.loop_literal, *(part.largest_literal for part in self.parts.values())]
        return min(LIMITS.fuel, max(LIMITS.smallest_fuel, characters // max(1, *literals, 1)))

    def characters(self, values: Iterable[object]) -> int:
        """How much it may print with these values, and its filters make. Raises PromptError where it grows too large.

        Fuel counts instructions, and one assignment can double a value: this is found before anything runs.
        """
        try:
            largest = max(map(_size_chars, values), default=0)
        except RecursionError as exc:
            raise PromptError("a value is nested too deeply, or holds itself") from exc
        room = LIMITS.grown_characters - largest * self.bound.given - self.bound.written
        room = min(LIMITS.characters, room // self.bound.made if self.bound.made else room)
        if room < LIMITS.smallest_room:
            raise PromptError(
                f"its set, with and for tags could build a value of more than {LIMITS.grown_characters:,} characters: "
                "print values side by side ({{ a }}{{ b }}) instead of joining them"
            )
        return room

    @property
    def printed(self) -> tuple[str, ...]:
        """The outside names printed as they are, untested ones only, in order."""
        texts = (self.text, *self.parts.values())
        tested = {name for text in texts for name in text.tested}
        special = {name for text in texts for name in text.special}
        names = dict.fromkeys(name for text in texts for name in text.placeholders)
        return tuple(
            name
            for name in names
            if name not in tested and (name in special or name in self.needs or name.partition(".")[0] in self.needs)
        )

    @property
    def special(self) -> frozenset[str]:
        """The names that only placeholders can spell."""
        return frozenset(name for text in (self.text, *self.parts.values()) for name in text.special)


def link(text: LogicText, parts: Mapping[str, LogicText]) -> LogicProgram:
    """Check the syntax of a text and its parts, and find what they need. Raises PromptError with the line."""
    environment = _environment(None, None, 0)
    needs: set[str] = set()
    for name, part in {"": text, **parts}.items():
        try:
            environment.add_template(name, part.source)
            needs |= environment.undeclared_variables_in_str(part.source, nested=True)
        except RuntimeError as exc:
            raise _explained(exc, name) from exc
    # minijinja takes a word of the language for a name where it expects one; it would be reported as missing.
    roots = {name.partition(".")[0] for name in needs}
    if reserved := roots & KEYWORDS:
        raise PromptError(f"{min(reserved)!r} is a word of the language; choose another name")
    outside = frozenset(name for name in needs if name.partition(".")[0] not in _BUILT_IN)
    return LogicProgram(text=text, parts=parts, needs=outside, bound=bound_of(text, parts, outside))


def run(program: LogicProgram, values: Mapping[str, Value]) -> str:
    """Render. `values` holds the needed names as nested tables. Raises UndefinedNameError or PromptError."""
    characters = program.characters(values.values())
    printed = _CharacterBudget("it prints", characters)
    environment = _environment(printed.text, program.fuel(characters), characters)
    try:
        for name, part in program.parts.items():
            environment.add_template(name, part.source)
        return environment.render_str(program.text.source, **{name: keys_only(value) for name, value in values.items()})
    except RecursionError as exc:
        raise PromptError("a value is nested too deeply") from exc
    except RuntimeError as exc:
        raise _explained(exc, "") from exc
    # What our Python filters raise on values of the wrong type comes through minijinja as it is.
    except (TypeError, ValueError, AttributeError, LookupError) as exc:
        raise PromptError(f"a filter was given what it cannot use: {exc}") from exc


def _size_chars(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(str(key)) + _size_chars(item) for key, item in value.items())
    if isinstance(value, Iterable):
        return sum(_size_chars(item) + 2 for item in value)
    # A number or a date, which no filter prints longer.
    return 24


def _explained(exc: RuntimeError, part: str) -> PromptError | UndefinedNameError:
    """A failure of minijinja in our words. Its text has a line for each cause; the last says what happened."""
    what, name, line = (_CAUSE.findall(str(exc)) or [(str(exc).partition("\n")[0], "", "?")])[-1]
    if what.startswith("undefined value"):
        return UndefinedNameError(f"line {line}: a name without a value is printed or taken apart")
    if "out of fuel" in what:
        return PromptError("its loops and includes run too long: shorten the lists they run over")
    where = part or ("" if name == "<string>" else name)
    return PromptError(f"{where}{', ' if where else ''}line {line}: {what}")


def _environment(finalizer: Callable[[object], str] | None, fuel: int | None, characters: int) -> Environment:
    """A fresh one for every run (40 µs), so that runs in several threads share nothing."""
    from minijinja import Environment

    made = _CharacterBudget("its filters make", characters)
    environment: Environment = Environment(  # type: ignore[call-overload]  # its stubs lack "semi_strict"
        undefined_behavior="semi_strict",
        auto_escape_callback=_never,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalizer=finalizer,
        fuel=fuel,
        debug=False,
        pycompat=False,
        # These count the text they make; minijinja's own would make any amount of it for one instruction of fuel.
        filters={
            "replace": made.replace,
            "join": made.join,
            "indent": made.indent,
            "truncate": made.truncate,
            "tojson": made.tojson,
            "string": made.text,
        },
    )
    # These make text without a bound that we could set, reach into objects, or mean nothing where nothing is escaped.
    for name in _LEFT_OUT:
        environment.remove_filter(name)
    for name in ("cycler", "debug", "joiner", "namespace"):
        environment.remove_global(name)
    return environment


def _never(_name: str) -> bool:
    return False


class _CharacterBudget:
    """How much text one run may still make, spent by every filter call or by every printed value."""

    def __init__(self, what: str, characters: int) -> None:
        self.what = what
        self.characters = self.left = characters

    def spend(self, characters: int) -> None:
        self.left -= characters
        if self.left < 0:
            raise PromptError(f"{self.what} more than {self.characters:,} characters: shorten its loops and texts")

    def text(self, value: object) -> str:
        """A value as text, spent."""
        text = to_text(value)
        self.spend(len(text))
        return text

    def replace(self, value: object, old: str, new: str) -> str:
        text = to_text(value)
        # Counted before it is made: what is refused must not have taken the memory already.
        self.spend(len(text) + text.count(old) * max(0, len(new) - len(old)))
        return text.replace(old, new)

    def join(self, value: Iterable[object], separator: str = "", attribute: str | None = None) -> str:
        texts = []
        for item in value:
            texts.append(self.text(item[attribute] if attribute and isinstance(item, Mapping) else item))
            self.spend(len(separator))
        return separator.join(texts)

    def indent(self, value: object, width: int = 4, first: bool = False, blank: bool = False) -> str:
        text = to_text(value)
        self.spend(len(text) + width * (text.count("\n") + 1))
        lines = text.split("\n")
        return "\n".join(
            " " * width + line if (number or first) and (line or blank) else line for number, line in enumerate(lines)
        )

    def truncate(self, value: object, length: int = 255, killwords: bool = False, end: str = "...") -> str:
        text = to_text(value)
        if len(text) <= length:
            return text
        self.spend(length + len(end))
        cut = text[: max(0, length - len(end))]
        return (cut if killwords else cut.rsplit(" ", 1)[0]) + end

    def tojson(self, value: object, indent: int | None = None) -> str:
        text = to_json(value, indent and min(indent, 8))
        self.spend(len(text))
        return text
