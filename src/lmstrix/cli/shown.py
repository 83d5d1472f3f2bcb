"""How an answer is shown: as it comes or whole, as Markdown, or only the code in it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.choices import ShowOrHide  # noqa: TC001 - describe() evaluates the annotations
from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from lmstrix.ground.choices import CodeBlock
    from lmstrix.reports.console import Console


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownOptions:
    """How an answer is shown.

    Args:
        stream: Print the answer as it comes (default: on a terminal; --no-stream waits for its end).
        markdown: On a terminal, show headings, lists and code as such, each block when it is whole.
        extract: Print only the first code block of the answer; fail where it has none.
        extract_last: Print only the last code block.
        reasoning: show or hide what the model thinks before it answers, on stderr (default: shown where the answer is
            printed as it comes).
    """

    stream: bool | None = None
    markdown: bool = False
    extract: bool = False
    extract_last: bool = False
    reasoning: ShowOrHide | None = None

    @property
    def code_block(self) -> CodeBlock | None:
        """Which code block is all that is wanted, if any."""
        if self.extract and self.extract_last:
            raise UsageError("give --extract or --extract-last, not both")
        return "first" if self.extract else "last" if self.extract_last else None

    def live(self, console: Console) -> bool:
        """Whether to print the answer as it comes."""
        # JSON is one object, and a code block is known only at its end: neither may be mixed with the text as it comes.
        if console.json or self.code_block is not None:
            return False
        return sys.stdout.isatty() if self.stream is None else self.stream

    def thoughts(self, *, live: bool) -> bool:
        """Whether to show the model's reasoning, where the answer is printed as it comes or not."""
        return live if self.reasoning is None else self.reasoning == "show"

    def rendered(self) -> bool:
        """Whether to render Markdown: through a pipe the text stays what the model wrote."""
        return self.markdown and sys.stdout.isatty()
