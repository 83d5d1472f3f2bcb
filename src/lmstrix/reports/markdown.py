"""An answer's Markdown on a terminal, block by block as it comes: a block is shown once it is whole.

Rendering all of it again at every token would flicker and cost seconds of processor time; a block at a time scrolls
like plain text. A block ends at a blank line after which a line begins at the left edge, outside a code fence, so that
lists stay whole. Links are shown with their address, which the model wrote and a terminal would otherwise hide.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from lmstrix.reports.table import harmless

if TYPE_CHECKING:
    from lmstrix.reports.console import Console

_FENCE = re.compile(r"\s*(`{3,}|~{3,})")


class MarkdownText:
    """Takes pieces of Markdown, and prints each block when it is whole."""

    def __init__(self, console: Console) -> None:
        from rich.console import Console as RichConsole

        self._console = RichConsole(file=sys.stdout, no_color=not console.color, highlight=False)
        self._waiting = ""

    def write(self, text: str) -> None:
        """More of the answer."""
        self._waiting += text
        whole, self._waiting = split_at_last_block(self._waiting)
        self._print(whole)

    def end(self) -> None:
        """Print what is left: nothing more comes."""
        rest, self._waiting = self._waiting, ""
        self._print(rest)

    def _print(self, text: str) -> None:
        if text.strip():
            from rich.markdown import Markdown

            self._console.print(Markdown(harmless(text), hyperlinks=False))
            self._console.print()
            self._console.file.flush()


def split_at_last_block(text: str) -> tuple[str, str]:
    """The blocks of a text that are surely whole, and the rest. The last line may still grow, so it ends none."""
    fence, blank, place, end = "", False, 0, 0
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        found = _FENCE.match(line)
        if not fence and blank and line.strip() and not line.startswith((" ", "\t")) and not _is_item(line):
            end = place
        if found is not None and (not fence or found[1].startswith(fence)):
            fence = "" if fence else found[1]
        blank = not line.strip()
        place += len(line)
    return text[:end], text[end:]


def _is_item(line: str) -> bool:
    return re.match(r"([-*+]|\d+[.)])\s", line) is not None
