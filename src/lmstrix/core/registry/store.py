"""lmstrix.json on disk: one JSON object, read whole, written whole, never half.

A change goes: lock, read again, apply, write a temporary file beside it, fsync, keep the old file as a backup, replace,
fsync the folder; so a reader needs no lock, writers lose nothing to each other, and a kill at any moment leaves a whole
file. A change that changes nothing writes nothing. A file that cannot be understood is copied aside and stays: reading
and changing both refuse, naming the newest good backup, because taking it for empty would be the end of all results.
The newest backup is the content before the last change; the others are at least ten minutes apart, so that a long test
of many models does not push the older states out.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lmstrix.core.registry.registry import SCHEMA_VERSION, ModelRegistry
from lmstrix.core.registry.renaming import rename_host
from lmstrix.ground.addresses import host_name
from lmstrix.ground.drives import drive_of
from lmstrix.ground.errors import RegistryError
from lmstrix.ground.files import PRIVATE, make_private, write_whole
from lmstrix.ground.held_files import read_whole, remove_file, replace_file, while_held
from lmstrix.ground.machine import earlier_name, machine_id
from lmstrix.ground.wording import call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

_ALIASES = "model_aliases"
_BACKUPS = 5
_BACKUP_SPACING_S = 600.0
_LOCK_TIMEOUT_S = 15.0


class _Document(NamedTuple):
    """A parsed file: the registry, the names of the machines that wrote it by their id, the other keys of the JSON
    object, and which layout the file was in.
    """

    registry: ModelRegistry
    machines: dict[str, str]
    other: dict[str, Any]
    schema_version: int


class Restored(NamedTuple):
    """What was put in the place of the registry, and the copy of what stood there, if there was anything."""

    source: Path
    replaced: Path | None


class RegistryStore:
    """The registry file at `path`. Constructing one touches nothing."""

    def __init__(self, path: Path, *, lock_timeout_s: float = _LOCK_TIMEOUT_S) -> None:
        self.path = path.resolve()  # a registry that is a symbolic link stays one
        self.lock_timeout_s = lock_timeout_s

    def load(self) -> ModelRegistry:
        """Read the registry; empty when there is no file yet. Writes nothing but the copy of a file it cannot read."""
        content = self._read()
        return self._parse(content).registry if content is not None else ModelRegistry()

    def update(self, change: Callable[[ModelRegistry], T]) -> T:
        """Apply `change` to what the file holds now, write it if anything differs; return what `change` returned."""
        with self._locked():
            content = self._read()
            document = (
                self._parse(content) if content is not None else _Document(ModelRegistry(), {}, {}, SCHEMA_VERSION)
            )
            # Reading such a file is fine; writing it would drop what we do not understand.
            if document.schema_version > SCHEMA_VERSION:
                raise RegistryError(
                    f"{self.path} has schema version {document.schema_version}, written by a newer LMStrix; "
                    f"this one knows {SCHEMA_VERSION}: upgrade it before changing anything"
                )
            migrated = document.schema_version < SCHEMA_VERSION
            # Under the lock and on what the file holds now: another process may have written since the caller read it.
            result = change(document.registry)
            new = _serialize(document)
            if migrated or not _says_the_same(content, new):
                if self._note_machine(document):
                    new = _serialize(document)
                # Only the oldest layout holds what this one has no place for.
                self._write(content, new, keep_original=document.schema_version == 1)
        return result

    def backups(self) -> list[Path]:
        """The backups there are, newest first."""
        return [path for path in map(self._backup, range(1, _BACKUPS + 1)) if path.exists()]

    def replaced(self) -> list[Path]:
        """The copies of what backups were put in the place of."""
        return sorted(self.path.parent.glob(f"{self.path.name}.replaced-*"))

    def newest_good_backup(self) -> Path | None:
        """The newest backup that can be read."""
        for path in self.backups():
            with suppress(OSError, _UnreadableError):
                _parse(read_whole(path))
                return path
        return None

    def copy_to(self, file: Path) -> None:
        """Copy the registry, which must be readable, into a file; it is replaced where it exists."""
        content = self._read()
        if content is None:
            raise RegistryError(f"there is no {self.path} yet; run {call('scan')} to begin one")
        self._parse(content)
        write_registry(file, content)

    def restore(self, backup: Path | None = None) -> Restored:
        """Put a backup (the newest good one by default) in the place of the file, which is copied aside first."""
        source = backup or self.newest_good_backup()
        if source is None:
            raise RegistryError(f"There is no readable backup of {self.path}; run lmstrix scan to begin a new registry")
        with self._locked():
            try:
                content = read_whole(source)
                _parse(content)
            except (OSError, _UnreadableError) as exc:
                raise RegistryError(f"{source} is no usable backup: {exc}; choose another") from exc
            with self._writing():
                replaced = self._aside("replaced") if self.path.exists() else None
                if replaced is not None:
                    _copy(self.path, replaced)
                write_whole(self.path, content, mode=PRIVATE)
        return Restored(source, replaced)

    def _read(self) -> bytes | None:
        # Here as everything begins with it, also the copies that are made of the file and take its permissions.
        make_private(self.path)
        try:
            return read_whole(self.path)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise RegistryError(f"{self.path} cannot be read ({exc.strerror or exc}); check its permissions") from exc

    def _parse(self, content: bytes) -> _Document:
        try:
            document = _parse(content)
        except _UnreadableError as exc:
            raise self._corrupt(str(exc)) from exc
        if earlier_name(document.machines) is not None:
            self._note_machine(document)
        return document

    def _note_machine(self, document: _Document) -> bool:
        """Note this machine's name, and take along the results under its earlier one; whether anything changed.

        A file on a network's drive is left alone: several machines may write it, and those of one image may have one
        id.
        """
        new = host_name()
        if new in document.machines.values() or drive_of(self.path).kind == "network":
            return False
        old = earlier_name(document.machines)
        document.machines[machine_id()] = new
        if old is not None:
            rename_host(document.registry.models, old, new)
        return True

    def _corrupt(self, fault: str) -> RegistryError:
        kept = ""
        with suppress(OSError):
            copy = self._aside("corrupt")
            # The name stays the same while the file does, so that every further read does not leave another copy.
            if not copy.exists():
                _copy(self.path, copy)
            kept = f" (a copy is kept as {copy.name})"
        backup = self.newest_good_backup()
        remedy = "there is no backup"
        if backup is not None:
            name = backup.name.removeprefix(f"{self.path.name}.")
            remedy = f"lmstrix registry restore {name} goes back to the last good state"
        return RegistryError(
            f"{self.path} is damaged: {fault}{kept}; {remedy}, or move it away and run lmstrix scan to begin anew"
        )

    def _aside(self, label: str) -> Path:
        """A name beside the file that stays the same while the file does."""
        stamp = datetime.fromtimestamp(self.path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        return self.path.with_name(f"{self.path.name}.{label}-{stamp}")

    def _backup(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.backup-{number}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what the system refuses into one line; the file itself is as it was."""
        try:
            yield
        except OSError as exc:
            raise RegistryError(
                f"{self.path} cannot be written ({exc.strerror or exc}); it is unchanged: "
                "free some disk space or check the folder's permissions"
            ) from exc

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout  # 33 ms that only writers pay

        lock = FileLock(f"{self.path}.lock", timeout=self.lock_timeout_s, mode=PRIVATE)
        with self._writing():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout as exc:
                raise RegistryError(
                    f"{self.path} is locked by another LMStrix for over {self.lock_timeout_s:g} s; try again later"
                ) from exc
        try:
            yield
        finally:
            lock.release()

    def _write(self, old: bytes | None, new: bytes, *, keep_original: bool) -> None:
        with self._writing():
            if old is not None:
                # Rotation would in time drop the only copy of what the migration could not take over.
                if keep_original:
                    _copy(self.path, self._aside("v1"))
                self._rotate_backups()
            write_whole(self.path, new, mode=PRIVATE)

    def _rotate_backups(self) -> None:
        newest = self._backup(1)
        if newest.exists() and self.path.stat().st_mtime - newest.stat().st_mtime >= _BACKUP_SPACING_S:
            for number in range(_BACKUPS - 1, 0, -1):
                with suppress(FileNotFoundError):
                    replace_file(self._backup(number), self._backup(number + 1))
        # Copied under another name first: a kill half-way must not leave a broken newest backup.
        copy = self.path.with_name(f"{self.path.name}.backup-new")
        try:
            _copy(self.path, copy)  # no hard link: who edits the file in place would edit its backup too
            replace_file(copy, newest)
        except OSError:
            remove_file(copy)
            raise


def read_registry(file: Path) -> ModelRegistry:
    """The registry in any file, of whatever version; the file is left as it is. Raises RegistryError."""
    try:
        return _parse(read_whole(file)).registry
    except OSError as exc:
        raise RegistryError(f"{file} cannot be read ({exc.strerror or exc})") from exc
    except _UnreadableError as exc:
        raise RegistryError(f"{file} is no registry: {exc}") from exc


def registry_bytes(registry: ModelRegistry) -> bytes:
    """A registry as it stands in a file."""
    return _serialize(_Document(registry, {}, {}, SCHEMA_VERSION))


def write_registry(file: Path, content: bytes) -> None:
    """Write a registry's content into a file of the user's choice. Raises RegistryError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content, mode=PRIVATE)
    except OSError as exc:
        raise RegistryError(f"{file} cannot be written ({exc.strerror or exc})") from exc


def _copy(source: Path, copy: Path) -> None:
    while_held(lambda: shutil.copy2(source, copy))


class _UnreadableError(Exception):
    """The content is not a registry; the message says why."""


def _parse(content: bytes) -> _Document:
    try:
        # Some editors on Windows begin a file with a byte order mark, which JSON does not allow.
        document = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise _UnreadableError(f"not text, at byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        raise _UnreadableError(f"not JSON, {exc.msg} at line {exc.lineno}") from exc
    except (ValueError, RecursionError) as exc:
        raise _UnreadableError(f"not usable JSON ({exc})") from exc
    if not isinstance(document, dict):
        raise _UnreadableError(f"a JSON {type(document).__name__} where an object is expected")
    # A registry of lmstrix 1 has neither key.
    if "models" not in document and "schema_version" not in document and isinstance(document.get("llms"), dict):
        from lmstrix.core.registry.migration import migrate_models

        return _Document(ModelRegistry(migrate_models(document.pop("llms"))), {}, document, schema_version=1)
    models, version = document.pop("models", {}), document.pop("schema_version", SCHEMA_VERSION)
    if not isinstance(models, dict):
        raise _UnreadableError(f'"models" is a JSON {type(models).__name__} where an object is expected')
    if not isinstance(version, int):
        raise _UnreadableError('"schema_version" is not a number')
    if version < SCHEMA_VERSION:
        from lmstrix.core.registry.migration import name_hosts

        name_hosts(models)
    aliases = document.pop(_ALIASES, {})
    if not isinstance(aliases, dict):
        raise _UnreadableError(f'"{_ALIASES}" is a JSON {type(aliases).__name__} where an object is expected')
    machines = document.pop("machines", {})
    known = {key: name for key, name in machines.items() if isinstance(name, str)} if isinstance(machines, dict) else {}
    return _Document(ModelRegistry(models, aliases=aliases), known, document, version)


def _serialize(document: _Document) -> bytes:
    """One line per model: compact, fast to write, and still good to compare."""
    lines = [f'"schema_version": {SCHEMA_VERSION}']
    if document.machines:
        lines.append(f'"machines": {json.dumps(document.machines)}')
    if document.registry.aliases:
        lines.append(f'"{_ALIASES}": {json.dumps(document.registry.aliases)}')
    lines += [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in document.other.items()]
    models = ",\n".join(f"{json.dumps(path)}: {json.dumps(raw)}" for path, raw in document.registry.models.items())
    lines.append(f'"models": {{\n{models}\n}}' if models else '"models": {}')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def _says_the_same(old: bytes | None, new: bytes) -> bool:
    """Whether the old content means what the new one does, whatever its layout; no file means no models."""
    return old == new or _serialize(_parse(old or b"{}")) == new
