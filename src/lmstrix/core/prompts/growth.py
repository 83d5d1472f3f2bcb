"""How much a text with logic could build in memory, bounded before anything runs. Pure.

minijinja counts instructions, and one `{% set x = x ~ x %}` doubles a value for two of them. So every name that a tag
gives a value to has a bound: how often the largest given value, and how often all that the run prints or its filters
make, could be in it, and how many characters it could have beside. The tags are followed in their order, included texts
in their place; a loop's assignments do not outlive its round, so once is enough. What is in doubt counts as more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.prompts.limits import LIMITS
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lmstrix.core.prompts.checks import Code
    from lmstrix.core.prompts.text import LogicText

_FILTERS_THAT_MAKE = re.compile(r"\|\s*(?:replace|join|indent|truncate|tojson|string|map)\b")
_INTO_LISTS = re.compile(r"\|\s*(?:list|split|lines|items|dictsort|zip|groupby)\b")
_INTO_CODES = re.compile(r"\|\s*(?:urlencode|escape|e)\b")
_RANGE = re.compile(r"\brange\s*\(")
_ONLY_A_RANGE = re.compile(r"\s*range\s*\([^()]*\)\s*")
_SOURCES = {"for", "include", "extends", "block"}


class Bound(NamedTuple):
    """The most characters a value may have: `given` times the largest given value, `made` times what is printed or made
    by filters, and `written` beside.
    """

    given: int = 0
    made: int = 0
    written: int = 0

    def __add__(self, other: Bound) -> Bound:  # type: ignore[override]  # sizes add up; tuples are never joined here
        return Bound(self.given + other.given, self.made + other.made, self.written + other.written)

    def times(self, factor: int) -> Bound:
        """The bound of so many of these."""
        return Bound(*(min(size * factor, _BEYOND) for size in self))

    def or_more(self, other: Bound) -> Bound:
        """What holds for either value."""
        return Bound(*map(max, self, other))


_BEYOND = 2**64  # more than any limit, so that the numbers themselves stay small
_GIVEN = Bound(given=1)
_CAPTURED = Bound(made=2)  # what a block prints, and what its filters make


def bound_of(text: LogicText, parts: Mapping[str, LogicText], needs: Iterable[str]) -> Bound:
    """The bound of the largest value that a text and the parts it includes could build. Raises PromptError.

    `needs` are the names it is given from outside, and may give another value later.
    """
    return _Walk(parts, {name.partition(".")[0] for name in needs}).over(text)


class _Walk:
    def __init__(self, parts: Mapping[str, LogicText], given: set[str]) -> None:
        self.parts = parts
        self.names = dict.fromkeys(given, _GIVEN)
        self.lists = given
        self.largest = Bound()
        self.steps = 0
        self.carrying = {"": False}

    def over(self, text: LogicText) -> Bound:
        self.tags(text)
        # Last, when every name is as large as it gets: a part may be printed anywhere.
        for each in (text, *self.parts.values()):
            for code in each.codes:
                if not code.word:
                    self.largest = self.largest.or_more(self.size(code))
        return self.largest

    def tags(self, text: LogicText) -> None:
        codes = iter(text.codes)
        for code in codes:
            self.tag(code, codes, text)

    def tag(self, code: Code, codes: Iterator[Code], text: LogicText) -> None:
        self.steps += 1
        if self.steps > LIMITS.tags:
            raise PromptError(f"it runs more than {LIMITS.tags:,} tags: include fewer parts that set values")
        if self.carries(code.included):
            self.tags(self.parts[code.included])
        elif code.is_block:
            self.assign(code, self.captured(codes, text))
        elif code.carries:
            self.assign(code, self.size(code))

    def carries(self, name: str) -> bool:
        """Whether this part, or one that it includes, gives a name a value. Others need not be looked at each time."""
        if name not in self.carrying:
            codes = self.parts[name].codes if name in self.parts else ()
            self.carrying[name] = any(code.carries or self.carries(code.included) for code in codes)
        return self.carrying[name]

    def assign(self, code: Code, size: Bound) -> None:
        self.largest = self.largest.or_more(size)
        for name in code.assigned:
            self.names[name] = self.names.get(name, Bound()).or_more(size)
            if not (code.is_block or (code.word == "set" and code.makes_text)):
                self.lists.add(name)

    def captured(self, codes: Iterator[Code], text: LogicText) -> Bound:
        """The bound of what stands between a set tag and its end."""
        size, repeats = Bound(written=len(text.source)), False
        for code in codes:
            if code.word == "endset":
                break
            self.tag(code, codes, text)
            repeats = repeats or code.word in _SOURCES
            size += self.size(code)
        return _CAPTURED + Bound(written=len(text.source)) if repeats else size

    def size(self, code: Code) -> Bound:
        """The bound of what a tag or an expression makes."""
        if code.word == "for" and _ONLY_A_RANGE.fullmatch(code.made):
            return Bound(written=24)
        size = Bound(written=len(code.written) + LIMITS.range_characters * len(_RANGE.findall(code.made)))
        for name in code.operands:
            root = name.partition(".")[0]
            # `~` prints what is no text yet, with every quote doubled.
            is_text = root in self.names and root not in self.lists
            size += self.known(root).times(1 if is_text or "~" not in code.made else 2)
        if _FILTERS_THAT_MAKE.search(code.made):
            size += Bound(made=1)
        # A list takes 24 bytes for each entry, however short; codes take up to six characters for one.
        factor = 16 if _INTO_LISTS.search(code.made) else 6 if _INTO_CODES.search(code.made) else 1
        return size.times(factor * code.nesting)

    def known(self, name: str) -> Bound:
        if name == "super":
            return _CAPTURED
        if name == "loop":  # it knows the items before and after
            return max(self.names.values(), default=_GIVEN).or_more(_GIVEN)
        return self.names.get(name, _GIVEN)
