"""One prompt text, understood: which placeholders it has, and whether it needs logic.

A text without logic is cut once at its `{{name}}` placeholders; filling it is one join, so values are never looked at
again and every other brace stays as written. A text with tags, filters or Handlebars spellings is checked and rewritten
into the template language of minijinja, which `logic` runs. Both follow the same rules; what is meant as a
placeholder but is none is refused with the right spelling instead of reaching a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lmstrix.core.prompts.checks import (
    Code,
    check_literals,
    checked_expression,
    checked_tag,
    included_name,
    refuse_almost_a_name,
)
from lmstrix.core.prompts.handlebars import Handlebars, Translation
from lmstrix.core.prompts.lexer import NAME, begins_expression, needs_logic, split_placeholders, tokens

SPECIAL_VALUES = "lmstrix_values"
"""The table in which a rewritten text looks up names that minijinja cannot spell, such as `my-key`."""
_MINIJINJA_NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainText:
    """Text without logic: `literals` and `names` alternate, beginning and ending with a literal."""

    literals: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The distinct names, in order."""
        return tuple(dict.fromkeys(self.names))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicText:
    """Text with logic, rewritten for minijinja with its lines kept.

    `placeholders` are the names printed as they are; `special` those of them that minijinja cannot spell; `tested` what
    the text asks about before it prints; `includes` the parts it names. `codes` are its tags and expressions in their
    order; `loop_literal` and `largest_literal` are in characters.
    """

    source: str
    placeholders: tuple[str, ...]
    special: tuple[str, ...]
    tested: frozenset[str]
    includes: tuple[str, ...]
    codes: tuple[Code, ...]
    loop_literal: int
    largest_literal: int


def compile_text(text: str) -> PlainText | LogicText:
    """Understand one text. Raises PromptError on an invalid placeholder, tag or expression."""
    if needs_logic(text):
        return compile_part(text)
    literals, names = split_placeholders(text)
    check_literals(literals)
    return PlainText(literals=literals, names=names)


def compile_part(text: str) -> LogicText:
    """Understand one text as logic even if it has none, because the text that includes it has some."""
    return _Rewriter().rewrite(text)


class _Rewriter:
    """Reads one text from left to right and writes it for minijinja."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.placeholders: dict[str, None] = {}
        self.special: dict[str, None] = {}
        self.tested: set[str] = set()
        self.includes: dict[str, None] = {}
        self.handlebars = Handlebars()
        self.loop_depth = 0
        self.loop_literal = 0
        self.largest_literal = 0
        self.codes: list[Code] = []

    def rewrite(self, text: str) -> LogicText:
        for token in tokens(text):
            match token.kind:
                case "literal" | "raw":
                    self.literal(token.whole)
                case "expression":
                    self.expression(token.inner, token.whole)
                case "tag":
                    self.tag(token.inner)
                case "comment":
                    self.comment(token.whole)
                case "brace" | "opening":
                    self.pieces.append(f'{{{{ "{token.whole}" }}}}')
        self.handlebars.refuse_open_block()
        return LogicText(
            source="".join(self.pieces),
            placeholders=tuple(self.placeholders),
            special=tuple(self.special),
            tested=frozenset(self.tested),
            includes=tuple(self.includes),
            codes=tuple(self.codes),
            loop_literal=self.loop_literal,
            largest_literal=self.largest_literal,
        )

    def literal(self, text: str) -> None:
        self.pieces.append(text)
        self.largest_literal = max(self.largest_literal, len(text))
        # Apart: fuel bounds how often a loop runs, so this is what each round may print.
        if self.loop_depth:
            self.loop_literal = max(self.loop_literal, len(text))

    def comment(self, written: str) -> None:
        # A Handlebars comment keeps its line ends, so that minijinja's messages name the file's own lines.
        lines = "\n" * written.count("\n")
        self.pieces.append(written if written.startswith("{#") else f"{{#{lines}#}}")

    def tag(self, inner: str) -> None:
        code = checked_tag(inner)
        self.codes.append(code)
        if code.word in {"include", "extends"}:
            self.includes[included_name(code)] = None
        elif code.word in {"if", "elif"}:
            self.tested.update(code.names)
        self.loop_depth += {"for": 1, "endfor": -1}.get(code.word, 0)
        self.pieces.append(f"{{%{inner}%}}")

    def expression(self, inner: str, whole: str) -> None:
        bare = inner.strip("-+ \t\r\n")
        if translation := self.handlebars.translate(" ".join(bare.split())):
            self.translated(translation)
        elif re.fullmatch(NAME, bare):
            self.placeholders[bare] = None
            self.codes.append(Code("", bare, bare))
            self.pieces.append(whole.replace(bare, self.spelled(bare)))
        elif begins_expression(bare):
            code = checked_expression(inner)
            self.codes.append(code)
            if code.asks:
                self.tested.update(code.names)
            self.pieces.append(whole)
        else:
            refuse_almost_a_name(inner)
            self.pieces.append('{{ "{{" }}' + whole[2:])

    def translated(self, translation: Translation) -> None:
        before, name, after, tested, include, loops = translation
        self.pieces.append(f"{before}{self.spelled(name) if name else ''}{after}")
        if tested:
            self.tested.add(name)
        if include:
            self.includes[include] = None
            self.codes.append(Code("include", '""', f'include "{include}"'))
        elif loops > 0:
            loop = f"{before.removeprefix('{% for ')}{name}"
            self.codes.append(Code("for", loop, loop))
        self.loop_depth += loops

    def spelled(self, name: str) -> str:
        """How minijinja is asked for this name."""
        if _MINIJINJA_NAME.fullmatch(name):
            return name
        self.special[name] = None
        return f'{SPECIAL_VALUES}["{name}"]'
