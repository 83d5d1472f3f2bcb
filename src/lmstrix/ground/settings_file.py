"""What a file of settings gives: each value with its key as it is written, and where it stands.

TOML and JSON, in sections; the flat keys of earlier versions and the keys of the earlier LMStrix are read as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmstrix.ground.documents import DocumentError, parse_json, parse_toml
from lmstrix.ground.errors import SettingsError
from lmstrix.ground.held_files import while_held
from lmstrix.ground.setting_keys import BY_KEY, KEYS, SECTIONS
from lmstrix.ground.text import decoded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lmstrix.ground.setting_keys import SettingKey

_MAX_FILE_BYTES = 2**20
_TABLES = frozenset(each.key for each in KEYS if each.table)
PROFILES = "profiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """A file, its text and its tables."""

    path: Path
    content: bytes
    text: str
    table: dict[str, Any]

    def at(self, place: tuple[str, ...]) -> str:
        """The file with the line and column where a value stands, as editors open it."""
        from lmstrix.ground.setting_places import place_of

        found = place_of(self.text, place, is_json=self.path.suffix == ".json")
        return f"{self.path}:{found.line}:{found.column}" if found else str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSetting:
    """A value that one layer gives. `entry` leads to it in a setting that is a table; `place` to it in the `file`."""

    setting: SettingKey
    name: str
    value: Any
    origin: str
    entry: tuple[str, ...] = ()
    file: SettingsFile | None = None
    place: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Where it stands, as exactly as is known."""
        return self.file.at(self.place) if self.file is not None else self.origin


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings:
    """What a table of a file gives, and its keys that have no effect here any more."""

    given: tuple[GivenSetting, ...]
    without_effect: tuple[str, ...] = ()


def read_settings_file(path: Path) -> SettingsFile:
    """A file of settings. Raises SettingsError."""
    try:
        content = while_held(lambda: _beginning_of(path))
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror or exc}") from exc
    if len(content) > _MAX_FILE_BYTES:
        raise SettingsError(f"{path} is larger than 1 MiB, which no file of settings is")
    return parsed_settings(path, content)


def parsed_settings(path: Path, content: bytes) -> SettingsFile:
    """The file that has this content. Raises SettingsError."""
    try:
        text = decoded(content)
        table = parse_json(text) if path.suffix == ".json" else parse_toml(text)
    except UnicodeDecodeError as exc:
        raise SettingsError(f"cannot read {path}: {exc}") from exc
    except DocumentError as exc:
        raise SettingsError(f"{path} {exc}") from exc
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: expected a table of settings, found {type(table).__name__}")
    return SettingsFile(path=path, content=content, text=text, table=table)


def settings_in(file: SettingsFile, *, profile: str | None = None) -> FileSettings:
    """The settings of a file, or of one of its profiles. Raises SettingsError for a key that is none."""
    above: tuple[str, ...] = () if profile is None else (PROFILES, profile)
    table = file.table if profile is None else file.table[PROFILES][profile]
    origin = str(file.path) if profile is None else f"{file.path} [profiles.{profile}]"
    given: list[GivenSetting] = []
    without_effect: list[str] = []
    for place, value in _keys(table):
        key = ".".join(place)
        setting, value = _meaning(key, value)
        # JSON's null says that nothing is chosen.
        if value is None:
            continue
        if setting is None:
            if not _has_no_effect(place):
                raise SettingsError(f"{file.at((*above, *place))}: unknown setting {key!r}{_meant(key)}")
            without_effect.append(key)
            continue
        leaves = _leaves(value) if setting.table and isinstance(value, dict) else [((), value)]
        given += [
            GivenSetting(
                setting=setting,
                name=".".join((key, *entry)),
                value=leaf,
                origin=origin,
                entry=entry,
                file=file,
                place=(*above, *place, *entry),
            )
            for entry, leaf in leaves
        ]
    _refuse_two_names(given)
    return FileSettings(given=tuple(given), without_effect=tuple(without_effect))


def _refuse_two_names(given: Sequence[GivenSetting]) -> None:
    """Raise SettingsError where a file has one setting under two of its names, with two values: one would be lost."""
    from lmstrix.ground.earlier_settings import RENAMED

    seen: dict[tuple[str, ...], GivenSetting] = {}
    for each in given:
        first = seen.setdefault((each.setting.key, *each.entry), each)
        # The earlier LMStrix had several settings where there is one now: its files are read as they are.
        if first.value != each.value and not (first.name in RENAMED and each.name in RENAMED):
            raise SettingsError(
                f"{each.where}: {each.name} is the setting that {first.name} ({first.where}) gives another value; "
                "leave out one of them"
            )


def _keys(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key with its value: a section's names one by one, a table of any names as a whole."""
    from lmstrix.ground.earlier_settings import SECTIONS_GONE

    for name, value in table.items():
        if name == PROFILES:
            continue
        if isinstance(value, dict) and name not in _TABLES and name in SECTIONS | SECTIONS_GONE.keys():
            yield from (((name, inner), each) for inner, each in value.items())
        else:
            yield (name,), value


def _meaning(key: str, value: object) -> tuple[SettingKey | None, Any]:
    from lmstrix.ground.earlier_settings import RENAMED, converted

    if key in BY_KEY:
        return BY_KEY[key], value
    return (BY_KEY[RENAMED[key]], converted(key, value)) if key in RENAMED else (None, value)


def _has_no_effect(place: tuple[str, ...]) -> bool:
    from lmstrix.ground.earlier_settings import has_no_effect

    section, name = place if len(place) == 2 else ("", place[0])
    return has_no_effect(section, name)


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from (((name, *rest), leaf) for rest, leaf in _leaves(value))
        else:
            yield (name,), value


def _meant(key: str) -> str:
    from lmstrix.ground.environment import near

    known = [each.key for each in KEYS]
    # A key of a section is told by itself, and the whole key of one without is found by its last part.
    meant = near(key, [*BY_KEY]) or next((each for each in known if each.endswith(f".{key}")), None)
    return f"; did you mean {meant!r}?" if meant else f" (known: {', '.join(known)})"


def _beginning_of(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_MAX_FILE_BYTES + 1)
