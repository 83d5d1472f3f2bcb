"""Write docs/lmstrix.1, the manual page, from signatures and docstrings; `--check` says whether it is current."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.command_groups import grouped
from lmstrix.cli.examples import EXAMPLES
from lmstrix.cli.help_text import SHORT_FLAGS
from lmstrix.cli.signatures import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.cli.signatures import Command, Parameter

PAGE = Path(__file__).parent.parent / "docs" / "lmstrix.1"
EXIT_CODES = {"0": "done", "1": "the work failed", "2": "wrong words", "3": "no server", "130": "interrupted"}
VARIABLES = {
    "LMSTRIX_HOME": "The folder of all that LMStrix keeps.",
    "LMSTRIX_SERVER": "What --server says: auto, lmstudio, embedded, or an address.",
    "LMSTRIX_API_TOKEN": "The token of the server.",
    "NO_COLOR": "No colours.",
}


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield '.\\" Written by tools/write_man_page.py; do not edit.'
    yield '.TH LMSTRIX 1 "" "LMStrix" "User Commands"'
    yield ".SH NAME"
    yield "lmstrix \\- find the real context limit of every local language model"
    yield ".SH SYNOPSIS"
    yield ".B lmstrix"
    yield ".I COMMAND"
    yield "[ARGUMENTS] [OPTIONS]"
    yield ".SH DESCRIPTION"
    yield "LMStrix finds the real context limit of every local model, remembers it, and uses it. It works with"
    yield "LM Studio, and with an engine of its own."
    for title, paths in grouped(COMMANDS):
        yield f".SH {_plain(title.upper())}"
        for path in paths:
            yield from _command(describe(path, COMMANDS[path]))
    yield ".SH OPTIONS OF EVERY COMMAND"
    for parameter in common_parameters():
        yield from _option(parameter)
    yield ".SH ENVIRONMENT"
    for name, text in VARIABLES.items():
        yield from (".TP", f".B {name}", _plain(text))
    yield ".SH EXIT STATUS"
    for code, text in EXIT_CODES.items():
        yield from (".TP", f".B {code}", text)


def _command(command: Command) -> Iterator[str]:
    words = [p.flag.upper() + ("…" if p.variadic else "") for p in command.parameters if p.positional]
    yield f".SS {_plain(' '.join(['lmstrix', command.name, *words]))}"
    yield _plain(command.summary)
    for paragraph in re.split(r"\n\s*\n", command.details):
        if paragraph:
            yield from (".PP", _plain(" ".join(paragraph.split())))
    for parameter in command.parameters:
        yield from _option(parameter)
    if examples := EXAMPLES.get(command.path):
        yield from (".PP", "Examples:", ".PP", ".nf", ".RS", *map(_plain, examples), ".RE", ".fi")


def _option(parameter: Parameter) -> Iterator[str]:
    short = next((f"-{letter}, " for letter, name in SHORT_FLAGS.items() if name == parameter.flag), "")
    shown = parameter.flag.upper() if parameter.positional else f"{short}--{parameter.flag}"
    value = "" if parameter.switch or parameter.positional else f" \\fI{_plain(parameter.kind.shown)}\\fR"
    yield from (".TP", f"\\fB{_plain(shown)}\\fR{value}", _plain(parameter.help))


def _plain(text: str) -> str:
    """A text as roff reads it: its own signs, and lines that begin like a request, are no commands."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    # By number, as groff and mandoc take a page for ASCII unless they are told.
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    # A long word of choices or conditions may end a line behind each of them; else a line could not be filled.
    text = re.sub(r"(?<=\w)([|,])(?=\w)", r"\1\\:", text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
