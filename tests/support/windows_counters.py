"""Windows' performance counters played back: a pdh.dll that holds what was recorded, and fills buffers as it does."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

_MORE_DATA = 0x800007D2 - 2**32  # signed, as ctypes hands it out
_NO_OBJECT = 0xC0000BB8 - 2**32


class RecordedPdh:
    """Counters by path, each with the values of its instances; a value of None is one that Windows calls invalid."""

    def __init__(self, counters: Mapping[str, Mapping[str, int | None]]) -> None:
        self.counters = {path: dict(instances) for path, instances in counters.items()}
        self.open_queries = 0
        self.failing = False
        self._paths: list[str] = []

    def PdhOpenQueryW(self, source: object, user_data: object, query: Any) -> int:  # noqa: N802 - PDH's names
        self.open_queries += 1
        query._obj.value = 77
        return 0

    def PdhAddEnglishCounterW(  # noqa: N802
        self, query: object, path: object, user_data: object, counter: Any
    ) -> int:
        if path not in self.counters:
            return _NO_OBJECT
        self._paths.append(str(path))
        counter._obj.value = len(self._paths)
        return 0

    def PdhCollectQueryData(self, query: object) -> int:  # noqa: N802
        return _NO_OBJECT if self.failing else 0

    def PdhGetRawCounterArrayW(self, counter: Any, size: Any, count: Any, items: Any) -> int:  # noqa: N802
        instances = self.counters[self._paths[counter.value - 1]]
        array = (_Item * len(instances))(
            *(
                _Item(name=name, status=0 if value is not None else 0xC0000BBA, first_value=value or 0)
                for name, value in instances.items()
            )
        )
        needed = ctypes.sizeof(array)
        if not needed or items is None or size._obj.value < needed:
            size._obj.value = needed
            return _MORE_DATA if needed else 0
        self._kept = array  # the names lie outside the buffer
        ctypes.memmove(items, array, needed)
        count._obj.value = len(instances)
        return 0

    def PdhCloseQuery(self, query: object) -> int:  # noqa: N802
        self.open_queries -= 1
        return 0


class _RawCounter(ctypes.Structure):
    """PDH_RAW_COUNTER, with the FILETIME in it."""

    _fields_ = (
        ("CStatus", ctypes.c_uint32),
        ("TimeStamp", ctypes.c_uint32 * 2),
        ("FirstValue", ctypes.c_int64),
        ("SecondValue", ctypes.c_int64),
        ("MultiCount", ctypes.c_uint32),
    )


class _Item(ctypes.Structure):
    """PDH_RAW_COUNTER_ITEM_W."""

    _fields_ = (("szName", ctypes.c_wchar_p), ("RawValue", _RawCounter))

    def __init__(self, name: str, status: int, first_value: int) -> None:
        super().__init__(name, cast("Any", _RawCounter(status, (ctypes.c_uint32 * 2)(), first_value, 0, 1)))
