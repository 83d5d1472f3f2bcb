"""Prompt files on the terminal: their prompts, one filled, and what lint finds in them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lmstrix.reports.json_form import json_form
from lmstrix.reports.table import Column, clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.prompts.library import PromptLibrary, PromptTemplate, RenderedPrompt
    from lmstrix.core.prompts.lint import LintFinding
    from lmstrix.reports.console import Console

_COLUMNS = (Column(title="PROMPT"), Column(title="TAKES", shrink=True), Column(title="DESCRIPTION", shrink=True))


def show_prompts(console: Console, library: PromptLibrary) -> None:
    """The prompts of a file, with what each takes."""
    templates = library.templates.values()
    if console.json:
        prompts = [template_json(template) for template in templates]
        console.result("prompts", {"file": library.source, "prompts": prompts})
        return
    rows = [(t.name, ", ".join(t.placeholders), t.description) for t in templates]
    if rows:
        console.table(_COLUMNS, rows)
    else:
        console.note(f"{library.source} has no prompts")


def template_json(template: PromptTemplate) -> dict[str, Any]:
    """What a prompt is, without its text."""
    return {
        "name": template.name,
        "description": template.description,
        "placeholders": template.placeholders,
        "defaults": sorted(template.defaults),
        "version": template.version,
        "tags": template.tags,
    }


def show_rendered(console: Console, rendered: RenderedPrompt) -> None:
    """A filled prompt, byte for byte what would be sent."""
    if console.json:
        console.result("prompts", {"prompt": rendered.text, **json_form(rendered, without=("text",))})
        return
    if rendered.system_prompt:
        console.note(f"system prompt: {rendered.system_prompt}")
    for name in rendered.unused:
        console.note(f"{name} is given, but the prompt does not ask for it")
    # On a terminal the shell's next prompt would otherwise stand in the last line; a pipe gets no byte too many.
    console.text(rendered.text + ("\n" if sys.stdout.isatty() else ""))


def show_lint(console: Console, findings: Sequence[LintFinding]) -> None:
    """What lint found, one line per finding."""
    if console.json:
        console.result("prompts", {"findings": [json_form(finding) for finding in findings]})
        return
    for finding in findings:
        sys.stdout.write(clean(f"{finding.severity:<8}{finding.prompt}: {finding.message}") + "\n")
    if not findings:
        console.note("nothing to remark")
