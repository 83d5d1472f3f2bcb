"""Tables and lists as templates see them: with their keys and places, and without the methods of Python's own.

minijinja looks an attribute up among the keys and then among the methods, so a table without the key `values` would
have a value there after all. Here a key that is not there is undefined, whatever its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def keys_only(value: object) -> object:
    """The value with every table and list in it made so."""
    if isinstance(value, str):  # first, as nearly every value is one
        return value
    if isinstance(value, Mapping):
        return _Table({key: keys_only(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return _List([keys_only(item) for item in value])
    return value


class _List(list[object]):
    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise AttributeError(name)


class _Table(dict[str, object]):
    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return super().__getattribute__(name)
        # By this one method minijinja knows a table, and json reads it.
        if name == "items":
            return _Entries(self)
        raise AttributeError(name)


class _Entries:
    """What a template finds as `items` in a table without that key: nothing, unless it is called."""

    def __init__(self, table: _Table) -> None:
        self._table = table

    def __call__(self) -> list[tuple[str, object]]:
        return [(key, self._table[key]) for key in self._table]

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[object]:
        return iter(())
