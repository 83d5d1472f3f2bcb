"""A process that answers one request within limits of time and memory: standard library only, run with `python -I`.

    limited_child.py SCRIPT MEMORY_BYTES CPU_S < request > answer

SCRIPT defines `answer(request: bytes) -> bytes`, and whatever it imports is imported before the limits begin. Where the
parent limits the memory, MEMORY_BYTES is 0. Exit code 3 says that it did not suffice; other ends are up to the system.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import NoReturn

OUT_OF_MEMORY = 3


def main() -> NoReturn:
    """Answer the request on stdin, within the limits in the arguments."""
    script, memory_bytes, cpu_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    answer = runpy.run_path(script)["answer"]
    request = sys.stdin.buffer.read()
    _limit(memory_bytes, cpu_s)
    try:
        sys.stdout.buffer.write(answer(request))
        sys.stdout.buffer.flush()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    # Without the interpreter's tidying up, which takes as long as the answer.
    os._exit(0)


def _limit(memory_bytes: int, cpu_s: int) -> None:
    if sys.platform == "win32":  # only the parent's clock limits the time there
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    if not memory_bytes:
        return
    with open("/proc/self/statm") as file:  # noqa: PTH123 - 5 ms less
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + memory_bytes
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
