"""Handlebars spellings in minijinja's words: `{{#if}}`, `{{#unless}}`, `{{#each}}`, `{{else}}`, `{{> part}}`, `@index`.

What Handlebars can do beyond that is refused with our own spelling, because a template that half works is worse.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from lmstrix.core.prompts.lexer import NAME
from lmstrix.ground.errors import PromptError

_EACH = re.compile(rf"({NAME})(?:\s+as\s*\|\s*([A-Za-z_]\w*)\s*\|)?")
_LOOP_NAMES = {"@index": "loop.index0", "@first": "loop.first", "@last": "loop.last"}
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


class Translation(NamedTuple):
    """minijinja's words for one spelling: `before`, the `name` it asks about, `after`.

    With `tested` the name may be absent; `include` names a part; `loops` is 1 where a loop begins and -1 where it ends.
    """

    before: str
    name: str = ""
    after: str = ""
    tested: bool = False
    include: str = ""
    loops: int = 0


class Handlebars:
    """The Handlebars spellings of one text, from left to right; it knows the blocks that are open."""

    def __init__(self) -> None:
        self._open_blocks: list[str] = []

    def translate(self, spelling: str) -> Translation | None:
        """What `{{spelling}}` says, or None when it is no Handlebars. Raises PromptError with our spelling instead."""
        # Outside a loop @index is refused below, like every other name with an @.
        if spelling in _LOOP_NAMES and "each" in self._open_blocks:
            return Translation(f"{{{{ {_LOOP_NAMES[spelling]} }}}}")
        if spelling.startswith(">"):
            return _partial(spelling[1:].strip())
        if spelling.startswith("#"):
            return self._open(spelling[1:].strip())
        if spelling.startswith("/"):
            return self._close(spelling[1:].strip())
        if spelling.split(None, 1)[:1] == ["else"]:
            return self._else(spelling[4:].strip())
        if spelling[:1] in {"^", "&", "@"} or spelling.startswith("../"):
            raise PromptError(f"{{{{{spelling}}}}} is not offered: write {_OURS.get(spelling[:1], '{{ name }}')}")
        return None

    def refuse_open_block(self) -> None:
        """Raise PromptError when the text ends inside a block."""
        if self._open_blocks:
            kind = self._open_blocks[-1]
            raise PromptError(f"{{{{#{kind}}}}} is never closed: add {{{{/{kind}}}}}")

    def _open(self, written: str) -> Translation:
        kind, _, subject = written.partition(" ")
        each = _EACH.fullmatch(subject.strip())
        if kind not in {"if", "unless", "each"} or not each or (kind != "each" and each[2]):
            raise PromptError(f"{{{{#{written}}}}} is not offered: write {_OURS.get(kind, _OURS['block'])}")
        self._open_blocks.append(kind)
        if kind == "each":
            return Translation(f"{{% for {each[2] or 'this'} in ", each[1], " %}", loops=1)
        return Translation("{% if not " if kind == "unless" else "{% if ", each[1], " %}", tested=True)

    def _close(self, kind: str) -> Translation:
        if not self._open_blocks or self._open_blocks[-1] != kind:
            raise PromptError(f"{{{{/{kind}}}}} closes nothing: it needs {{{{#{kind} name}}}} before it")
        self._open_blocks.pop()
        return Translation("{% endfor %}", loops=-1) if kind == "each" else Translation("{% endif %}")

    def _else(self, condition: str) -> Translation:
        if not self._open_blocks:
            raise PromptError("{{else}} stands outside {{#if}}: write {% if name %}…{% else %}…{% endif %}")
        if not condition:
            return Translation("{% else %}")
        match = re.fullmatch(rf"if\s+({NAME})", condition)
        if not match or self._open_blocks[-1] != "if":
            raise PromptError(f"{{{{else {condition}}}}} is not offered: write {{% elif a == b %}}")
        return Translation("{% elif ", match[1], " %}", tested=True)


def _partial(name: str) -> Translation:
    if not re.fullmatch(r"[\w./-]+", name):
        raise PromptError(f'{{{{> {name}}}}} is not offered: write {{% include "name" %}}')
    return Translation(f'{{% include "{name}" %}}', include=name)
