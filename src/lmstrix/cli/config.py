# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands about the settings themselves. They need no server, and work where the settings are invalid."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.default_model import default
from lmstrix.ground.errors import SettingsError
from lmstrix.ground.units import counted

if TYPE_CHECKING:
    from lmstrix.ground.settings_file import GivenSetting

_DEFAULT_MODEL = "model"
"""No setting, as it is checked against the models that are known, but where users of other tools look for it."""


def show(cli: CommandLine, /) -> None:
    """Show what the files give: the config file, its profile, and this folder's .lmstrix.toml where it counts.

    Tokens and headers are not shown.
    """
    from lmstrix.reports.config import show_settings
    from lmstrix.service.configuring import shown

    given = [each for each in cli.read_settings().given if each.file is not None]
    show_settings(cli.console, shown(given), nothing=f"no file sets anything; {_file(cli)} would")


def effective(cli: CommandLine, /) -> None:
    """Show every setting as it holds, with where its value comes from.

    From the weakest to the strongest: the default, the config file, its profile, this folder's .lmstrix.toml, the
    environment, the command line. Tokens and headers are not shown.
    """
    from lmstrix.reports.config import show_settings
    from lmstrix.service.configuring import effective

    show_settings(cli.console, effective(cli.read_settings()))


def validate(cli: CommandLine, /, file: str | None = None) -> None:
    """Check a file of settings, with its profiles, the default options of commands and the aliases.

    Args:
        file: The file (default: the config file).
    """
    from lmstrix.service.configuring import check_file

    path = Path(file).expanduser() if file is not None else _file(cli)
    if file is None and not path.exists() and not cli.common.config:
        if cli.console.json:
            cli.console.result("config", {"file": str(path), "valid": True, "settings": 0, "without_effect": ()})
        else:
            cli.console.note(f"nothing to check: there is no {path}; lmstrix config set KEY VALUE begins it")
        return
    checked = check_file(path)
    faults = list(cli.check_commands(checked.settings))
    if faults:
        raise SettingsError(f"{path}: {'; '.join(faults)}")
    if cli.console.json:
        told = {"valid": True, "settings": checked.count, "without_effect": checked.without_effect}
        cli.console.result("config", {"file": str(path), **told})
    else:
        cli.console.note(f"{path} is valid: {counted(checked.count, 'setting')}")
        for name in checked.without_effect:
            cli.console.note(f"no effect here: {name} (the earlier LMStrix knew it)")


def path(cli: CommandLine, /) -> None:
    """Print where the config file is, or would be."""
    file = _file(cli)
    if cli.console.json:
        cli.console.result("config", {"file": str(file), "exists": file.is_file()})
    else:
        cli.console.text(f"{file}\n")


def set_(cli: CommandLine, /, key: str, value: str) -> None:
    """Write one setting into the config file; comments and everything else stay as they are.

    Args:
        key: Section and name, such as server.retries or models."acme/tiny".temperature; model is the default model.
        value: The value: a text, a number, true or false.
    """
    from lmstrix.service.configuring import set_value, shown

    if key == _DEFAULT_MODEL:
        default(cli, value)
        return
    given = set_value(_file(cli), key, value, check=cli.check_commands)
    (done,) = shown([given])
    overruled_by = _overruled_by(cli, given)
    if cli.console.json:
        found = {"key": done.key, "value": done.value, "from": done.origin, "overruled_by": overruled_by}
        cli.console.result("config", found)
        return
    cli.console.note(f"{done.origin}: {done.key} = {done.value}")
    if overruled_by is not None:
        cli.console.note(f"it does not hold here: {overruled_by} gives {done.key} another value, which goes before it")


def unset(cli: CommandLine, /, key: str) -> None:
    """Take one setting out of the config file.

    Args:
        key: Section and name, such as server.retries; model is the default model.
    """
    from lmstrix.service.configuring import unset_value

    if key == _DEFAULT_MODEL:
        default(cli, unset=True)
        return
    file = _file(cli)
    unset_value(file, key)
    if cli.console.json:
        cli.console.result("config", {"key": key, "value": None, "from": str(file)})
    else:
        cli.console.note(f"{file}: {key} is no longer set")


def _file(cli: CommandLine) -> Path:
    """The config file that commands read, or that they would read."""
    from lmstrix.ground.settings import CONFIG_FILES, find_config_file

    if cli.common.config:
        return Path(cli.common.config).expanduser()
    return find_config_file(cli.paths.own, os.environ) or cli.paths.own / CONFIG_FILES[0]


def _overruled_by(cli: CommandLine, given: GivenSetting) -> str | None:
    """Where the value stands that goes before the one that was just written."""
    from lmstrix.service.configuring import overruling

    try:
        stronger = overruling(cli.read_settings(), given)
    except SettingsError:  # in another layer; this one is written, and each other command tells of that one
        return None
    return stronger.where if stronger is not None else None
