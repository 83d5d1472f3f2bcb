"""What an answer is at while nothing of it is shown yet: the model loads, it reads the prompt, it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.types import PromptProgress, TextDelta
from lmstrix.reports.progress import ProgressLine

if TYPE_CHECKING:
    from lmstrix.ground.types import StreamEvent


class AnswerProgressLine(ProgressLine):
    """One answer on its way. Ended by who shows the text, or by leaving it."""

    _tokens = 0

    def load(self, ratio: float) -> None:
        """The model is being loaded."""
        self.update("loading the model", ratio)

    def read(self) -> None:
        """The model is ready, and the prompt is sent."""
        self.begin("reading the prompt")

    def show(self, event: StreamEvent) -> None:
        """Something came that is not shown by itself."""
        if isinstance(event, PromptProgress):
            self.update("reading the prompt", event.ratio)
        elif isinstance(event, TextDelta):
            if not self._tokens:
                self.begin("answering")
            # Servers that do not count the tokens of a piece send one at a time.
            self._tokens += event.tokens or 1
            self.update("thinking" if event.reasoning else "answering", tail=f"{self._tokens:,} tokens")
