"""One prompt text, understood: which placeholders it has, and whether it needs logic.

A text without logic is cut once at its `{{name}}` placeholders; filling it is one join, so values are never looked at
again and every other brace stays as written. A text with tags, filters or Handlebars spellings is checked and rewritten
into the template language of minijinja (prompts_logic.py). Both follow the same rules; what is meant as a placeholder
but is none is refused with the right spelling instead of reaching a model.

minijinja counts instructions but not bytes, so what could multiply text unseen is bounded here, before anything runs:
macros, imports, recursion, calls and `*` are refused, and `growth` is how many times the largest value can be repeated
through assignments.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import NamedTuple

from lmstrix.ground.errors import PromptError

_WORD = r"\w+(?:-+\w+)*"
NAME = rf"[^\W\d]\w*(?:-+\w+)*(?:\.{_WORD})*"
_STRING = r"""(?:"(?:\\.|[^"\\])*+"|'(?:\\.|[^'\\])*+')"""

_PLACEHOLDER = re.compile(rf"\{{\{{\s*+({NAME})\s*+\}}\}}")
_COMMENT = r"\{\#(?:(?!\{\#).)*?\#\}"
_OPERATOR = r"(?:[|(\[+~<>=/%*-]|!=|\b(?:if|is|in|and|or|not)\b)"
_EXPRESSION = rf"(?:not\s+{NAME}|{NAME}\s*+{_OPERATOR}|{_STRING}\s*+{_OPERATOR}|[\[(][^{{}}]*[\])]\s*+{_OPERATOR})"
_NEEDS_LOGIC = re.compile(
    rf"""\{{%[-+]?[ \t]*+[A-Za-z](?:(?!\{{%|%\}}).)*+%\}}  # a tag
       | {_COMMENT}
       | \{{\{{\s*+(?:[#/^>!&@]|else\b)                    # Handlebars
       | \{{\{{[-+]\s*+{NAME}                              # whitespace control
       | \{{\{{\s*+{_EXPRESSION}
    """,
    re.VERBOSE | re.DOTALL,
)
_TOKEN = re.compile(
    rf"""(?P<comment>{_COMMENT}|\{{\{{!--(?:(?!\{{\{{!--).)*?--\}}\}}|\{{\{{![^{{}}]*\}}\}})
       | (?P<raw>\{{%[-+]?\s*+raw\s*+[-+]?%\}}.*?\{{%[-+]?\s*+endraw\s*+[-+]?%\}})
       | \{{%(?P<tag>(?:[^"'%]++|%(?!\}})|{_STRING})*+)%\}}
       | (?P<loose>\{{(?=\{{[{{%]))
       | \{{\{{(?P<expression>(?:[^"'{{}}]++|{_STRING})*+)\}}\}}
       | (?P<open>\{{\{{|\{{%|\{{\#)
    """,
    re.VERBOSE | re.DOTALL,
)
_STRINGS = re.compile(_STRING, re.DOTALL)
_DOUBLE_BRACES = re.compile(r"\{\{([^{}]*)\}\}")
_ALMOST_A_NAME = re.compile(r"[^\W\d][\w\s.-]*")
_BEGINS_EXPRESSION = re.compile(_EXPRESSION, re.DOTALL)
_SIMPLE_PATH = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*", re.ASCII)
_IDENTIFIER = re.compile(r"(?<![\w.])[^\W\d]\w*(?:\.\w+)*")
_OPERAND = re.compile(r"(?<![\w.|])(?<!\|\s)[^\W\d]\w*(?:\.\w+)*(?!\s*=(?!=))")
_FOR_IN = re.compile(r"\bin\b")
_ASSIGNED = re.compile(r"([^\W\d]\w*)\s*=(?!=)")
_MAP_WITH_MORE = re.compile(r"\|\s*map\s*\((?!\s*(?:attribute\s*=\s*)?\"\"\s*\))")
_CALL = re.compile(r"([|.]?\s*)([^\W\d]\w*|[\])])\s*\(")
_INCLUDE = re.compile(rf"(include|extends)\s+({_STRING})", re.DOTALL)
_EACH = re.compile(rf"({NAME})(?:\s+as\s*\|\s*([A-Za-z_]\w*)\s*\|)?")

_TAGS = ["if", "elif", "else", "endif", "for", "endfor", "break", "continue", "set", "endset", "with", "endwith"]
_TAGS += ["filter", "endfilter", "include", "extends", "block", "endblock"]
_UNCLOSED_TAG = re.compile(rf"\{{%[-+]?[ \t]*+(?:{'|'.join(_TAGS)})\b.{{,30}}", re.DOTALL)
_CARRYING_TAGS = {"set", "with", "for"}
KEYWORDS = frozenset({"if", "elif", "else", "for", "in", "is", "not", "and", "or"})
KEYWORDS |= {"true", "false", "none", "True", "False", "None"}
_TESTS = {"defined", "undefined", "loop"}
_CALLABLE = {"range", "super", "dict"}
_METHODS = {name for name in dir(dict) if not name.startswith("_")}
_LOOP_NAMES = {"@index": "loop.index0", "@first": "loop.first", "@last": "loop.last"}
SPECIAL_VALUES = "lmstrix_values"


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

    `placeholders` are the names printed as they are; `special` those of them that are no minijinja names; `tested` what
    the text asks about before it prints; `includes` the parts it names. `growth` bounds how often a value may come to
    be repeated inside one expression; `loop_literal` and `largest_literal` are in characters.
    """

    source: str
    placeholders: tuple[str, ...]
    special: tuple[str, ...]
    tested: frozenset[str]
    includes: tuple[str, ...]
    growth: int
    loop_literal: int
    largest_literal: int


def compile_text(text: str, *, as_part: bool = False) -> PlainText | LogicText:
    """Understand one text. A part is always compiled as logic. Raises PromptError on what is no valid placeholder."""
    if as_part or _NEEDS_LOGIC.search(text):
        return _Rewriter().rewrite(text)
    pieces = _PLACEHOLDER.split(text)
    literals = tuple(pieces[::2])
    for literal in literals:
        if unclosed := _UNCLOSED_TAG.search(literal):
            raise PromptError(f"a tag is never closed: {unclosed[0]!r}… needs %}}")
        for match in _DOUBLE_BRACES.finditer(literal):
            _refuse_almost_a_name(match[1])
    return PlainText(literals=literals, names=tuple(pieces[1::2]))


def _refuse_almost_a_name(inner: str) -> None:
    words = inner.split()
    if _ALMOST_A_NAME.fullmatch(inner.strip()):
        inner = " ".join(words)
        hint = "names are written word or word.word"
        if len(words) > 1:
            hint = f"write {{{{{'_'.join(words)}}}}}, a filter as {{{{ {words[1]} | {words[0]} }}}}"
        raise PromptError(
            f"{{{{{inner}}}}} is no placeholder: {hint}; {{% raw %}}{{{{{inner}}}}}{{% endraw %}} sends it as it is"
        )


class _Code(NamedTuple):
    """A tag (its `word`) or an expression, `bare` with its strings emptied, so that words in them are no names."""

    word: str
    bare: str

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
    def growth(self) -> int:
        """How many times the largest value it mentions can be in what it makes.

        Every operand counts once. `~`, `+`, lists and tables count twice: they can hold a value twice, or print it with
        every quote and backslash doubled. Assignments in one `with` see one another, so they multiply.
        """
        made = _FOR_IN.split(self.bare, maxsplit=1)[-1] if self.word == "for" else self.bare
        operands = sum(1 for name in _OPERAND.findall(made) if name not in KEYWORDS)
        if not operands:
            return 1
        nesting = made.count("~") + made.count("+") + len(re.findall(r"(?<![\w\])])\s*[\[({]", made))
        steps = max(1, len(_ASSIGNED.findall(made))) if self.word == "with" else 1
        return int(operands**steps * 2**nesting)


class _Rewriter:
    """Reads one text from left to right and writes it for minijinja."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.placeholders: dict[str, None] = {}
        self.special: dict[str, None] = {}
        self.tested: set[str] = set()
        self.includes: dict[str, None] = {}
        self.open_blocks: list[str] = []
        self.loop_depth = 0
        self.loop_literal = 0
        self.largest_literal = 0
        self.carried_growth = 1
        self.local_growth = 1

    def rewrite(self, text: str) -> LogicText:
        position = 0
        for match in _TOKEN.finditer(text):
            self.literal(text[position : match.start()])
            self.token(match, text)
            position = match.end()
        self.literal(text[position:])
        if self.open_blocks:
            raise PromptError(f"{{{{#{self.open_blocks[-1]}}}}} is never closed: add {{{{/{self.open_blocks[-1]}}}}}")
        return LogicText(
            source="".join(self.pieces),
            placeholders=tuple(self.placeholders),
            special=tuple(self.special),
            tested=frozenset(self.tested),
            includes=tuple(self.includes),
            growth=self.carried_growth * self.local_growth,
            loop_literal=self.loop_literal,
            largest_literal=self.largest_literal,
        )

    def literal(self, text: str) -> None:
        self.pieces.append(text)
        self.largest_literal = max(self.largest_literal, len(text))
        if self.loop_depth:
            self.loop_literal = max(self.loop_literal, len(text))

    def token(self, match: re.Match[str], text: str) -> None:
        kind = match.lastgroup
        if kind == "comment":
            lines = "\n" * match[0].count("\n")
            self.pieces.append(match[0] if match[0].startswith("{#") else f"{{#{lines}#}}")
        elif kind == "raw":
            self.literal(match[0])
        elif kind == "tag":
            self.tag(match["tag"])
        elif kind == "expression":
            self.expression(match["expression"], match[0])
        elif match[0] == "{%" and re.match(r"[-+]?[ \t]*[A-Za-z]", text[match.end() : match.end() + 80]):
            raise PromptError(f"a tag is never closed: {text[match.start() : match.start() + 40]!r}… needs %}}")
        else:
            self.pieces.append(f'{{{{ "{match[0]}" }}}}')

    def tag(self, inner: str) -> None:
        stripped = _STRINGS.sub('""', inner.strip("+-")).strip()
        word = re.split(r"\W", stripped, maxsplit=1)[0]
        if word not in _TAGS:
            close = difflib.get_close_matches(word, _TAGS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_TAGS)}"
            raise PromptError(f"{{% {word} %}} is no tag of prompts: {hint}")
        code = _Code(word, stripped.removeprefix(word))
        self.check(code, inner)
        if word in {"include", "extends"}:
            match = _INCLUDE.fullmatch(inner.strip("+- \t\r\n"))
            if not match:
                raise PromptError(f'{{% {inner.strip()} %}}: write {{% {word} "name" %}} with the name in quotes')
            self.includes[match[2][1:-1]] = None
        elif word in {"if", "elif"}:
            self.tested.update(code.names)
        self.loop_depth += {"for": 1, "endfor": -1}.get(word, 0)
        self.pieces.append(f"{{%{inner}%}}")

    def expression(self, inner: str, whole: str) -> None:
        bare = inner.strip("-+ \t\r\n")
        if self.handlebars(" ".join(bare.split())):
            return
        if re.fullmatch(NAME, bare):
            self.pieces.append(whole.replace(bare, self.value(bare)))
        elif not _BEGINS_EXPRESSION.match(bare):
            _refuse_almost_a_name(inner)
            self.pieces.append('{{ "{{" }}' + whole[2:])
        else:
            code = _Code("", _STRINGS.sub('""', inner))
            self.check(code, inner)
            if re.search(r"\|\s*(?:default|d)\b|\bis\b|\bif\b|\bor\b", code.bare):
                self.tested.update(code.names)
            self.pieces.append(whole)

    def value(self, name: str) -> str:
        """How minijinja is asked for this placeholder."""
        self.placeholders[name] = None
        if _SIMPLE_PATH.fullmatch(name):
            return name
        self.special[name] = None
        return f'{SPECIAL_VALUES}["{name}"]'

    def check(self, code: _Code, written: str) -> None:
        """Refuse what could multiply text, recurse or reach into objects; count what remains."""
        bare = f"|{code.bare}" if code.word == "filter" else code.bare
        if "*" in bare:
            raise PromptError(f"{written.strip()!r}: prompts do not multiply; give the product as a variable")
        if re.search(r"\brecursive\b|\bself\b", bare):
            raise PromptError(f"{written.strip()!r}: recursive loops and self are not offered in prompts")
        if reserved := code.bound & KEYWORDS:
            raise PromptError(f"{written.strip()!r}: {min(reserved)!r} is a word of the language; choose another name")
        if _MAP_WITH_MORE.search(bare):
            raise PromptError(f'{written.strip()!r}: write map("filter") or map(attribute="key"); more is not offered')
        for prefix, name in _CALL.findall(bare):
            allowed = prefix.strip() == "|" or (not prefix.strip() and name in _CALLABLE | KEYWORDS)
            if not allowed and not re.search(rf"\bis\s+(?:not\s+)?{re.escape(name)}\s*\(", bare):
                raise PromptError(
                    f"{written.strip()!r}: {name}(…) cannot be called; use a filter: {{{{ value | filter }}}}"
                )
        for name in re.findall(r"\.\s*([^\W\d]\w*)", bare):
            if name in _METHODS and not bare.strip().startswith("loop."):
                raise PromptError(
                    f'{written.strip()!r}: write value["{name}"] for a key, or value | {name} for a filter'
                )
        if code.word in _CARRYING_TAGS:
            self.carried_growth *= code.growth
        else:
            self.local_growth = max(self.local_growth, code.growth)

    def handlebars(self, bare: str) -> bool:
        """Translate a Handlebars spelling, or refuse it with ours; False when it is none."""
        if bare in _LOOP_NAMES and "each" in self.open_blocks:
            self.pieces.append(f"{{{{ {_LOOP_NAMES[bare]} }}}}")
        elif bare.startswith(">"):
            self.partial(bare[1:].strip())
        elif bare.startswith("#"):
            self.open_block(bare[1:].strip())
        elif bare.startswith("/"):
            self.close_block(bare[1:].strip())
        elif bare.split(None, 1)[:1] == ["else"]:
            self.otherwise(bare[4:].strip())
        elif bare[:1] in {"^", "&", "@"} or bare.startswith("../"):
            raise PromptError(f"{{{{{bare}}}}} is not offered: write {_OURS.get(bare[:1], '{{ name }}')}")
        else:
            return False
        return True

    def partial(self, name: str) -> None:
        if not re.fullmatch(r"[\w./-]+", name):
            raise PromptError(f'{{{{> {name}}}}} is not offered: write {{% include "name" %}}')
        self.includes[name] = None
        self.pieces.append(f'{{% include "{name}" %}}')

    def open_block(self, written: str) -> None:
        kind, _, subject = written.partition(" ")
        subject = subject.strip()
        each = _EACH.fullmatch(subject)
        if kind not in {"if", "unless", "each"} or not each or (kind != "each" and each[2]):
            raise PromptError(f"{{{{#{written}}}}} is not offered: write {_OURS.get(kind, _OURS['block'])}")
        self.open_blocks.append(kind)
        if kind == "each":
            self.loop_depth += 1
            self.pieces.append(f"{{% for {each[2] or 'this'} in {self.condition(each[1])} %}}")
        else:
            self.tested.add(subject)
            self.pieces.append(f"{{% if {'not ' * (kind == 'unless')}{self.condition(subject)} %}}")

    def condition(self, name: str) -> str:
        """A name in a condition: asked about, not printed."""
        if _SIMPLE_PATH.fullmatch(name):
            return name
        self.special[name] = None
        return f'{SPECIAL_VALUES}["{name}"]'

    def close_block(self, kind: str) -> None:
        if not self.open_blocks or self.open_blocks[-1] != kind:
            raise PromptError(f"{{{{/{kind}}}}} closes nothing: it needs {{{{#{kind} name}}}} before it")
        self.open_blocks.pop()
        self.loop_depth -= kind == "each"
        self.pieces.append("{% endfor %}" if kind == "each" else "{% endif %}")

    def otherwise(self, condition: str) -> None:
        if not self.open_blocks:
            raise PromptError("{{else}} stands outside {{#if}}: write {% if name %}…{% else %}…{% endif %}")
        if not condition:
            self.pieces.append("{% else %}")
            return
        match = re.fullmatch(rf"if\s+({NAME})", condition)
        if not match or self.open_blocks[-1] != "if":
            raise PromptError(f"{{{{else {condition}}}}} is not offered: write {{% elif a == b %}}")
        self.tested.add(match[1])
        self.pieces.append(f"{{% elif {self.condition(match[1])} %}}")


_OURS = {
    "if": "{% if a == b %}…{% endif %}",
    "unless": "{% if not (a == b) %}…{% endif %}",
    "each": "{% for item in items %}{{ item }}{% endfor %}",
    "with": "{{ table.key }}, naming the table each time",
    "block": "{% if name %}…{% endif %} or {% for item in items %}…{% endfor %}",
    "^": "{% if not name %}…{% endif %}",
    "&": "{{ name }}; nothing is escaped",
    "@": "{{ loop.index }} inside {% for %}",
}
