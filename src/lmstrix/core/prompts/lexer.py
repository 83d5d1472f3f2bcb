"""A prompt text cut into its tokens: placeholders, tags, expressions, comments, and what is none of them.

Prompts hold code, JSON and shell commands, so most braces in them mean nothing here: what is not clearly ours is a
literal. Possessive quantifiers (`*+`) never give back what they took, so long texts of unclosed braces cost no retries.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORD = r"\w+(?:-+\w+)*"
NAME = rf"[^\W\d]\w*(?:-+\w+)*(?:\.{_WORD})*"
"""A placeholder's name: as TOML keys joined with dots, dashes included, and no number first."""
STRING = r"""(?:"(?:\\.|[^"\\])*+"|'(?:\\.|[^'\\])*+')"""

_PLACEHOLDER = re.compile(rf"\{{\{{\s*+({NAME})\s*+\}}\}}")
_COMMENT = r"\{\#(?:(?!\{\#).)*?\#\}"
_OPERATOR = r"(?:[|(\[+~<>=/%*-]|!=|\b(?:if|is|in|and|or|not)\b)"
_EXPRESSION = rf"(?:not\s+{NAME}|{NAME}\s*+{_OPERATOR}|{STRING}\s*+{_OPERATOR}|[\[(][^{{}}]*[\])]\s*+{_OPERATOR})"
_BEGINS_EXPRESSION = re.compile(_EXPRESSION, re.DOTALL)
_NEEDS_LOGIC = re.compile(
    rf"""\{{%[-+]?[ \t]*+[A-Za-z](?:(?!\{{%|%\}}).)*+%\}}  # a tag
       | {_COMMENT}
       | \{{\{{\s*+(?:[#/^>!&@]|else\b)                    # Handlebars
       | \{{\{{[-+]\s*+{NAME}                              # whitespace control
       | \{{\{{\s*+{_EXPRESSION}
    """,
    re.VERBOSE | re.DOTALL,
)
_BEGINS_TAG = re.compile(r"[-+]?[ \t]*[A-Za-z]")
_TOKEN = re.compile(
    rf"""(?P<comment>{_COMMENT}|\{{\{{!--(?:(?!\{{\{{!--).)*?--\}}\}}|\{{\{{![^{{}}]*\}}\}})
       | (?P<raw>\{{%[-+]?\s*+raw\s*+[-+]?%\}}.*?\{{%[-+]?\s*+endraw\s*+[-+]?%\}})
       | \{{%(?P<tag>(?:[^"'%]++|%(?!\}})|{STRING})*+)%\}}
       | (?P<brace>\{{(?=\{{[{{%]))
       | \{{\{{(?P<expression>(?:[^"'{{}}]++|{STRING})*+)\}}\}}
       | (?P<opening>\{{\{{|\{{%|\{{\#)
    """,
    re.VERBOSE | re.DOTALL,
)


TokenKind = Literal["literal", "comment", "raw", "tag", "expression", "brace", "opening"]


class Token(NamedTuple):
    """A piece of a text. `inner` is what stands between the braces of a tag or an expression, and else the whole.

    A brace, or an opening (`{{`, `{%` or `{#`) that nothing closes, would confuse minijinja: it has to be printed.
    """

    kind: TokenKind
    whole: str
    inner: str


def needs_logic(text: str) -> bool:
    """Whether the text has a tag, a comment, an expression or a Handlebars spelling."""
    return _NEEDS_LOGIC.search(text) is not None


def begins_expression(bare: str) -> bool:
    """Whether what stands between two braces is computed, rather than a name or braces of something else."""
    return _BEGINS_EXPRESSION.match(bare) is not None


def split_placeholders(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The literals of a text without logic, and the names between them: one literal more than names."""
    pieces = _PLACEHOLDER.split(text)
    return tuple(pieces[::2]), tuple(pieces[1::2])


def tokens(text: str) -> Iterator[Token]:
    """The pieces of a text with logic, in order. Raises PromptError on a tag that is never closed."""
    position = 0
    for found in _TOKEN.finditer(text):
        if position < found.start():
            literal = text[position : found.start()]
            yield Token("literal", literal, literal)
        position = found.end()
        kind: TokenKind = found.lastgroup  # type: ignore[assignment]  # its groups have the names of the kinds
        # Tags that end were taken as such, so a word after an opening begins one that never does.
        if kind == "opening" and found[0] == "{%" and _BEGINS_TAG.match(text, position):
            raise PromptError(f"a tag is never closed: {text[found.start() : found.start() + 40]!r}… needs %}}")
        yield Token(kind, found[0], found[kind])
    if position < len(text):
        yield Token("literal", text[position:], text[position:])
