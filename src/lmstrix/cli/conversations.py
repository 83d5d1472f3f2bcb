# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands about the conversations that infer and chat keep. They know LMStrix's own alone, never LM Studio's chats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lmstrix.cli.command_line import CommandLine
from lmstrix.ground.errors import UsageError
from lmstrix.ground.ranges import COUNT

if TYPE_CHECKING:
    from lmstrix.core.answers.conversations import Conversation


def list_(cli: CommandLine, /, *, last: Annotated[int | None, COUNT] = None) -> None:
    """List the conversations kept here, the one written last first.

    lmstrix chat --conversation NAME goes on with one. infer keeps its last exchange as the conversation infer.

    Args:
        last: Show only so many.
    """
    from lmstrix.reports.conversations import show_conversations

    show_conversations(cli.console, cli.service.list_conversations(last=last), searched=False)


def search(cli: CommandLine, /, *words: str) -> None:
    """List the conversations that hold all these words, in any script, in upper or lower case.

    Args:
        words: The words, or parts of them.
    """
    from lmstrix.reports.conversations import show_conversations

    wanted = " ".join(words)
    if not wanted.strip():
        raise UsageError("conversations search needs WORDS")
    show_conversations(cli.console, cli.service.list_conversations(search=wanted), searched=True)


def show(cli: CommandLine, /, name: str | None = None) -> None:
    """Show a conversation with all its turns.

    Args:
        name: Its name (default: the one written last).
    """
    from lmstrix.reports.conversations import show_conversation

    store = cli.service.conversations
    show_conversation(cli.console, store.latest() if name is None else store.load(name))


def export(cli: CommandLine, /, name: str, file: str) -> None:
    """Write a conversation to a file: as Markdown, plain text, or as it is kept.

    Args:
        name: Its name.
        file: The file; its ending says the form: .md, .txt or .json. One that is there is replaced.
    """
    from lmstrix.service.output_file import check_output, save_text

    target = Path(file).expanduser()
    store = cli.service.conversations
    conversation = store.load(name)
    check_output(target, "FILE")
    save_text(target, store.written(name) if target.suffix == ".json" else _text(conversation, target))
    if cli.console.json:
        cli.console.result("conversations", {"name": name, "file": str(target)})
    else:
        cli.console.note(f"written to {target}")


def delete(cli: CommandLine, /, name: str, *, yes: bool = False) -> None:
    """Delete a conversation; needs --yes.

    Args:
        name: Its name.
        yes: Do it without asking.
    """
    from lmstrix.service.attachments import delete_conversation

    if not yes:
        # Loaded first: a name that is wrong should not be met with a demand for --yes.
        kept = cli.service.conversations.load(name)
        raise UsageError(f"this deletes {name} with its {len(kept.messages)} turns; add --yes to do it")
    delete_conversation(cli.service, name)
    if cli.console.json:
        cli.console.result("conversations", {"deleted": [name]})
    else:
        cli.console.note(f"deleted {name}")


def _text(conversation: Conversation, target: Path) -> str:
    from lmstrix.reports.conversations import as_markdown, as_text

    forms = {".md": as_markdown, ".txt": as_text}
    form = forms.get(target.suffix)
    if form is None:
        raise UsageError(f"{target}: the ending says the form; use .md, .txt or .json")
    return form(conversation)
