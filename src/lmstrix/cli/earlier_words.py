"""Words of the earlier LMStrix into ours, by the rows of its migration table; asked only where `parse` has refused.

So nothing that is understood today is ever changed: each option is first read as it is read now, and looked up in the
table only when that fails; what stands after -- is left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.cli.signatures import describe
from lmstrix.cli.words import looks_like_option, take_option
from lmstrix.earlier.migration import (
    BY_COUNT,
    LETTER_WITH_EQUALS,
    MODEL_ALONE,
    MODEL_BESIDE_FILE,
    NO_WITHOUT_DASH,
    ONE_DASH,
    ROWS,
    SWITCH_WITH_WORD,
)
from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lmstrix.cli.signatures import Commands, Parameter
    from lmstrix.earlier.migration import Migration


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """The words as they are said now, and one line that names what was changed."""

    words: list[str]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A row about an option, taken apart: `value` is None for a switch."""

    row: Migration
    name: str
    value: str | None
    new: tuple[str, ...]

    def fits(self, value: str | None) -> bool:
        """Whether it is about an option with this value."""
        if value is None or self.value is None:
            return value is None and self.value is None
        if not self.value[0].isupper():
            return self.value in (value.split(",") if len(self.new) == len((self.name, self.value)) else (value,))
        return self.value != "N" or value.isdecimal()

    def words(self, value: str | None) -> list[str]:
        """What is to stand in its place."""
        if value is not None and "," in value and self.value is not None and not self.value[0].isupper():
            option, now = self.new
            return [option, ",".join(now if part == self.value else part for part in value.split(","))]
        return [value if value is not None and word == self.value else word for word in self.new]


def rewritten(words: Sequence[str], commands: Commands, common: Sequence[Parameter]) -> Rewritten | None:
    """The words in today's form; None where no row of the table is about them.

    Raises UsageError, naming what to use instead, where a row says that there is no equivalent.
    """
    rest, before = list(words), list[str]()
    while rest and rest[0].startswith("-"):
        taken = _as_now(rest, common)
        if taken is None:
            rule, _, _ = _rule_for(rest, ())
            if rule is not None:
                _possible(rule.row)
            return None
        before, rest = [*before, *rest[:taken]], rest[taken:]
    used: list[Migration] = []
    rest = _command_as_now(rest, commands, used)
    path = max((path for path in commands if tuple(rest[: len(path)]) == path), key=len, default=None)
    if path is None:
        return None
    known = [*(p for p in describe(path, commands[path]).parameters if not p.variadic), *common]
    found = _options_as_now(rest[len(path) :], path, known, used)
    # Where an option is simply unknown, the words beside it may be its value: no telling which was the model.
    if path == ("infer",) and not found.unknown:
        found = _model_as_option(found, used)
    if not used:
        return None
    return Rewritten(words=[*before, *path, *found.options, *found.words, *found.after], note=_note(used))


def _command_as_now(words: list[str], commands: Commands, used: list[Migration]) -> list[str]:
    for row in (row for row in ROWS if row.kind == "command"):
        old = tuple(row.old.split())
        if tuple(words[: len(old)]) == old and old not in commands:
            used.append(_possible(row))
            return [*(row.new or "").split(), *words[len(old) :]]
    return words


class _Parts(NamedTuple):
    """Options with their values, words without, what stands from -- on, and whether an option is known to nobody."""

    options: list[str]
    words: list[str]
    after: list[str]
    unknown: bool = False


def _options_as_now(
    words: list[str], path: tuple[str, ...], known: Sequence[Parameter], used: list[Migration]
) -> _Parts:
    options: list[str] = []
    plain: list[str] = []
    unknown = False
    while words and words[0] != "--":
        words = _in_todays_form(words, known, used)
        if not looks_like_option(words[0]):
            # A bare - is an option too (stdin), but its place among the words does not matter.
            plain.append(words.pop(0))
            continue
        taken = _as_now(words, known)
        if taken is None:
            rule, value, taken = _rule_for(words, path)
            if rule is None:
                options.append(words.pop(0))
                unknown = True
                continue
            used.append(_possible(rule.row))
            options += rule.words(value)
        else:
            options += words[:taken]
        words = words[taken:]
    return _Parts(options, plain, words, unknown)


def _in_todays_form(words: list[str], known: Sequence[Parameter], used: list[Migration]) -> list[str]:
    """The option at the front as it is written today: Fire took more forms of each, and of none these."""
    word, *rest = words
    switches = {parameter.flag for parameter in known if parameter.switch}
    name = word.removeprefix("--").replace("_", "-") if word.startswith("--") else ""
    form, now = None, [word]
    if name in switches and rest and rest[0] in ("True", "False"):
        form, now, rest = SWITCH_WITH_WORD, [f"{word}={rest[0]}"], rest[1:]
    elif name.startswith("no") and name[2:] in switches:
        form, now = NO_WITHOUT_DASH, [f"--{name[:2]}-{name[2:]}"]
    elif re.match(r"-[A-Za-z]=", word) and _as_now([word[:2], word[3:]], known) == 2:
        form, now = LETTER_WITH_EQUALS, [word[:2], word[3:]]
    elif re.match(r"-[A-Za-z]{2}", word) and _as_now([f"-{word}", *rest], known) is not None:
        form, now = ONE_DASH, [f"-{word}"]
    if form is not None:
        used.append(form)
    return [*now, *rest]


def _as_now(words: Sequence[str], known: Sequence[Parameter]) -> int | None:
    """How many words the option at the front takes as it is read today; None where it is refused."""
    try:
        return len(words) - len(take_option(list(words), known, {}, where=""))
    except UsageError:
        return None


def _rule_for(words: Sequence[str], path: tuple[str, ...]) -> tuple[_Rule | None, str | None, int]:
    """The first rule for the option at the front, its value, and how many words it takes."""
    name, has_value, joined = words[0].partition("=")
    rules = [rule for rule in (*_rules(" ".join(path)), *_rules("")) if rule.name == name.replace("_", "-")]
    following = joined if has_value else words[1] if len(words) > 1 else None
    for rule in rules:
        if rule.value is None and (not has_value or joined.lower() == "true"):
            return rule, None, 1
        if following is not None and rule.value is not None and rule.fits(following):
            return rule, following, 1 if has_value else 2
    return None, None, 0


@cache
def _rules(command: str) -> tuple[_Rule, ...]:
    return tuple(_read(command))


def _read(command: str) -> Iterator[_Rule]:
    before = f"{command} " if command else ""
    for row in ROWS:
        if row.kind == "option" and row.old.startswith(f"{before}-"):
            name, _, value = row.old.removeprefix(before).partition(" ")
            new = (row.new or "").removeprefix(command).split()
            yield _Rule(row=row, name=name.replace("_", "-"), value=value or None, new=tuple(new))


def _model_as_option(found: _Parts, used: list[Migration]) -> _Parts:
    """`infer`: the second word was the model, the third the size of the answer, the fourth that of the context."""
    options, plain, after, _ = found
    has = {word.partition("=")[0] for word in options if word.startswith("-")}
    if has & {"-m", "--model", "--auto-model"} or len(after) > 1:
        return found
    words = [word for word in plain if word != "-"]
    stdin = [word for word in plain if word == "-"]
    beside = MODEL_ALONE if "--prompt" in has else MODEL_BESIDE_FILE if {"--file-prompt", "--template"} <= has else None
    if len(words) == 1 and beside is not None:
        used.append(beside)
        return _Parts([*options, "--model", words[0]], stdin, after)
    if len(words) not in BY_COUNT or not all(re.fullmatch(r"-1|\d+%?", word) for word in words[2:]):
        return found
    used.append(BY_COUNT[len(words)])
    prompt, model, *sizes = words
    limits = [["--max-tokens", "auto" if size == "-1" else size] for size in sizes[:1]]
    limits += [["--in-ctx", size] for size in sizes[1:]]
    return _Parts([*options, "--model", model, *(word for limit in limits for word in limit)], [prompt, *stdin], after)


def _possible(row: Migration) -> Migration:
    if row.new is None:
        raise UsageError(f"{row.old} is of the earlier LMStrix: {row.note}")
    return row


def _note(used: Sequence[Migration]) -> str:
    changes = []
    for row in dict.fromkeys(used):
        dropped = row.kind == "option" and len((row.new or "").split()) == len(row.old.partition(" -")[0].split())
        changes.append(f"{row.old} has no effect ({row.note})" if dropped else f"{row.old} is now {row.new}")
    return f"lmstrix: words of the earlier LMStrix: {'; '.join(changes)}"
