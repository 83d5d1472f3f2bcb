"""An upper bound of memory bandwidth, to tell impossible decode rates: each token of a dense model reads its weights.

It is measured in a moment by copying a large block on several threads at once (ctypes lets them run together), reads
and writes both counted. The result is doubled, because a bound that is wrong must be too high. The bandwidth of NVIDIA
cards is not measured but calculated from bus width and clock.
"""

from __future__ import annotations

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor

_BLOCK_BYTES = 64 * 2**20
_COPIES = 4
_MARGIN = 2.0
_MOST_THREADS = 8


def memory_bandwidth_bound() -> float:
    """Bytes per second that the fastest memory here cannot exceed."""
    return _MARGIN * max(measured_bytes_per_s(), *cards_bytes_per_s(), 0.0)


def measured_bytes_per_s() -> float:
    """What copying a block in main memory moves, read and written, on several threads; a tenth of a second."""
    threads = max(1, min(_MOST_THREADS, os.cpu_count() or 1))
    # Larger than any processor's cache, and split, because one core alone cannot fill the bus.
    pairs = [
        (ctypes.create_string_buffer(_BLOCK_BYTES // threads), ctypes.create_string_buffer(_BLOCK_BYTES // threads))
        for _ in range(threads)
    ]
    fastest = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_COPIES):  # the fastest counts: the first one still has the pages to map
            began = time.perf_counter()
            list(pool.map(lambda pair: ctypes.memmove(pair[0], pair[1], len(pair[0])), pairs))
            took_s = time.perf_counter() - began
            fastest = max(fastest, 2 * _BLOCK_BYTES / took_s)
    return fastest


def cards_bytes_per_s() -> list[float]:
    """The memory bandwidth of each NVIDIA card: bus width in bytes, twice the clock."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [
            pynvml.nvmlDeviceGetMemoryBusWidth(handle)
            / 8
            * 2
            * pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM)
            * 1e6
            for handle in handles
        ]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()
