"""The entry point: words in, exit code out. Everything costly is imported only once it is known to be needed."""

from __future__ import annotations

import errno
import os
import sys

from lmstrix.ground.stdio import is_closed_pipe, prepare_output

_OUTPUT_FAILURES = (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF)


def main() -> int:
    """Run one command line; return its exit code (0 done, 1 failed, 2 usage, 3 no server, 128 + n for signal n)."""
    _open_closed_streams()
    prepare_output()
    try:
        code = _version() if sys.argv[1:] in (["--version"], ["-V"], ["version"]) else _run(sys.argv[1:])
        sys.stdout.flush()
    except OSError as exc:
        if is_closed_pipe(exc):
            # The reader has seen enough (`lmstrix list | head`): no error of ours, and nothing more can be said to it.
            _forget_output()
            return 0
        sys.stderr.write(f"lmstrix: the output cannot be written: {exc.strerror or exc}\n")
        _forget_output()
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("lmstrix: interrupted\n")
        return 130
    return code


def _version() -> int:
    from lmstrix.ground.version import __version__

    sys.stdout.write(f"lmstrix {__version__}\n")
    return 0


def _forget_output() -> None:
    """What is still to be written goes nowhere, so that the interpreter's own last flush has nothing to complain of."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    from lmstrix.cli.stop_signals import StopSignals
    from lmstrix.ground.errors import LMStrixError
    from lmstrix.ground.text import one_line

    debug = "--debug" in words
    stop = StopSignals()
    try:
        with stop.heard():
            from lmstrix.cli.app import run

            return run(words)
    except KeyboardInterrupt:
        sys.stderr.write(f"lmstrix: {stop.word}\n")
        return stop.exit_code
    except LMStrixError as exc:
        if debug:
            raise
        from lmstrix.reports.folding import write_line
        from lmstrix.reports.table import clean

        write_line(sys.stderr, f"lmstrix: {clean(one_line(exc))}")
        return exc.exit_code
    except OSError as exc:
        if debug or is_closed_pipe(exc) or (exc.filename is None and exc.errno in _OUTPUT_FAILURES):
            raise  # main says so, once
        sys.stderr.write(f"lmstrix: {exc.strerror or exc}{f': {exc.filename}' if exc.filename else ''}\n")
        return 1
    except ModuleNotFoundError as exc:
        if debug or (exc.name or "").partition(".")[0] == "lmstrix":
            raise
        sys.stderr.write(
            f"lmstrix: the package {exc.name} is missing: pip install lmstrix (lmstrix doctor tells more)\n"
        )
        return 1
    except Exception as exc:  # the process ends here: a fault of ours is one line too
        if debug:
            raise
        sys.stderr.write(f"lmstrix: internal error, {type(exc).__name__}: {one_line(exc)} (add --debug)\n")
        return 1


def _open_closed_streams() -> None:
    """Where we were started with a closed stream (`lmstrix list >&-`), open one in its place.

    Python then has None there, and the next file opened would take its number and be written into by a library. Input
    is empty and errors go nowhere, but output must not seem to have been written: writing to what is only read fails.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


if __name__ == "__main__":
    # `python -m` looks in the working folder first, where somebody else's json.py must not run as ours.
    if not sys.flags.safe_path:
        del sys.path[0]
    sys.exit(main())
