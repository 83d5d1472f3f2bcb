"""Job objects of Windows: processes that end with us, however we end, and a limit on the memory they take together.

A process is created suspended, put into its job, and resumed, so that nothing it starts escapes. The job's handle is
ours alone; when it is closed, by `close` or by the system because we have ended, everything in the job ends.

The limit counts committed memory, which is refused to the process that asks for more: buffers and thread stacks count
at once, touched or not, files that are mapped do not.
"""

from __future__ import annotations

import sys
from typing import Final, Protocol

CREATE_SUSPENDED: Final = 0x00000004
KILL_ON_JOB_CLOSE: Final = 0x00002000
JOB_MEMORY: Final = 0x00000200


class JobCalls(Protocol):
    """The calls to Windows. Each raises OSError; jobs and processes are handles."""

    def create_job(self) -> int: ...

    def set_limits(self, job: int, *, flags: int, memory_bytes: int) -> None: ...

    def open_process(self, pid: int) -> int: ...

    def assign(self, job: int, process: int) -> None: ...

    def resume(self, process: int) -> None: ...

    def close(self, handle: int) -> None: ...


class Job:
    """A job without processes; `memory_limit_bytes` None limits nothing."""

    def __init__(self, calls: JobCalls, memory_limit_bytes: int | None) -> None:
        self._calls = calls
        self._handle: int | None = calls.create_job()
        limited = 0 if memory_limit_bytes is None else JOB_MEMORY
        calls.set_limits(self._handle, flags=KILL_ON_JOB_CLOSE | limited, memory_bytes=memory_limit_bytes or 0)

    def take(self, pid: int) -> None:
        """Put a process that was created suspended into the job, and let it run. Raises OSError."""
        assert self._handle is not None
        process = self._calls.open_process(pid)
        try:
            self._calls.assign(self._handle, process)
            self._calls.resume(process)
        finally:
            self._calls.close(process)

    def close(self) -> None:
        """End everything in it."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._calls.close(handle)


def open_job(memory_limit_bytes: int | None) -> Job | None:
    """A new job; None on other systems than Windows. Raises OSError."""
    if sys.platform == "win32":
        return Job(_WindowsCalls(), memory_limit_bytes)
    return None


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _EXTENDED_LIMIT_INFORMATION: Final = 9
    # PROCESS_TERMINATE and PROCESS_SET_QUOTA, which a job asks for, and PROCESS_SUSPEND_RESUME.
    _ACCESS: Final = 0x0001 | 0x0100 | 0x0800

    class _BasicLimits(ctypes.Structure):
        _fields_ = (
            ("PerProcessUserTimeLimit", wintypes.LARGE_INTEGER),
            ("PerJobUserTimeLimit", wintypes.LARGE_INTEGER),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
        )

    class _ExtendedLimits(ctypes.Structure):
        _fields_ = (
            ("BasicLimitInformation", _BasicLimits),
            ("IoInfo", ctypes.c_ulonglong * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        )

    class _WindowsCalls:
        """`JobCalls` through ctypes. Handles are declared as such: ctypes would cut them to 32 bits."""

        def __init__(self) -> None:
            kernel = ctypes.WinDLL("kernel32", use_last_error=True)
            kernel.CreateJobObjectW.restype = wintypes.HANDLE
            kernel.CreateJobObjectW.argtypes = (ctypes.c_void_p, wintypes.LPCWSTR)
            kernel.SetInformationJobObject.argtypes = (wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD)
            kernel.OpenProcess.restype = wintypes.HANDLE
            kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
            kernel.AssignProcessToJobObject.argtypes = (wintypes.HANDLE, wintypes.HANDLE)
            kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
            self._kernel = kernel
            # What psutil's resume() calls: the thread's own handle, which ResumeThread wants, `subprocess` has closed.
            self._resume = ctypes.WinDLL("ntdll").NtResumeProcess
            self._resume.argtypes = (wintypes.HANDLE,)

        def create_job(self) -> int:
            return self._told(self._kernel.CreateJobObjectW(None, None))

        def set_limits(self, job: int, *, flags: int, memory_bytes: int) -> None:
            limits = _ExtendedLimits()
            limits.BasicLimitInformation.LimitFlags = flags
            limits.JobMemoryLimit = memory_bytes
            self._told(
                self._kernel.SetInformationJobObject(
                    job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
                )
            )

        def open_process(self, pid: int) -> int:
            return self._told(self._kernel.OpenProcess(_ACCESS, False, pid))

        def assign(self, job: int, process: int) -> None:
            self._told(self._kernel.AssignProcessToJobObject(job, process))

        def resume(self, process: int) -> None:
            status: int = self._resume(process)
            if status < 0:
                raise OSError(f"a process cannot be resumed (NTSTATUS {status & 0xFFFFFFFF:#x})")

        def close(self, handle: int) -> None:
            self._told(self._kernel.CloseHandle(handle))

        def _told(self, result: int | None) -> int:
            # A handle that is null comes as None; of what is no handle, 0 says that it failed.
            if not result:
                raise ctypes.WinError(ctypes.get_last_error())
            return result
