"""What the settings say of a command line: names that stand for words, and options where the words give none."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.options import CommonOptions
from lmstrix.cli.signatures import describe
from lmstrix.cli.words import suggestion
from lmstrix.ground.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lmstrix.cli.signatures import Commands, Parameter
    from lmstrix.cli.words import Invocation
    from lmstrix.ground.settings import Settings

UNCONFIGURED = frozenset({"doctor", "trust", "config", "version"})
"""Commands that work, as they are, where the settings are invalid, or are what the settings are about."""
_SAYING_MORE = ("verbose", "debug")


def words_of_alias(name: str, common: Mapping[str, Any]) -> list[str] | None:
    """The words that a name of the user's stands for. Raises SettingsError where they cannot be read."""
    words = CommandLine(CommonOptions(**{**common, "quiet": True})).settings.command_aliases.get(name)
    return None if words is None else _split(name, words)


def _split(name: str, words: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError as exc:
        raise SettingsError(f"aliases.{name}: {words!r} are no words ({exc})") from exc


def configured(
    invocation: Invocation, commands: Commands, common: Sequence[Parameter]
) -> tuple[Invocation, CommandLine]:
    """The command line with what the settings add where the words say nothing. Raises SettingsError."""
    cli = CommandLine(
        CommonOptions(**invocation.common),
        check_commands=partial(check_settings_of_commands, commands=commands, common=common),
    )
    assert invocation.command is not None
    if invocation.command.path[0] in UNCONFIGURED:
        return invocation, cli
    settings = cli.settings
    try:
        for command in settings.command_defaults:
            _check_command(command, commands)
        own, shared = _defaults(invocation, settings, common)
    except SettingsError as exc:
        raise SettingsError(f"{exc} (lmstrix config show tells where it is set)") from exc
    given = {**_of_output(invocation.common, settings), **shared, **invocation.common}
    filled = replace(invocation, options={**own, **invocation.options})
    if given == invocation.common:
        return filled, cli
    return filled, cli.with_options(CommonOptions(**given))


def check_settings_of_commands(settings: Settings, commands: Commands, common: Sequence[Parameter]) -> Iterator[str]:
    """What is wrong with the aliases and with the default options of commands, one line each."""
    for name, words in settings.command_aliases.items():
        try:
            _check_alias(name, words, commands)
        except SettingsError as exc:
            yield str(exc)
    for name, options in settings.command_defaults.items():
        path = tuple(name.split())
        try:
            _check_command(name, commands)
        except SettingsError as exc:
            yield str(exc)
            continue
        for option, value in options.items():
            try:
                _default(name, option, value, [*describe(path, commands[path]).parameters, *common])
            except SettingsError as exc:
                yield str(exc)


def _check_command(name: str, commands: Commands) -> None:
    if tuple(name.split()) not in commands:
        known = [" ".join(path) for path in commands]
        raise SettingsError(f"defaults: there is no command {name!r}{suggestion(name, known)}")


def _check_alias(name: str, words: str, commands: Commands) -> None:
    first = _split(name, words)[:1]
    if any(name == path[0] for path in commands):
        raise SettingsError(f"aliases.{name}: {name!r} is a command, which goes before an alias; choose another name")
    if first in ([], [name]):
        raise SettingsError(f"aliases.{name}: {words!r} names no command; write one, such as 'list --sort size'")


def _defaults(
    invocation: Invocation, settings: Settings, common: Sequence[Parameter]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the command, and those that all commands have."""
    command = invocation.command
    assert command is not None
    known = [*command.parameters, *common]
    found = dict(
        _default(command.name, option, value, known)
        for option, value in settings.command_defaults.get(command.name, {}).items()
    )
    if command.path == ("test",) and settings.threshold is not None and "threshold" in found:
        # Both say "never more than this"; only the command line may go beyond either.
        found["threshold"] = min(found["threshold"], settings.threshold)
    own = {each.name for each in command.parameters}
    return (
        {name: value for name, value in found.items() if name in own},
        {name: value for name, value in found.items() if name not in own},
    )


def _default(command: str, option: str, value: object, known: Sequence[Parameter]) -> tuple[str, Any]:
    """The parameter's name, and its value as if it had been given as an option."""
    where, flag = f"defaults.{command}", option.replace("_", "-")
    parameter = next((each for each in known if flag in (each.flag, each.name.replace("_", "-"))), None)
    if parameter is None or parameter.positional:
        flags = [each.flag for each in known if not each.positional]
        raise SettingsError(f"{where}: {command} has no option {option!r}{suggestion(flag, flags)}")
    if parameter.switch:
        if not isinstance(value, bool):
            raise SettingsError(f"{where}.{option}: expected true or false, received {value!r}")
        return parameter.name, value
    try:
        if parameter.many:
            each = value if isinstance(value, list) else [value]
            return parameter.name, [parameter.convert(str(one)) for one in each]
        return parameter.name, parameter.convert(str(value))
    except UsageError as exc:
        raise SettingsError(f"{where}.{option}: {exc}") from exc


def _of_output(said: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The options about output and log; to be quiet and to say more exclude each other, and the words win."""
    chosen = {
        "color": settings.color,
        "verbose": settings.verbose,
        "quiet": settings.quiet,
        "debug": settings.debug,
        "log_file": settings.log_file,
    }
    left_out = _SAYING_MORE if said.get("quiet") else ("quiet",) if any(map(said.get, _SAYING_MORE)) else ()
    return {name: value for name, value in chosen.items() if value is not None and name not in left_out}
