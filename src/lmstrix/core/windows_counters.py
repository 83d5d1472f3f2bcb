"""Windows' performance counters: what every instance of a counter holds now, through its pdh.dll.

Values are raw: as the driver behind a counter gives them, which for sizes and for meters that count up is the value
itself. Rates, which Windows computes of two readings, are no use here: whoever reads meters computes them better.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

_MORE_DATA = 0x800007D2  # PDH_MORE_DATA: the answer to "how large must the buffer be"
_STATUS = 0xFFFFFFFF  # statuses are unsigned, and ctypes hands them out signed


class Pdh(Protocol):
    """The part of pdh.dll that is used here; each returns a status, 0 for success."""

    def PdhOpenQueryW(self, source: object, user_data: object, query: object) -> int: ...  # noqa: N802 - PDH's names
    def PdhAddEnglishCounterW(  # noqa: N802
        self, query: object, path: object, user_data: object, counter: object
    ) -> int: ...
    def PdhCollectQueryData(self, query: object) -> int: ...  # noqa: N802
    def PdhGetRawCounterArrayW(self, counter: object, size: object, count: object, items: object) -> int: ...  # noqa: N802
    def PdhCloseQuery(self, query: object) -> int: ...  # noqa: N802


class Counters:
    """Counters of these paths, each with a `*` for its instance, held open until `close`."""

    def __init__(self, paths: Sequence[str], pdh: Pdh) -> None:
        import ctypes

        self._pdh = pdh
        self._query = ctypes.c_void_p()
        self._counters: list[ctypes.c_void_p | None] = [None] * len(paths)
        if pdh.PdhOpenQueryW(None, ctypes.c_size_t(0), ctypes.byref(self._query)) & _STATUS:
            return
        for place, path in enumerate(paths):
            counter = ctypes.c_void_p()
            # By their English names: others are translated with the system.
            status = pdh.PdhAddEnglishCounterW(self._query, path, ctypes.c_size_t(0), ctypes.byref(counter))
            self._counters[place] = counter if not status & _STATUS else None

    def read(self) -> list[dict[str, int]]:
        """For each path what its instances hold now, by their names; none where this machine has no such counter."""
        if not any(self._counters) or self._pdh.PdhCollectQueryData(self._query) & _STATUS:
            return [{} for _ in self._counters]
        return [self._instances(counter) if counter is not None else {} for counter in self._counters]

    def _instances(self, counter: object) -> dict[str, int]:
        import ctypes

        class Item(ctypes.Structure):
            """PDH_RAW_COUNTER_ITEM_W, with the PDH_RAW_COUNTER in it."""

            _fields_ = (
                ("name", ctypes.c_wchar_p),
                ("status", ctypes.c_uint32),
                ("time_low", ctypes.c_uint32),
                ("time_high", ctypes.c_uint32),
                ("first_value", ctypes.c_int64),
                ("second_value", ctypes.c_int64),
                ("multi_count", ctypes.c_uint32),
            )

        size, count = ctypes.c_uint32(0), ctypes.c_uint32(0)
        sizes = ctypes.byref(size), ctypes.byref(count)
        if self._pdh.PdhGetRawCounterArrayW(counter, *sizes, None) & _STATUS != _MORE_DATA:
            return {}
        buffer = ctypes.create_string_buffer(size.value)
        if self._pdh.PdhGetRawCounterArrayW(counter, *sizes, buffer) & _STATUS:
            return {}
        items = ctypes.cast(buffer, ctypes.POINTER(Item))
        # The values follow a 0 or 1: valid, or valid and new.
        return {items[i].name: items[i].first_value for i in range(count.value) if items[i].status in (0, 1)}

    def close(self) -> None:
        if self._query:
            self._pdh.PdhCloseQuery(self._query)


def open_counters(*paths: str) -> Counters | None:
    """The counters of these paths; None on other systems."""
    if sys.platform != "win32":
        return None
    import ctypes

    return Counters(paths, cast("Pdh", ctypes.WinDLL("pdh")))
