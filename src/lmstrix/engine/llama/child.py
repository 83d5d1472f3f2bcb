"""The process that hosts llama.cpp for one loaded model: standard library and xllamacpp only, started with `python -I`.

Protocol: `{"pid": own id}` on stdout; one JSON line of options on stdin; one JSON line on stdout, `{"ready": address}`
or `{"failed": text}`; then silence. Told of no model, it answers with what it takes itself and what llama.cpp sees,
`{"idle": {…}}`, and ends. Everything llama.cpp prints goes to stderr.

The process ends when stdin does: the parent holds the other end, so not even a killed parent leaves it behind. During a
load, which lets no other thread of Python run, the system sees to it: Linux by a signal at the parent's death, Windows
by the parent's job object, and macOS, which has neither, by a watcher: a second process that waits for the same end.

A limit on the address space makes llama.cpp's own allocations fail inside the load, where they can be reported, instead
of bringing the machine down at the first deep prompt: buffers are reserved at load but touched much later.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = 800
"""Makes the kernel choose a model, not the front or the user's programs, when memory runs out after all."""
_MOST_INHERITED = 64
"""A process that has just begun has a handful of open files."""
_LOG_GRACE_S = 0.15
"""llama.cpp writes its log from a thread of its own; a failed load's reason is lost unless that gets to it."""


def main() -> NoReturn:
    """Load the model the parent describes, report, and serve until stdin ends."""
    # llama.cpp and its libraries print to stdout as they like; from here on that goes to stderr, and the
    # report alone keeps the way to the parent.
    report_fd = os.dup(1)
    os.dup2(2, 1)
    _end_with_parent()
    # Only now: who gets this line and sends the options is alive after the system was asked to tell of its death.
    os.write(report_fd, json.dumps({"pid": os.getpid()}).encode() + b"\n")
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    options = json.loads(line)
    if options["watcher"]:
        start_watcher()
    _limit_memory(options["address_space_bytes"])
    report: dict[str, Any]
    try:
        import xllamacpp  # noqa: F401 - for its effect

        # After the import: on Windows a library that looks at stdin as it starts (numpy's) waits for a read of it.
        threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
        if options["model"] is None:
            report = {"idle": _idle()}
        else:
            server = _serve(options)  # it stops when nobody holds it any more
            report = {"ready": server.listening_address}
    except Exception as exc:  # noqa: BLE001 - whatever stops the load is what the parent must be told
        report = {"failed": f"{type(exc).__name__}: {exc}"}
    os.write(report_fd, json.dumps(report).encode() + b"\n")
    os.close(report_fd)
    if "failed" in report:
        time.sleep(_LOG_GRACE_S)
        os._exit(1)
    if "idle" in report:
        os._exit(0)
    threading.Event().wait()
    os._exit(0)


def _exit_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _end_with_parent() -> None:
    """Ask the system for it, where it does such a thing, and leave interrupts to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the parent, which then ends us
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start_watcher() -> None:
    """Start a process that ends this one at the end of our input, and itself at our end.

    It is a fork, so it costs a few pages; it must come before there are threads.
    """
    if sys.platform == "win32":
        raise NotImplementedError("a job object does it there")
    model = os.getpid()
    alive, ours = os.pipe()
    if os.fork():
        # The other end stays open for as long as we live.
        os.close(alive)
        return
    os.close(ours)
    # What else it has inherited would look as if we still held it.
    os.closerange(1, alive)
    os.closerange(alive + 1, _MOST_INHERITED)
    # Nothing is sent after the options: to be readable is to have ended.
    ended, _, _ = select.select([0, alive], [], [])
    if alive not in ended:
        os.kill(model, signal.SIGKILL)
    os._exit(0)


def _limit_memory(address_space_bytes: int | None) -> None:
    """Be the first choice of the out-of-memory killer, and keep to the address space given."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - 5 ms less
            file.write(str(_OOM_SCORE))
    if address_space_bytes is not None and sys.platform != "win32":
        import resource

        # The system may allow less than asked for already; then its limit stands.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))


def _idle() -> dict[str, Any]:
    """The address space taken before a model is loaded, and what this build of llama.cpp can compute on."""
    import xllamacpp

    address_space = 0
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:  # noqa: PTH123 - 5 ms less
            address_space = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    kinds = {"GGML_BACKEND_DEVICE_TYPE_GPU": False, "GGML_BACKEND_DEVICE_TYPE_IGPU": True}
    graphics = [
        {
            "backend": device["name"],
            "name": device["description"],
            "integrated": kinds[device["type"].name],
            "total_bytes": device["memory_total"],
            "free_bytes": device["memory_free"],
        }
        for device in xllamacpp.get_device_info()
        if device["type"].name in kinds
    ]
    return {
        "address_space_bytes": address_space,
        "graphics": graphics,
        "system_info": xllamacpp.get_system_info(),
    }


def _serve(options: dict[str, Any]) -> Any:
    """Start llama.cpp's HTTP server; it runs on threads of its own."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    if options["mmproj"]:
        params.mmproj.path = options["mmproj"]
    for name, value in options["params"].items():
        setattr(params, name, value)
    for name, (enum, member) in options["enums"].items():
        setattr(params, name, getattr(getattr(xllamacpp, enum), member))
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = options["threads"]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
