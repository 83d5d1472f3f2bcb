# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""The prompt of a command line: its words, the texts and files they name, and what comes through a pipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.options import VariableOptions
from lmstrix.cli.piped import read_pipe, read_stdin
from lmstrix.ground.errors import LMStrixError, UsageError

if TYPE_CHECKING:
    from lmstrix.cli.attachments import Attachments
    from lmstrix.service.prompting import PromptWords


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOptions:
    """Where a prompt comes from, and what goes with it.

    Args:
        text: Fills {{text}} of the prompt or prompt file, else follows the prompt after a blank line; alone, it is the
            prompt.
        text_file: The same, from a file, stdin (-) or a web address.
        template: Use a stored prompt: a .toml file in lmstrix/prompts of the home, FILE:NAME, or NAME; with
            --file-prompt the prompt NAME of that file. PROMPT is then its {{text}}.
        context_file: A text that goes before the prompt: a file, - for stdin or a web address (may be repeated).
        stdin: Read stdin as the text, or with no prompt as the prompt; a pipe or a file there is read anyway
            (--no-stdin leaves it alone).
        editor: Write the prompt in the editor that VISUAL or EDITOR names, which opens with PROMPT, or with the prompt
            of a file or template, filled.
    """

    text: str | None = None
    text_file: str | None = None
    template: str | None = None
    context_file: list[str] | None = None
    stdin: bool | None = None
    editor: bool = False


def prompt_words(
    cli: CommandLine,
    prompt: str | None,
    file_prompt: str | None,
    fill: VariableOptions,
    texts: PromptOptions,
    attachments: Attachments,
) -> PromptWords:
    """What the words say of the prompt, with what comes through a pipe."""
    from lmstrix.service.prompting import PromptWords

    if texts.template is not None:
        return _template_words(cli, texts.template, prompt, file_prompt, fill, texts, attachments)

    # Before the pipe is waited for, so that a slip in the words is told at once.
    variables = fill.values()
    piped = read_stdin() if texts.stdin else None
    if texts.stdin is None and not attachments.took_stdin:
        piped = read_pipe(cli.console)
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
        fetched=attachments.texts,
        edit=_edited if texts.editor else None,
    )


def _edited(text: str) -> str:
    from lmstrix.reports.editor import edited

    written = edited(text)
    if not written.strip():
        raise LMStrixError("the prompt was left empty in the editor; nothing was sent")
    return written


def _template_words(
    cli: CommandLine,
    template: str,
    prompt: str | None,
    file_prompt: str | None,
    fill: VariableOptions,
    texts: PromptOptions,
    attachments: Attachments,
) -> PromptWords:
    """A stored prompt, or one of a file, of which the word PROMPT is the text."""
    if prompt is not None and texts.text is not None:
        raise UsageError("with --template, PROMPT is the text; leave out --text or PROMPT")
    names: str | None = template
    if file_prompt is None:
        from lmstrix.service.templates import find_template

        found = find_template(cli.service, template)
        names, file_prompt = ",".join(found.names) or None, str(found.path)
    texts = replace(texts, template=None, text=texts.text if prompt is None else prompt)
    return prompt_words(cli, names, file_prompt, fill, texts, attachments)
