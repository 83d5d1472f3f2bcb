# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands about this machine and this program."""

from __future__ import annotations

from lmstrix.cli.command_line import CommandLine
from lmstrix.ground.errors import LMStrixError


def doctor(cli: CommandLine, /) -> None:
    """Check what works on this machine, with remedies. Needs nothing installed."""
    from lmstrix.reports.machine import show_doctor

    report = cli.run(cli.service.doctor())
    show_doctor(cli.console, report)
    if not report.ok:
        raise LMStrixError(f"{report.problems} problem(s) found; each line above names its remedy")


def demo(cli: CommandLine, /) -> None:
    """The whole story in a minute, on the embedded engine and a small bundled model."""
    from lmstrix.cli.demo import run_demo

    run_demo(cli.console.note)


def version(cli: CommandLine, /) -> None:
    """Print the version (also --version)."""
    from lmstrix.ground.version import __version__
    from lmstrix.reports.machine import show_version

    show_version(cli.console, __version__)
