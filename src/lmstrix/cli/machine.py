# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands about this machine and this program."""

from __future__ import annotations

from lmstrix.cli.command_line import CommandLine
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.units import counted


def doctor(cli: CommandLine, /, model: str | None = None) -> None:
    """Check what works on this machine, with remedies. Needs nothing installed.

    With a MODEL it examines that one instead: tested context, file, memory, layers, speed, defaults, and what to
    change. Loads nothing.

    Args:
        model: The model to examine.
    """
    from lmstrix.core.health import ModelReport
    from lmstrix.reports.machine import show_doctor

    # Of a model nothing true can be said under other settings than those meant.
    invalid = cli.excuse_settings() if model is None else None
    report = cli.run(cli.service.doctor(invalid, model=model))
    if isinstance(report, ModelReport):
        from lmstrix.reports.model_report import show_model_report

        show_model_report(cli.console, report)
    else:
        show_doctor(cli.console, report)
    if not report.ok:
        raise LMStrixError(f"{counted(report.problems, 'problem')} found, named above")


def demo(cli: CommandLine, /) -> None:
    """The whole story in a minute, on the embedded engine and a small bundled model."""
    from lmstrix.cli.demo import run_demo

    steps = run_demo(cli.console.note, json=cli.console.json)
    if cli.console.json:
        cli.console.result("demo", {"steps": [{"command": step.command, "output": step.output} for step in steps]})


def version(cli: CommandLine, /) -> None:
    """Print the version (also --version)."""
    from lmstrix.ground.version import __version__
    from lmstrix.reports.machine import show_version

    show_version(cli.console, __version__)
