"""The pages of the user's site, cut into what can be run: commands, Python examples, the files they work with.

A block with a title is a file of that name. A comment `<!-- needs: … -->` on the line before a block says what it needs
that a test has not: such commands are only read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = re.compile(
    r'(?:<!-- needs: (?P<needs>[^\n]+) -->\n)?^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    title: str | None
    needs: str | None

    @property
    def commands(self) -> tuple[str, ...]:
        """The command lines of a console block."""
        if self.language != "console":
            return ()
        return tuple(line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ "))


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a Markdown file."""
    return [Block(**match.groupdict()) for match in _BLOCK.finditer(page.read_text(encoding="utf-8"))]
