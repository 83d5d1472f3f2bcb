"""Which project folders the user trusts: each by its real path, and by what its settings file held at that time.

A folder may come from anybody, with a settings file in it that sends prompts and tokens to somebody else's server. So
what could do harm counts only in a folder the user has looked at, and no longer once its file has changed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstrix.ground.errors import SettingsError
from lmstrix.ground.files import PRIVATE, make_private_folder, write_whole
from lmstrix.ground.held_files import read_whole
from lmstrix.ground.one_writer import one_change
from lmstrix.ground.paths import PROJECT_FILE

TRUST_FILE = "trusted_folders.json"
SCHEMA = "lmstrix.trusted-folders/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedFolder:
    """A folder the user trusts; `is_current` while its settings file is the one that was there then."""

    folder: Path
    is_current: bool


class TrustedFolders:
    """The folders trusted so far, kept in LMStrix's own folder."""

    def __init__(self, own: Path) -> None:
        self._own = own
        self._file = own / TRUST_FILE

    def holds(self, folder: Path, content: bytes) -> bool:
        """Whether the folder is trusted with this content of its settings file."""
        return self._read().get(_name(folder)) == _digest(content)

    def add(self, folder: Path, content: bytes) -> None:
        """Trust the folder with this content of its settings file, and no other."""
        with one_change(self._file):
            self._write(self._read() | {_name(folder): _digest(content)})

    def remove(self, folder: Path) -> bool:
        """Trust the folder no longer; whether it was trusted."""
        if _name(folder) not in self._read():
            return False
        with one_change(self._file):
            trusted = self._read()
            trusted.pop(_name(folder), None)
            self._write(trusted)
        return True

    def folders(self) -> list[TrustedFolder]:
        """All of them, by name."""
        return [
            TrustedFolder(folder=Path(name), is_current=_content(Path(name)) == digest)
            for name, digest in sorted(self._read().items())
        ]

    def _read(self) -> dict[str, str]:
        try:
            found: Any = json.loads(read_whole(self._file))
            return {str(name): str(digest) for name, digest in found["folders"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
            raise SettingsError(
                f"{self._file} cannot be read ({exc}); move it away, and trust your folders again"
            ) from exc

    def _write(self, folders: dict[str, str]) -> None:
        make_private_folder(self._own)
        text = json.dumps({"schema": SCHEMA, "folders": folders}, indent=2) + "\n"
        write_whole(self._file, text, mode=PRIVATE)


def _name(folder: Path) -> str:
    # By its real path: a link that is pointed elsewhere later does not take the trust along.
    return str(folder.resolve())


def _content(folder: Path) -> str | None:
    try:
        return _digest(read_whole(folder / PROJECT_FILE))
    except OSError:
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
