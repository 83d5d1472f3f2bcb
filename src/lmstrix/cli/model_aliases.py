# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""The commands about the user's own names for models."""

from __future__ import annotations

from lmstrix.cli.command_groups import GROUPS
from lmstrix.cli.command_line import CommandLine
from lmstrix.ground.errors import UsageError

SUBCOMMANDS = frozenset({"compare", "report", "history"})
"""What stands after bench in the place of a model, and is a command."""


def alias(cli: CommandLine, /, alias: str, model: str) -> None:
    """Give a model a name of your own, which -m and every MODEL take: lmstrix models alias fast qwen3-8b.

    It goes with the model where that is moved, exported or merged. (What stands for words of a command line is another
    thing: the section [aliases] of the settings.)

    Args:
        alias: Your name for it; one that stood for another model stands for this one from now on.
        model: The model.
    """
    from lmstrix.reports.model_aliases import show_aliases

    if alias in SUBCOMMANDS or any(alias in words for words in GROUPS.values()):
        raise UsageError(f"{alias!r} is a command of lmstrix; choose another alias")
    cli.know_models()
    show_aliases(cli.console, [cli.service.registry_files.choose_alias(alias, model)], command="alias")


def aliases(cli: CommandLine, /) -> None:
    """Show your names for models, and what each stands for."""
    from lmstrix.reports.model_aliases import show_aliases

    show_aliases(cli.console, cli.service.registry_files.aliases(), command="aliases")


def unalias(cli: CommandLine, /, alias: str) -> None:
    """Take a name of your own away again. The model stays.

    Args:
        alias: The name.
    """
    from lmstrix.reports.model_aliases import show_aliases

    show_aliases(cli.console, [cli.service.registry_files.remove_alias(alias)], command="unalias")
