# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands about prompt files: list their prompts, fill them, check them."""

from __future__ import annotations

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.options import VariableOptions
from lmstrix.ground.errors import LMStrixError


def list_(cli: CommandLine, /, file: str | None = None) -> None:
    """Show the prompts of a file, or the stored templates, with what each needs.

    Args:
        file: The prompt file (default: those in lmstrix/prompts of the home, which infer -t uses by name).
    """
    if file is not None:
        from lmstrix.reports.prompts import show_prompts
        from lmstrix.service.prompting import open_library

        show_prompts(cli.console, open_library(file))
        return
    from lmstrix.reports.templates import StoredPrompt, show_templates
    from lmstrix.service.templates import template_files, templates_folder

    files = template_files(cli.service)
    stored = [
        StoredPrompt(each.name_of(template.name), each.file, template)
        for each in files
        if each.library is not None
        for template in each.library.templates.values()
    ]
    problems = [each.problem for each in files if each.problem is not None]
    show_templates(cli.console, templates_folder(cli.service), stored, problems=problems)


def render(cli: CommandLine, /, file: str, names: str | None = None, *, fill: VariableOptions) -> None:
    """Fill prompts of a file and show what would be sent.

    Args:
        file: The prompt file.
        names: The prompts, joined with commas (default: the only one there is).
        variables: Variables: a=1,b='x, y'.
    """
    from lmstrix.loaders.prompts import parse_names
    from lmstrix.reports.prompts import show_rendered
    from lmstrix.service.prompting import render

    wanted = parse_names(names) if names else ()
    show_rendered(cli.console, render(file, wanted, fill.values()))


def lint(cli: CommandLine, /, file: str) -> None:
    """Find what is wrong, or looks wrong, in a prompt file. Fails when a prompt cannot be rendered.

    Args:
        file: The prompt file.
    """
    from lmstrix.reports.prompts import show_lint
    from lmstrix.service.prompting import lint

    findings = lint(file)
    show_lint(cli.console, findings)
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise LMStrixError(f"{file}: {errors} error{'s' if errors > 1 else ''}; each line above names one")
