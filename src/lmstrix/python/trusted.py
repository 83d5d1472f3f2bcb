"""The folders whose own settings count, in the Python API. What is trusted here counts for the next LMStrix."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.ground.settings import project_settings
from lmstrix.ground.trust import TrustedFolder, TrustedFolders

if TYPE_CHECKING:
    from lmstrix.api.portal import Portal


class AsyncTrusted:
    """The folders that are trusted, for asyncio."""

    def __init__(self, own: Path) -> None:
        self._folders = TrustedFolders(own)

    async def folders(self) -> list[TrustedFolder]:
        """The folders trusted so far."""
        return await asyncio.to_thread(self._folders.folders)

    async def add(self, folder: str | Path = ".") -> None:
        """Let all settings in a folder's .lmstrix.toml count, as it is now: also the server and the token."""
        await asyncio.to_thread(self._add, _place(folder))

    async def remove(self, folder: str | Path = ".") -> bool:
        """Trust a folder no longer; whether it was trusted."""
        return await asyncio.to_thread(self._folders.remove, _place(folder))

    def _add(self, place: Path) -> None:
        content, _ = project_settings(place)
        self._folders.add(place, content)


class Trusted:
    """The folders that are trusted."""

    def __init__(self, portal: Portal, trusted: AsyncTrusted) -> None:
        self._portal = portal
        self._trusted = trusted

    def folders(self) -> list[TrustedFolder]:
        """The folders trusted so far."""
        return self._portal.run(self._trusted.folders())

    def add(self, folder: str | Path = ".") -> None:
        """Let all settings in a folder's .lmstrix.toml count, as it is now: also the server and the token."""
        self._portal.run(self._trusted.add(folder))

    def remove(self, folder: str | Path = ".") -> bool:
        """Trust a folder no longer; whether it was trusted."""
        return self._portal.run(self._trusted.remove(folder))


def _place(folder: str | Path) -> Path:
    return Path(folder).expanduser().resolve()
