"""The entry point: words in, exit code out. Everything costly is imported only once it is known to be needed."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run one command line; return its exit code (0 done, 1 failed, 2 usage, 3 no server, 130 interrupted)."""
    if sys.argv[1:] in (["--version"], ["-V"], ["version"]):
        from lmstrix import __version__

        sys.stdout.write(f"lmstrix {__version__}\n")
        return 0
    _tolerate_any_terminal()
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`lmstrix list | head`): not an error of ours, and nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("lmstrix: interrupted\n")
        return 130
    return code


def _run(words: list[str]) -> int:
    from lmstrix.errors import LMStrixError

    debug = "--debug" in words
    try:
        from lmstrix.commands import run

        return run(words)
    except LMStrixError as exc:
        if debug:
            raise
        from lmstrix.reports.table import clean

        sys.stderr.write(f"lmstrix: {clean(' '.join(str(exc).split()))}\n")
        return exc.exit_code
    except OSError as exc:
        if debug or isinstance(exc, BrokenPipeError):
            raise
        sys.stderr.write(f"lmstrix: {exc.strerror or exc}{f': {exc.filename}' if exc.filename else ''}\n")
        return 1
    except Exception as exc:  # the process ends here: a fault of ours is one line too
        if debug:
            raise
        sys.stderr.write(f"lmstrix: internal error, {type(exc).__name__}: {' '.join(str(exc).split())} (add --debug)\n")
        return 1


def _tolerate_any_terminal() -> None:
    """Characters a terminal cannot show become "?" instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
