# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""The command about folders whose own settings the user trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.kinds import Flag
from lmstrix.ground.errors import UsageError


def trust(
    cli: CommandLine,
    /,
    folder: str | None = None,
    *,
    show_all: Annotated[bool, Flag("list")] = False,
    remove: bool = False,
) -> None:
    """Let all settings in a folder's .lmstrix.toml count, also the server and the token that commands there use.

    What the file holds now is trusted; once it changes, it has to be trusted again. In any other folder, commands
    leave out of that file what could send prompts elsewhere, run other models, or change what is kept.

    Args:
        folder: The folder (default: the one the command runs in).
        show_all: List the folders that are trusted.
        remove: Trust the folder no longer.
    """
    from lmstrix.ground.settings import needs_trust, project_settings
    from lmstrix.ground.trust import TrustedFolders
    from lmstrix.reports.trust import show_removed, show_trusted, show_trusted_folders

    # Not by way of the service: its settings would begin with the remark that this folder is not trusted.
    trusted = TrustedFolders(cli.paths.own)
    if show_all:
        if folder is not None or remove:
            raise UsageError("--list shows all folders; leave out FOLDER and --remove")
        show_trusted_folders(cli.console, trusted.folders())
        return
    place = Path(folder or ".").expanduser().resolve()
    if remove:
        if not trusted.remove(place):
            raise UsageError(f"{place} is not trusted (lmstrix trust --list shows what is)")
        show_removed(cli.console, place)
        return
    content, settings = project_settings(place)
    trusted.add(place, content)
    given = {each.name: "(not shown)" if each.setting.secret else each.value for each in needs_trust(settings)}
    show_trusted(cli.console, place, given)
