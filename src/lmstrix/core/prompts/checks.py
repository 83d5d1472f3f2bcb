"""What prompts may not write, refused with the right spelling, and how much text the rest can make.

minijinja counts instructions but not bytes, so what could multiply text unseen is refused here, before anything runs:
macros, imports, recursion, calls and `*`. What assignments can repeat, `growth` bounds.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.prompts.lexer import STRING
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterable

TAGS = ["if", "elif", "else", "endif", "for", "endfor", "break", "continue", "set", "endset", "with", "endwith"]
TAGS += ["filter", "endfilter", "include", "extends", "block", "endblock"]
KEYWORDS = frozenset({"if", "elif", "else", "for", "in", "is", "not", "and", "or"})
KEYWORDS |= {"true", "false", "none", "True", "False", "None"}
_TESTS = {"defined", "undefined", "loop"}
_CALLABLE = {"range", "super", "dict"}

_STRINGS = re.compile(STRING, re.DOTALL)
_UNCLOSED_TAG = re.compile(rf"\{{%[-+]?[ \t]*+(?:{'|'.join(TAGS)})\b.{{,30}}", re.DOTALL)
_DOUBLE_BRACES = re.compile(r"\{\{([^{}]*)\}\}")
_ALMOST_A_NAME = re.compile(r"[^\W\d][\w\s.-]*")
_IDENTIFIER = re.compile(r"(?<![\w.])[^\W\d]\w*(?:\.\w+)*")
_OPERAND = re.compile(r"(?<![\w.|])(?<!\|\s)[^\W\d]\w*(?:\.\w+)*(?!\s*=(?!=))")
_FOR_IN = re.compile(r"\bin\b")
_ASSIGNED = re.compile(r"([^\W\d]\w*)\s*=(?!=)")
_MOST_DOUBLINGS = 64  # beyond every limit, and still a number that is quickly worked with
_SINGLE_EQUALS = re.compile(r"(?<![=!<>])=(?!=)")
_OPENED = re.compile(r"(?<![\w\])])\s*[\[({]")
_CHOICE = re.compile(r"\b(?:if|or|and)\b")
_MAP_WITH_MORE = re.compile(r"\|\s*map\s*\((?!\s*(?:attribute\s*=\s*)?\"\"\s*\))")
_CALL = re.compile(r"([|.]?\s*)([^\W\d]\w*|[\])])\s*\(")
_INCLUDE = re.compile(rf"(?:include|extends)\s+({STRING})", re.DOTALL)


class Code(NamedTuple):
    """What stands inside a tag (named by its `word`) or an expression.

    `bare` is `written` without its string contents, so that words in them are taken for no names.
    """

    word: str
    bare: str
    written: str

    @property
    def names(self) -> list[str]:
        """The names it mentions."""
        return [name for name in _IDENTIFIER.findall(self.bare) if name.partition(".")[0] not in KEYWORDS | _TESTS]

    @property
    def bound(self) -> set[str]:
        """The names a tag gives a value to."""
        if self.word == "for":
            return set(_IDENTIFIER.findall(_FOR_IN.split(self.bare, maxsplit=1)[0]))
        names = set(_ASSIGNED.findall(self.bare)) if self.word in {"set", "with"} else set()
        return names | ({self.bare.strip()} if self.word == "set" and "=" not in self.bare else set())

    @property
    def carries(self) -> bool:
        """Whether it is a tag that gives names a value, for later tags to build on."""
        return self.word in {"set", "with", "for"}

    @property
    def is_block(self) -> bool:
        """Whether it is a set tag whose value is what stands between it and its end."""
        return self.word == "set" and not _SINGLE_EQUALS.search(self.bare)

    @property
    def included(self) -> str:
        """The name of the part that it includes or extends, if it does."""
        return included_name(self) if self.word in {"include", "extends"} else ""

    @property
    def assigned(self) -> set[str]:
        """Every name that it may give a value to."""
        if self.word == "set":
            return set(_IDENTIFIER.findall(_SINGLE_EQUALS.split(self.bare, maxsplit=1)[0]))
        return self.bound if self.word == "for" else set(_IDENTIFIER.findall(self.bare))

    @property
    def made(self) -> str:
        """The part of it that makes a value."""
        if self.word == "for":
            return _FOR_IN.split(self.bare, maxsplit=1)[-1]
        return _SINGLE_EQUALS.split(self.bare, maxsplit=1)[-1] if self.word == "set" else self.bare

    @property
    def makes_text(self) -> bool:
        """Whether what it makes is surely a text, and no list."""
        return "~" in self.made and not _OPENED.search(self.made) and not _CHOICE.search(self.made)

    @property
    def operands(self) -> list[str]:
        """The names that what it makes may hold, each as often as it is written there."""
        return [name for name in _OPERAND.findall(self.made) if name not in KEYWORDS]

    @property
    def nesting(self) -> int:
        """How often what it makes may hold a character of an operand.

        A list or table prints its texts with every quote and backslash doubled, and may itself be a text in another.
        """
        doublings = len(_OPENED.findall(self.made))
        if self.word == "with":
            doublings += "~" in self.made
            # Its assignments see one another: each may hold all the names, as the one before it made them.
            others = len(_ASSIGNED.findall(self.bare)) - 1
            doublings += max(0, others) * (doublings + len(self.operands).bit_length())
        return int(2 ** min(doublings, _MOST_DOUBLINGS))

    @property
    def asks(self) -> bool:
        """Whether the expression asks about its names, so that they may be absent."""
        return re.search(r"\|\s*(?:default|d)\b|\bis\b|\bif\b|\bor\b", self.bare) is not None

    def refusal(self, reason: str) -> PromptError:
        """What to raise when it is not allowed."""
        return PromptError(f"{self.written.strip()!r}: {reason}")


def checked_expression(inner: str) -> Code:
    """The code of `{{ inner }}`. Raises PromptError on what prompts may not write."""
    return _checked(Code("", _STRINGS.sub('""', inner), inner))


def checked_tag(inner: str) -> Code:
    """The code of `{% inner %}`. Raises PromptError on a tag there is not, and on what prompts may not write."""
    stripped = _STRINGS.sub('""', inner.strip("+-")).strip()
    word = re.split(r"\W", stripped, maxsplit=1)[0]
    if word not in TAGS:
        close = difflib.get_close_matches(word, TAGS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(TAGS)}"
        raise PromptError(f"{{% {word} %}} is no tag of prompts: {hint}")
    return _checked(Code(word, stripped.removeprefix(word), inner))


def included_name(code: Code) -> str:
    """The name that an include or extends tag has in quotes."""
    match = _INCLUDE.fullmatch(code.written.strip("+- \t\r\n"))
    if not match:
        raise PromptError(f'{{% {code.written.strip()} %}}: write {{% {code.word} "name" %}} with the name in quotes')
    return match[1][1:-1]


def check_literals(literals: Iterable[str]) -> None:
    """Raise PromptError where a text without logic has what is meant as a tag or a placeholder, but is none."""
    for literal in literals:
        if unclosed := _UNCLOSED_TAG.search(literal):
            raise PromptError(f"a tag is never closed: {unclosed[0]!r}… needs %}}")
        for match in _DOUBLE_BRACES.finditer(literal):
            refuse_almost_a_name(match[1])


def refuse_almost_a_name(inner: str) -> None:
    """Raise PromptError when `{{inner}}` looks like a placeholder with a wrong name: sent on, it would go unnoticed."""
    if not _ALMOST_A_NAME.fullmatch(inner.strip()):
        return
    words = inner.split()
    inner = " ".join(words)
    hint = "names are written word or word.word"
    if len(words) > 1:
        hint = f"write {{{{{'_'.join(words)}}}}}, a filter as {{{{ {words[1]} | {words[0]} }}}}"
    raise PromptError(
        f"{{{{{inner}}}}} is no placeholder: {hint}; {{% raw %}}{{{{{inner}}}}}{{% endraw %}} sends it as it is"
    )


def _checked(code: Code) -> Code:
    """Refuse what could multiply text, recurse or reach into objects."""
    # `{% filter name %}` applies a filter without the bar that marks one elsewhere.
    bare = f"|{code.bare}" if code.word == "filter" else code.bare
    if "*" in bare:
        raise code.refusal("prompts do not multiply; give the product as a variable")
    if re.search(r"\brecursive\b|\bself\b", bare):
        raise code.refusal("recursive loops and self are not offered in prompts")
    if reserved := code.bound & KEYWORDS:
        raise code.refusal(f"{min(reserved)!r} is a word of the language; choose another name")
    # map with a filter's arguments would run that filter past the bounded ones of `logic`.
    if _MAP_WITH_MORE.search(bare):
        raise code.refusal('write map("filter") or map(attribute="key"); more is not offered')
    for prefix, name in _CALL.findall(bare):
        allowed = prefix.strip() == "|" or (not prefix.strip() and name in _CALLABLE | KEYWORDS)
        if not allowed and not re.search(rf"\bis\s+(?:not\s+)?{re.escape(name)}\s*\(", bare):
            raise code.refusal(f"{name}(…) cannot be called; use a filter: {{{{ value | filter }}}}")
    return code
