# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""The command about the model that is asked where none is named."""

from __future__ import annotations

from lmstrix.cli.command_line import CommandLine
from lmstrix.ground.errors import UsageError


def default(cli: CommandLine, /, model: str | None = None, *, unset: bool = False) -> None:
    """Choose the model that infer, chat and batch ask where none is named, or show which it is.

    Args:
        model: The model; without it the present one is shown.
        unset: Have no default; the model used last is asked.
    """
    from lmstrix.reports.default_model import show_default_model

    if model is not None and unset:
        raise UsageError("give a MODEL or --unset, not both")
    service = cli.service
    if model is not None:
        cli.know_models()
    if model is not None or unset:
        service.choose_default_model(model)
    show_default_model(cli.console, service.default_model.read(), used_last=service.last_used.read())
