"""Stored templates on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lmstrix.reports.prompts import template_json
from lmstrix.reports.table import Column

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lmstrix.core.prompts.library import PromptTemplate
    from lmstrix.reports.console import Console

_COLUMNS = (Column(title="TEMPLATE"), Column(title="TAKES", shrink=True), Column(title="DESCRIPTION", shrink=True))


class StoredPrompt(NamedTuple):
    """A prompt of a stored file, and the name it is used by."""

    name: str
    file: Path
    template: PromptTemplate


def show_templates(
    console: Console, folder: Path, prompts: Sequence[StoredPrompt], *, problems: Sequence[str] = ()
) -> None:
    """The templates in `folder` with what each takes, and the files there that cannot be read."""
    if console.json:
        templates = [
            {**template_json(each.template), "name": each.name, "prompt": each.template.name, "file": str(each.file)}
            for each in prompts
        ]
        console.result("templates", {"folder": str(folder), "templates": templates, "problems": list(problems)})
        return
    rows = [(each.name, ", ".join(each.template.placeholders), each.template.description) for each in prompts]
    if rows:
        console.table(_COLUMNS, rows)
    elif not problems:
        console.note(f"no templates yet; lmstrix infer -t NAME uses the prompts of .toml files in {folder}")
    for problem in problems:
        console.note(problem)
