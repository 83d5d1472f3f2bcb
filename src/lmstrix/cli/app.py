"""All commands by the words that call them, and running one: read the words, let Fire dispatch, close everything.

A command is a function that calls the service and shows the result. Commands return None: what they show goes through
`reports.console`, results to stdout and everything else to stderr.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lmstrix.cli import (
    answers,
    bench,
    collections,
    completion,
    config,
    conversations,
    default_model,
    downloads,
    engine,
    machine,
    model_aliases,
    models,
    monitor,
    prompts,
    registry,
    tests,
    trust,
)
from lmstrix.cli.configured import configured, words_of_alias
from lmstrix.cli.help_text import HELP_WIDTH
from lmstrix.cli.logged import logged
from lmstrix.cli.option_rules import check_options
from lmstrix.cli.options import CommonOptions
from lmstrix.cli.signatures import options_of
from lmstrix.cli.wording import OptionWording
from lmstrix.cli.words import parse
from lmstrix.ground.environment import unknown_variables
from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import WORDING

if TYPE_CHECKING:
    from lmstrix.cli.command_line import CommandLine
    from lmstrix.cli.signatures import Commands, Parameter
    from lmstrix.cli.words import Invocation

_NARROWEST = 30

COMMANDS: Commands = {
    ("scan",): models.scan,
    ("list",): models.list_,
    ("test",): tests.run,
    ("history",): tests.history,
    ("infer",): answers.infer,
    ("chat",): answers.chat,
    ("batch",): answers.batch,
    ("embed",): answers.embed,
    ("collections", "list"): collections.list_,
    ("collections", "show"): collections.show,
    ("collections", "add"): collections.add,
    ("collections", "search"): collections.search,
    ("collections", "export"): collections.export,
    ("collections", "delete"): collections.delete,
    ("recommend",): answers.recommend,
    ("models", "default"): default_model.default,
    ("models", "alias"): model_aliases.alias,
    ("models", "aliases"): model_aliases.aliases,
    ("models", "unalias"): model_aliases.unalias,
    ("prompts", "list"): prompts.list_,
    ("prompts", "render"): prompts.render,
    ("prompts", "lint"): prompts.lint,
    ("logs",): answers.logs,
    ("conversations", "list"): conversations.list_,
    ("conversations", "search"): conversations.search,
    ("conversations", "show"): conversations.show,
    ("conversations", "export"): conversations.export,
    ("conversations", "delete"): conversations.delete,
    ("bench",): bench.bench,
    ("bench", "compare"): bench.compare,
    ("bench", "report"): bench.report,
    ("bench", "history"): bench.history,
    ("power",): bench.power,
    ("get",): downloads.get,
    ("load",): models.load,
    ("unload",): models.unload,
    ("ps",): models.ps,
    ("monitor",): monitor.monitor,
    ("estimate",): models.estimate,
    ("save",): models.save,
    ("reset",): models.reset,
    ("registry", "stats"): registry.stats,
    ("registry", "validate"): registry.validate,
    ("registry", "tags"): registry.tags,
    ("registry", "tag"): registry.tag,
    ("registry", "untag"): registry.untag,
    ("registry", "note"): registry.note,
    ("registry", "add"): registry.add,
    ("registry", "remove"): registry.remove,
    ("registry", "prune"): registry.prune,
    ("registry", "export"): registry.export,
    ("registry", "import"): registry.import_,
    ("registry", "merge"): registry.merge,
    ("registry", "backup"): registry.backup,
    ("registry", "restore"): registry.restore,
    ("doctor",): machine.doctor,
    ("config", "show"): config.show,
    ("config", "effective"): config.effective,
    ("config", "validate"): config.validate,
    ("config", "path"): config.path,
    ("config", "set"): config.set_,
    ("config", "unset"): config.unset,
    ("trust",): trust.trust,
    ("engine", "run"): engine.run,
    ("engine", "start"): engine.start,
    ("engine", "stop"): engine.stop,
    ("engine", "status"): engine.status,
    ("engine", "logs"): engine.logs,
    ("completion",): completion.completion,
    ("demo",): machine.demo,
    ("version",): machine.version,
}
"""In the order of the overview: what a newcomer does first stands first."""


@cache
def common_parameters() -> tuple[Parameter, ...]:
    """The options of every command."""
    return options_of(CommonOptions)


def run(words: list[str]) -> int:
    """Read the words, then let Fire dispatch to a command that needs no further words."""
    if words[:1] == [completion.ASKED]:
        completion.answer(words[1:], COMMANDS, common_parameters())
        return 0
    invocation, note = _read(words)
    if invocation.command is None:
        sys.stdout.write(invocation.help_text)
        return 0
    command = invocation.command
    said_before = WORDING.set(OptionWording(command))
    try:
        said = {**invocation.common, **invocation.options}
        invocation, cli = configured(invocation, COMMANDS, common_parameters())
        check_options(command, said, {**said, **invocation.options})
        if note:
            cli.console.note(note)
        _run(invocation, cli)
    finally:
        WORDING.reset(said_before)
    return 0


def _read(words: list[str]) -> tuple[Invocation, str]:
    """What the words ask for, and what to remark on them: those of the earlier LMStrix are understood too."""
    common, width = common_parameters(), _help_width()
    try:
        return parse(words, COMMANDS, common, help_width=width, alias=words_of_alias), ""
    except UsageError:
        # Imported only here: it has no cost where the words are today's.
        from lmstrix.cli.earlier_words import rewritten

        found = rewritten([*(words_of_alias(words[0], {}) or words[:1]), *words[1:]], COMMANDS, common)
        if found is None:
            raise
        return parse(found.words, COMMANDS, common, help_width=width), found.note


def _run(invocation: Invocation, cli: CommandLine) -> None:
    with logged(invocation, cli):
        unknown = unknown_variables(os.environ)
        if unknown is not None:
            cli.console.note(unknown)
        try:
            _dispatch(invocation, cli)
        finally:
            # Also after an error or Ctrl-C: an engine started for this command alone would keep its models in memory.
            cli.close()


def _help_width() -> int:
    """As wide as the terminal, up to what reads well; a pipe has the width that the documentation has."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal():
        columns = int(told)
    else:
        # Not shutil's, which does the same: its import would cost every start milliseconds.
        columns = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else HELP_WIDTH
    return min(HELP_WIDTH, max(_NARROWEST, columns))


def _dispatch(invocation: Invocation, cli: CommandLine) -> None:
    command = invocation.command
    assert command is not None
    function, arguments = COMMANDS[command.path], command.arguments(invocation.options)

    if command.path == ("doctor",):
        # It is asked where an installation is broken, and must not need the package that may be missing.
        function(cli, *invocation.positionals, **arguments)
        return

    # Positionals and options were converted by `parse`, so Fire is handed a function that takes no words at all.
    # A function, not functools.partial: Fire reads a partial's signature by tokenizing it, which takes milliseconds.
    def call() -> None:
        function(cli, *invocation.positionals, **arguments)

    component: Any = call
    for word in reversed(command.path):
        component = {word: component}
    _import_fire().Fire(component, command=list(command.path), name="lmstrix")


def _import_fire() -> ModuleType:
    """Fire, without the quarter of a command's start that importing asyncio takes.

    Fire asks asyncio one thing: whether a command is a coroutine function. A stand-in answers it as long as Fire is
    imported and Fire keeps it; everybody else gets the real asyncio.
    """
    if "asyncio" not in sys.modules:
        stand_in = ModuleType("asyncio")
        stand_in.__dict__["iscoroutinefunction"] = inspect.iscoroutinefunction
        sys.modules["asyncio"] = stand_in
        try:
            importlib.import_module("fire")
        finally:
            del sys.modules["asyncio"]
    return importlib.import_module("fire")
