"""Settings on the terminal: each with its value and where that comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from lmstrix.reports.table import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.reports.console import Console

_COLUMNS = (
    Column(title="SETTING"),
    Column(title="VALUE", shrink=True, keep=12),
    Column(title="FROM", shrink=True, keep=12),
)


class Shown(Protocol):
    """A setting to show."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> Any: ...
    @property
    def origin(self) -> str: ...


def show_settings(console: Console, settings: Sequence[Shown], *, nothing: str = "") -> None:
    """All of them, in their order."""
    if console.json:
        console.result("config", {"settings": [{"key": s.key, "value": s.value, "from": s.origin} for s in settings]})
    elif settings:
        console.table(_COLUMNS, [(each.key, _text(each.value), each.origin) for each in settings])
    else:
        console.note(nothing)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
