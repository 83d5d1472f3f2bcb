"""Write src_docs/reference/commands.md from signatures and docstrings; `--check` says whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path

from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.help_text import command_help, overview
from lmstrix.cli.signatures import describe

PAGE = Path(__file__).parent.parent / "src_docs" / "reference" / "commands.md"


def page() -> str:
    """The whole page."""
    common = common_parameters()
    parts = [
        "# Commands\n\nWritten by `tools/write_command_docs.py`; do not edit.\n",
        _block(overview(COMMANDS, common)),
    ]
    for path, function in COMMANDS.items():
        parts.append(f"## lmstrix {' '.join(path)}\n\n{_block(command_help(describe(path, function), common))}")
    return "\n".join(parts)


def _block(text: str) -> str:
    return f"```text\n{text}```\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
