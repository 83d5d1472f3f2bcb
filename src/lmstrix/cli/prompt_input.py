# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""The prompt of a command line: its words, the texts and files they name, and what comes through a pipe."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.options import VariableOptions
from lmstrix.ground.errors import UsageError
from lmstrix.ground.text import decoded

if TYPE_CHECKING:
    from lmstrix.reports.console import Console
    from lmstrix.service.prompting import PromptWords

_PATIENCE_S = 2.0
"""How long a pipe may be silent before the user is told what is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOptions:
    """Where a prompt comes from, and what goes with it.

    Args:
        text: Fills {{text}} of the prompt or prompt file, else follows the prompt after a blank line; alone, it is the
            prompt.
        text_file: The same, read from a file.
        template: Use a stored prompt: a .toml file in lmstrix/prompts of the home, FILE:NAME, or NAME. PROMPT is then
            its {{text}}.
        context_file: A text file that goes before the prompt (may be repeated).
        stdin: Read stdin as the text, or with no prompt as the prompt; a pipe or a file there is read anyway
            (--no-stdin leaves it alone).
    """

    text: str | None = None
    text_file: str | None = None
    template: str | None = None
    context_file: list[str] | None = None
    stdin: bool | None = None


def prompt_words(
    cli: CommandLine, prompt: str | None, file_prompt: str | None, fill: VariableOptions, texts: PromptOptions
) -> PromptWords:
    """What the words say of the prompt, with what comes through a pipe."""
    from lmstrix.service.prompting import PromptWords

    if texts.template is not None:
        return _template_words(cli, texts.template, prompt, file_prompt, fill, texts)

    # Before the pipe is waited for, so that a slip in the words is told at once.
    variables = fill.values()
    piped = read_stdin() if texts.stdin else None
    if texts.stdin is None:
        piped = _read_pipe(cli.console)
    elif texts.stdin and prompt is not None and not piped:
        raise UsageError("stdin is empty: nothing came through the pipe that was asked for")
    return PromptWords(
        prompt=prompt,
        file=file_prompt,
        variables=variables,
        text=texts.text,
        text_file=texts.text_file,
        piped=piped,
        context_files=tuple(texts.context_file or ()),
    )


def _template_words(
    cli: CommandLine,
    template: str,
    prompt: str | None,
    file_prompt: str | None,
    fill: VariableOptions,
    texts: PromptOptions,
) -> PromptWords:
    """A stored prompt, of which the word PROMPT is the text."""
    from lmstrix.service.templates import find_template

    if file_prompt is not None:
        raise UsageError("give --template or --file-prompt, not both")
    if prompt is not None and texts.text is not None:
        raise UsageError("with --template, PROMPT is the text; leave out --text or PROMPT")
    found = find_template(cli.service, template)
    names = ",".join(found.names) or None
    texts = replace(texts, template=None, text=texts.text if prompt is None else prompt)
    return prompt_words(cli, names, str(found.path), fill, texts)


def read_stdin() -> str:
    """All of stdin. Raises UsageError when it is no text, or too long for one."""
    from lmstrix.ground.units import format_bytes
    from lmstrix.loaders.contexts import MAX_TEXT_BYTES

    if sys.stdin is None:
        raise UsageError("stdin is closed; give the text as a word or with --text-file")
    # Bytes first: Python would decode by the locale, and a prompt must not change with it.
    data = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise UsageError(f"stdin is longer than {format_bytes(MAX_TEXT_BYTES)}; give a shorter text")
    try:
        return decoded(data)
    except UnicodeDecodeError as exc:
        raise UsageError(f"stdin is not valid {exc.encoding.upper()} (byte {exc.start}); convert it first") from exc


def _read_pipe(console: Console) -> str | None:
    """What was piped in or redirected from a file, without being asked for; None where that is nothing."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    with contextlib.suppress(OSError):  # a stream that is not the system's has no number, and need not be waited for
        descriptor = sys.stdin.fileno()
        mode = os.fstat(descriptor).st_mode
        # A device has no end, or nothing: /dev/null is what services and schedulers give.
        if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
            return None
        if not _is_ready(descriptor):
            console.note("waiting for the text on stdin to end (--no-stdin leaves it alone)")
    found = read_stdin()
    return found if found.strip() else None


def _is_ready(descriptor: int) -> bool:
    if os.name == "nt":
        return True  # Windows cannot ask a pipe
    import select

    return bool(select.select([descriptor], [], [], _PATIENCE_S)[0])
