"""The code blocks of an answer: what stands between fences, as CommonMark has them. Pure.

A fence is three or more backticks or tildes at the beginning of a line; the block ends at a fence of the same kind that
is at least as long, or, as in an answer cut short, with the text. How far the opening fence is indented is taken off
the lines of the block: models put code into lists. Other indentation, and every other byte, stays.
"""

from __future__ import annotations

import re

_OPENING = re.compile(r"( *)(`{3,}(?=[^`]*$)|~{3,})")


def code_blocks(text: str) -> list[str]:
    """The contents of all fenced blocks, in order, each line ended."""
    blocks: list[str] = []
    lines: list[str] = []
    indent, fence = 0, ""
    # By line feeds alone: code may hold characters at which splitlines() would break its lines.
    for line in text.split("\n"):
        if not fence:
            opening = _OPENING.match(line.rstrip("\r"))
            if opening is not None:
                indent, fence, lines = len(opening[1]), opening[2], []
        elif _closes(line, fence):
            blocks.append(_joined(lines))
            fence = ""
        else:
            lines.append(line[min(indent, len(line) - len(line.lstrip(" "))) :])
    if fence:
        blocks.append(_joined(lines[:-1] if lines and not lines[-1] else lines))
    return blocks


def _closes(line: str, fence: str) -> bool:
    word = line.strip()
    return len(word) >= len(fence) and set(word) == {fence[0]}


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
