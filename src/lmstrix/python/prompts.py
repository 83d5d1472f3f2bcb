"""Prompt files in the Python API: what they hold, one of their prompts filled, and what is wrong with them.

No server is asked. `lms.infer(name, prompt_file=…, variables=…)` fills a prompt and sends it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmstrix.python.values import texts
from lmstrix.python.values import variables as checked_variables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lmstrix.api.portal import Portal
    from lmstrix.core.prompts.library import PromptTemplate, RenderedPrompt
    from lmstrix.core.prompts.lint import LintFinding
    from lmstrix.ground.documents import Value


class AsyncPrompts:
    """The prompts of TOML files, for asyncio."""

    async def templates(self, file: str | Path) -> list[PromptTemplate]:
        """The prompts of a file, with what each takes."""
        from lmstrix.service.prompting import open_library

        return [*(await asyncio.to_thread(open_library, file)).templates.values()]

    async def render(
        self, file: str | Path, names: str | Sequence[str] = (), variables: Mapping[str, Value] | None = None
    ) -> RenderedPrompt:
        """What would be sent: the named prompts filled, several joined; without names, the only one there is."""
        from lmstrix.service.prompting import render

        return await asyncio.to_thread(render, file, texts("names", names), checked_variables(variables))

    async def lint(self, file: str | Path) -> list[LintFinding]:
        """What is wrong, or looks wrong, in a file."""
        from lmstrix.service.prompting import lint

        return await asyncio.to_thread(lint, file)


class Prompts:
    """The prompts of TOML files."""

    def __init__(self, portal: Portal, prompts: AsyncPrompts) -> None:
        self._portal = portal
        self._prompts = prompts

    def templates(self, file: str | Path) -> list[PromptTemplate]:
        """The prompts of a file, with what each takes."""
        return self._portal.run(self._prompts.templates(file))

    def render(
        self, file: str | Path, names: str | Sequence[str] = (), variables: Mapping[str, Value] | None = None
    ) -> RenderedPrompt:
        """What would be sent: the named prompts filled, several joined; without names, the only one there is."""
        return self._portal.run(self._prompts.render(file, names, variables))

    def lint(self, file: str | Path) -> list[LintFinding]:
        """What is wrong, or looks wrong, in a file."""
        return self._portal.run(self._prompts.lint(file))
