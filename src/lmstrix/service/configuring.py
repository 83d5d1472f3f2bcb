"""The settings themselves: what a file gives, what holds and why, whether a file is valid, and changing one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmstrix.ground.documents import DocumentError, parse_toml
from lmstrix.ground.errors import SettingsError, UsageError
from lmstrix.ground.files import PRIVATE, make_private_folder, write_whole
from lmstrix.ground.one_writer import one_change
from lmstrix.ground.setting_keys import BY_KEY, KEYS, SettingKey
from lmstrix.ground.setting_places import key_path, key_text
from lmstrix.ground.settings import Settings, profile_files, validated
from lmstrix.ground.settings_edit import with_value, without_value
from lmstrix.ground.settings_file import PROFILES, parsed_settings, read_settings_file, settings_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from lmstrix.ground.settings import Layers
    from lmstrix.ground.settings_file import GivenSetting, SettingsFile

HIDDEN = "(not shown)"
_OPEN = ("verify_tls", "ca_file")
"""What is no secret among the settings of a single server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSetting:
    """A setting, with its value unless that is a secret, and where the value comes from."""

    key: str
    value: Any
    origin: str


def shown(given: Sequence[GivenSetting]) -> list[ShownSetting]:
    """What layers give, as it is written there."""
    return [ShownSetting(key=_key(each), value=_masked(each), origin=each.where) for each in given]


def effective(layers: Layers) -> list[ShownSetting]:
    """Every setting as it holds, and the layer that gave it."""
    rows: list[ShownSetting] = []
    for key in KEYS:
        given = {each.entry: each for each in layers.given if each.setting is key}
        if key.table:
            rows += [ShownSetting(key=_key(each), value=_masked(each), origin=each.where) for each in given.values()]
            continue
        last = given.get(())
        value = getattr(layers.settings, key.field)
        rows.append(
            ShownSetting(
                key=key.key,
                value=HIDDEN if key.secret and value is not None else value,
                origin=last.where if last is not None else "default",
            )
        )
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """A file of settings that is valid: what it sets, how many settings, and those of the earlier LMStrix that do
    nothing now.
    """

    settings: Settings
    count: int
    without_effect: tuple[str, ...]


def check_file(path: Path) -> CheckedFile:
    """Look at a file of settings, and at its profiles in it and beside it. Raises SettingsError."""
    file = read_settings_file(path)
    found = settings_in(file)
    for name in _profiles_in(file):
        validated([*found.given, *settings_in(file, profile=name).given])
    for beside in profile_files(path.parent).values():
        validated([*found.given, *settings_in(read_settings_file(beside)).given])
    return CheckedFile(
        settings=validated(found.given), count=len(found.given), without_effect=tuple(found.without_effect)
    )


def _profiles_in(file: SettingsFile) -> Iterable[str]:
    """The names of the profiles that a file holds. Raises SettingsError where they are no tables."""
    inside = file.table.get(PROFILES, {})
    if not isinstance(inside, dict):
        raise SettingsError(f"{file.at((PROFILES,))}: {PROFILES}: expected a table per profile, received {inside!r}")
    for name, table in inside.items():
        if not isinstance(table, dict):
            where = file.at((PROFILES, name))
            raise SettingsError(f"{where}: {PROFILES}.{name}: expected a table of settings, received {table!r}")
        yield name


def set_value(path: Path, key: str, word: str, *, check: Callable[[Settings], Iterable[str]]) -> GivenSetting:
    """Write one setting into a file, made where there is none. Raises SettingsError, and then changes nothing.

    `check` tells what is wrong with what settings say of commands, which are known to the caller.
    """
    setting, place = _place(key)
    with one_change(path):
        return _set(path, setting, place, word, check)


def overruling(layers: Layers, given: GivenSetting) -> GivenSetting | None:
    """What a stronger layer gives for the same setting, so that this value does not hold."""
    last = [each for each in layers.given if (each.setting, each.entry) == (given.setting, given.entry)][-1:]
    return next((each for each in last if each.where != given.where), None)


def _set(
    path: Path,
    setting: SettingKey,
    place: tuple[str, ...],
    word: str,
    check: Callable[[Settings], Iterable[str]],
) -> GivenSetting:
    file = (
        read_settings_file(path) if path.exists() else parsed_settings(path, b"{}" if path.suffix == ".json" else b"")
    )
    # The name that the file has for it already, so that it is not there twice.
    if setting.flat in file.table and not isinstance(file.table[setting.flat], dict):
        place = (setting.flat,)
    fault: SettingsError | None = None
    for value in _readings(setting, word):
        text = with_value(file, place, value)
        changed = parsed_settings(path, text.encode())
        try:
            given = _checked(settings_in(changed).given, place, check)
        except SettingsError as exc:
            fault = fault or exc
            continue
        _write(path, text)
        return given
    assert fault is not None
    raise fault


def _checked(
    file_gives: Sequence[GivenSetting], place: tuple[str, ...], check: Callable[[Settings], Iterable[str]]
) -> GivenSetting:
    """What stands at `place`. Raises SettingsError for it, or for what does not fit together with it."""
    validated(file_gives)
    given = next(each for each in file_gives if each.place == place)
    # By itself: another default that no command has any more is no reason to refuse this one.
    faults = list(check(validated([given])))
    if faults:
        raise SettingsError(f"{given.where}: {'; '.join(faults)}")
    return given


def unset_value(path: Path, key: str) -> None:
    """Take one setting out of a file. Raises SettingsError where it is not in it."""
    setting, place = _place(key)
    read_settings_file(path)  # where there is no file to change, no lock is left beside it
    with one_change(path):
        file = read_settings_file(path)
        if setting.flat in file.table and not isinstance(file.table[setting.flat], dict):
            place = (setting.flat,)
        _write(path, without_value(file, place))


def _place(key: str) -> tuple[SettingKey, tuple[str, ...]]:
    """The setting that a key names, and where it stands. Raises UsageError."""
    path = key_path(key)
    if path is None:
        raise UsageError(f'{key!r} is no key; put names with other signs in quotes, as in models."acme/tiny".seed')
    for length in (2, 1):
        setting = BY_KEY.get(".".join(path[:length]))
        if setting is None:
            continue
        if not setting.table and len(path) == length:
            return setting, path if "." in setting.key and length == 2 else tuple(setting.key.split("."))
        if setting.table and len(path) > length:
            return setting, path
    from lmstrix.ground.environment import near

    if path[0] in ("model", "default_model"):
        raise UsageError(f"there is no setting {key!r}: lmstrix models default MODEL chooses the model that is asked")
    known = [each.key for each in KEYS]
    meant = near(key, known)
    told = f"did you mean {meant!r}?" if meant else f"there are: {', '.join(known)}"
    raise UsageError(f"there is no setting {key!r}; {told}")


def _readings(setting: SettingKey, word: str) -> list[object]:
    """What a word may stand for: a number, true, false or a list as TOML writes it, and the text itself."""
    if setting.expects.startswith(("a text", "texts", "the name", "auto", "words")):
        return [word]
    try:
        return [parse_toml(f"x = {word}")["x"], word]
    except (DocumentError, LookupError):
        return [word]


def _write(path: Path, text: str) -> None:
    if not path.parent.exists():
        make_private_folder(path.parent)
    # A token may stand in it.
    write_whole(path, text, mode=None if path.exists() else PRIVATE)


def _masked(given: GivenSetting) -> Any:
    open_entry = bool(given.entry) and given.entry[-1] in _OPEN
    return HIDDEN if given.setting.secret and not open_entry else given.value


def _key(given: GivenSetting) -> str:
    """Its key as `config set` takes it."""
    return f"{given.setting.key}.{key_text(given.entry)}" if given.entry else given.name
