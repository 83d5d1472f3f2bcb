"""What every command works with: console, paths, settings and the service, each made when it is first used.

Each import stands in the property that needs it: a command pays, at every start, only for what it really uses.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmstrix.ground import log

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from lmstrix.api.portal import Portal
    from lmstrix.cli.options import CommonOptions
    from lmstrix.ground.errors import SettingsError
    from lmstrix.ground.paths import Paths
    from lmstrix.ground.settings import Layers, LogLevel, Settings
    from lmstrix.reports.console import Console
    from lmstrix.service import LMStrixService

T = TypeVar("T")


class CommandLine:
    """One run of `lmstrix`."""

    def __init__(
        self, common: CommonOptions, *, check_commands: Callable[[Settings], Iterable[str]] | None = None
    ) -> None:
        self.common = common
        self.check_commands = check_commands or _find_nothing
        """What is wrong with the default options and the aliases that settings give to commands, one line each."""

    @functools.cached_property
    def console(self) -> Console:
        from lmstrix.reports.console import Console

        common = self.common
        return Console(json=common.json, verbose=common.verbose, quiet=common.quiet, color=common.color)

    @functools.cached_property
    def paths(self) -> Paths:
        from lmstrix.core.moving_in import move_in
        from lmstrix.ground.paths import HOME_VARIABLE, resolve_paths

        named = self.common.home
        paths = resolve_paths({HOME_VARIABLE: named} if named else None)
        # Before anything of ours is read or written at its new place.
        move_in(paths.home, self.console.note)
        return paths

    @property
    def log_file(self) -> Path | None:
        """Where the log goes, if into a file."""
        return Path(self.common.log_file).expanduser() if self.common.log_file else None

    @functools.cached_property
    def settings(self) -> Settings:
        settings = self.read_settings().settings
        log.keep_secret(settings.api_token)
        self.log_settings(settings)
        return settings

    def read_settings(self) -> Layers:
        """The settings as they are now, with where each is from."""
        from lmstrix.ground.settings import load_settings

        common = self.common
        return load_settings(
            self.paths.own,
            flags={"server": common.server, "timeout_s": common.timeout},
            config_file=Path(common.config).expanduser() if common.config else None,
            profile=common.profile,
            notify=self.console.note,
        )

    def log_settings(self, settings: Settings | None = None) -> None:
        """Tell the log what was chosen; what is read before there is a log is told once there is one."""
        if settings is None and "settings" not in vars(self):
            return
        settings = settings or self.settings
        limit = "no time limit" if settings.timeout_s is None else f"a time limit of {settings.timeout_s:g} s"
        log.debug("settings: server {}, {}", settings.server, limit)

    def with_options(self, common: CommonOptions) -> CommandLine:
        """The same folders and settings under other options."""
        other = CommandLine(common)
        other.paths, other.settings = self.paths, self.settings
        return other

    @property
    def log_level(self) -> LogLevel:
        """The least that the log's file takes; all, for commands that go without settings."""
        return self.settings.log_level if "settings" in vars(self) else "debug"

    @property
    def log_max_bytes(self) -> int | None:
        """At which size that file is begun anew."""
        return self.settings.log_max_bytes if "settings" in vars(self) else None

    def excuse_settings(self) -> SettingsError | None:
        """Go on with the default settings where the configuration is invalid; returns what is wrong with it."""
        from lmstrix.ground.errors import SettingsError
        from lmstrix.ground.settings import Settings

        try:
            _ = self.settings
        except SettingsError as exc:
            self.settings = Settings()
            return exc
        return None

    def log_nothing(self) -> None:
        """Let this command keep no call and no conversation. Before the service is first used."""
        from dataclasses import replace

        self.settings = replace(self.settings, log_inference=False)

    @functools.cached_property
    def service(self) -> LMStrixService:
        from lmstrix.service import LMStrixService

        return LMStrixService(paths=self.paths, settings=self.settings, notify=self.console.note)

    @functools.cached_property
    def portal(self) -> Portal:
        """Runs the steps that wait. A command without such steps imports no asyncio."""
        from lmstrix.api.portal import Portal

        return Portal()

    def run(self, steps: Coroutine[Any, Any, T]) -> T:
        """What a use case returns: `cli.run(cli.service.scan())`."""
        return self.portal.run(steps)

    def know_models(self) -> None:
        """Scan first where the registry is empty, for commands that choose among models without asking a server."""
        if not len(self.service.registry()):
            self.run(self.service.known_models())

    @functools.cached_property
    def temporary_folder(self) -> Path:
        """A folder that is deleted when the command ends."""
        import tempfile

        return Path(tempfile.mkdtemp(prefix="lmstrix-"))

    def close(self) -> None:
        """Let go of the server, if a command needed one, and of what is kept for as long as the command runs."""
        if "temporary_folder" in vars(self):
            import shutil

            shutil.rmtree(self.temporary_folder, ignore_errors=True)
        # Asking for the property here would make a portal only to close it.
        if "portal" in vars(self):
            self.portal.close(last=self.service.close())


def _find_nothing(_settings: Settings) -> Iterable[str]:
    return ()
