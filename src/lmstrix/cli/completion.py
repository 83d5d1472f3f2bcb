# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Shell completion: the scripts for shells, and the answer to what they ask: `lmstrix __complete WORDS… WORD`.

An answer is a line per candidate, a tab before what it is; a line `:files` has the shell add the names of files. The
last of the words is the one being typed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmstrix.cli.command_line import CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmstrix.cli.candidates import Names
    from lmstrix.cli.signatures import Commands, Parameter

ASKED = "__complete"
"""The word that scripts ask with; no command of the user's."""
_SCRIPTS = Path(__file__).parent.parent / "data" / "completion"


def completion(cli: CommandLine, /, shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print a script that lets a shell complete commands, options, models and prompts.

    bash: put  eval "$(lmstrix completion bash)"  into ~/.bashrc

    zsh: put  eval "$(lmstrix completion zsh)"  into ~/.zshrc, below compinit

    fish: lmstrix completion fish > ~/.config/fish/completions/lmstrix.fish

    Args:
        shell: bash, zsh or fish.
    """
    script = (_SCRIPTS / f"lmstrix.{shell}").read_text(encoding="utf-8")
    if cli.console.json:
        cli.console.result("completion", {"shell": shell, "script": script})
    else:
        sys.stdout.write(script)


def answer(words: Sequence[str], commands: Commands, common: Sequence[Parameter]) -> None:
    """Print the candidates for the last of the words. Never an error: it would end up in the line being typed."""
    from lmstrix.cli.candidates import FILES, candidates
    from lmstrix.ground.errors import LMStrixError

    *before, current = words or [""]
    try:
        found = candidates(before, current, commands, common, _names())
    except (LMStrixError, OSError):
        return
    for value, text in found:
        sys.stdout.write(":files\n" if value == FILES else f"{value}\t{text}\n" if text else f"{value}\n")


def _names() -> Names:
    from lmstrix.cli.candidates import Names

    return Names(
        models=_model_keys, prompts=_prompt_names, collections=_collection_names, conversations=_conversation_names
    )


def _model_keys() -> Iterable[str]:
    """From the registry alone: nobody waits for a server at each press of a key."""
    from lmstrix.core.registry.model_aliases import readable
    from lmstrix.core.registry.store import RegistryStore
    from lmstrix.ground.paths import resolve_paths

    registry = RegistryStore(resolve_paths().registry_file).load()
    present = [record for record in registry if not record.is_missing]
    keys, paths = {record.model_key for record in present}, {record.path for record in present}
    return sorted(keys | {alias for alias, path in readable(registry.aliases).items() if path in paths})


def _prompt_names(file: str) -> Iterable[str]:
    from lmstrix.service.prompting import open_library

    return open_library(file).templates


def _collection_names() -> Iterable[str]:
    from lmstrix.core.vectors.store import COLLECTIONS, CollectionStore
    from lmstrix.ground.paths import resolve_paths

    file = resolve_paths().own / COLLECTIONS
    if not file.exists():
        return ()
    with CollectionStore(file, for_reading=True) as store:
        return [info.name for info in store.collections()]


def _conversation_names() -> Iterable[str]:
    from lmstrix.core.answers.conversations import CONVERSATIONS, ConversationStore
    from lmstrix.ground.paths import resolve_paths

    return ConversationStore(resolve_paths().own / CONVERSATIONS).names()
