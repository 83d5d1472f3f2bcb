"""The texts of --help: an overview of all commands, and one page per command. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.cli.command_groups import grouped
from lmstrix.cli.examples import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmstrix.cli.signatures import Command, CommandFunction, Commands, Parameter

SHORT_FLAGS = {
    "m": "model",
    "s": "system-prompt",
    "c": "go-on",
    "f": "context-file",
    "t": "template",
    "e": "editor",
    "x": "extract",
    "R": "reasoning",
    "n": "no-log",
    "v": "verbose",
    "q": "quiet",
    "h": "help",
}
"""Options by the letter: by their flag, or by their parameter's name where another command has a flag of that name too.
Those about prompts mean what they mean to users of `llm`."""
HELP_WIDTH = 80
_MAX_LEFT_WIDTH = 24
_LEAST_TEXT_WIDTH = 20
_BEGINNING = "LMStrix finds the real context limit of every local model, remembers it, and uses it."
_ENDING = "lmstrix COMMAND --help tells more. Exit codes: 0 done, 1 failed, 2 usage, 3 no server, 130 interrupted."


def overview(commands: Commands, common: Sequence[Parameter], width: int = HELP_WIDTH) -> str:
    """The text of `lmstrix --help`."""
    left_width = max(len(" ".join(path)) for path in commands)
    groups = "\n\n".join(
        f"{title}:\n"
        + _columns([(" ".join(path), _summary(commands[path])) for path in paths], width, left_width=left_width)
        for title, paths in grouped(commands)
    )
    return (
        "\n".join(_wrapped(_BEGINNING, width)) + "\n\n"
        f"Usage: lmstrix COMMAND [ARGUMENTS] [OPTIONS]\n\n{groups}\n\n"
        f"Options of every command:\n{_columns(_option_rows(common), width)}\n\n"
        + "\n".join(_wrapped(_ENDING, width))
        + "\n"
    )


def group_overview(group: str, commands: Commands, width: int = HELP_WIDTH) -> str:
    """The text of `lmstrix engine`, which names a group of commands and is not a command itself."""
    rows = [(path[1], _summary(function)) for path, function in commands.items() if path[0] == group]
    return f"Usage: lmstrix {group} COMMAND\n\n{_columns(rows, width)}\n"


def command_help(command: Command, common: Sequence[Parameter], width: int = HELP_WIDTH) -> str:
    """The text of `lmstrix COMMAND --help`."""
    words = []
    for parameter in command.parameters:
        if parameter.positional:
            word = parameter.flag.upper() + ("…" if parameter.variadic else "")
            words.append(word if parameter.required else f"[{word}]")
    parts = [f"Usage: lmstrix {' '.join([command.name, *words])} [OPTIONS]", _prose(command.summary, width)]
    if command.details:
        parts.append(_prose(command.details, width))
    positional = [(p.flag.upper(), p.help) for p in command.parameters if p.positional]
    if positional:
        parts.append("Arguments:\n" + _columns(positional, width))
    options = _option_rows([p for p in command.parameters if not p.positional])
    if options:
        parts.append("Options:\n" + _columns(options, width))
    if examples := EXAMPLES.get(command.path):
        # Not wrapped: a line that is copied has to be whole.
        parts.append("Examples:\n" + "\n".join(f"  {example}" for example in examples))
    # By name only: their texts stand in the overview, and would make up half of every page.
    parts.append(_prose("Also: " + " ".join(f"--{p.flag}" for p in common), width))
    return "\n\n".join(parts) + "\n"


def _summary(function: CommandFunction) -> str:
    # The overview shows all commands and describes none: reading forty signatures would cost most of its budget.
    return (function.__doc__ or "").partition("\n")[0]


def _option_rows(parameters: Iterable[Parameter]) -> list[tuple[str, str]]:
    rows = []
    for parameter in parameters:
        # The short form goes by the name alone, so -m works in each command that has a --model.
        names = (parameter.flag, parameter.name.replace("_", "-"))
        short = next((f"-{letter}, " for letter, name in SHORT_FLAGS.items() if name in names), "")
        value = "" if parameter.switch else f" {parameter.kind.shown}"
        rows.append((f"{short}--{parameter.flag}{value}", parameter.help))
    return rows


def _columns(rows: Sequence[tuple[str, str]], width: int, left_width: int | None = None) -> str:
    """Two columns in `width`, the left one as wide as told; a left side that is too long has a line of its own."""
    left_width = min(_MAX_LEFT_WIDTH, left_width or max((len(left) for left, _ in rows), default=0))
    if width - left_width - 4 < _LEAST_TEXT_WIDTH:  # a narrow terminal: the text goes below what it is about
        left_width = 0
    indent = " " * (left_width + 4)
    lines = []
    for left, right in rows:
        first, *rest = _wrapped(right, width - len(indent)) or [""]
        lines += [f"  {left:<{left_width}}  {first}"] if len(left) <= left_width else [f"  {left}", indent + first]
        lines += [indent + line for line in rest]
    return "\n".join(line.rstrip() for line in lines)


def _prose(text: str, width: int) -> str:
    """Paragraphs in `width`. A line that is far from full ends where it ends: it is one of a list, or a command."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines, running = [], ""
        for line in paragraph.splitlines():
            running += f" {line}" if running else line
            if len(line) <= HELP_WIDTH:
                lines += [running] if len(running) <= width else _wrapped(running, width)
                running = ""
        paragraphs.append("\n".join([*lines, *_wrapped(running, width)]))
    return "\n\n".join(paragraphs)


def _wrapped(text: str, width: int) -> list[str]:
    # textwrap would do, and costs a millisecond of import at every start.
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
