"""What is done now, as one moving line on a terminal's stderr: words, how far it is, time spent and time left.

Nothing is drawn where nothing can move (over a pipe, with --quiet) and with --verbose, whose messages would tear the
line; the subclass that drives a line then shows the finished steps as notes.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Self

from lmstrix.ground.units import format_seconds
from lmstrix.reports.table import clean

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from lmstrix.reports.console import Console

_ALMOST_DONE = 0.999  # a task of Rich that reaches its total stops its clock
_LEAST_TOLD_S = 1.0  # less is over before it is read
_NARROW = 60  # columns; below, there is room for the words and the time left, and no more


class ProgressLine:
    """The line; use as a context manager. How the steps of a subject are worded is a subclass in its own module."""

    def __init__(self, console: Console, *, live: bool | None = None) -> None:
        self._console = console
        self.live = not console.quiet and not console.verbose and sys.stderr.isatty() if live is None else live
        self._drawn: tuple[Progress, TaskID] | None = None
        self.width = shutil.get_terminal_size().columns
        self._words = ""
        self._began_s = 0.0

    @property
    def narrow(self) -> bool:
        return self.width < _NARROW

    def __enter__(self) -> Self:
        if self.live:
            # Rich takes a tenth of a second to import, so only a line that is really drawn pays for it.
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.table import Column

            # The bar alone gives way where columns are short: half a clock or half a word tells nothing.
            clock = TimeElapsedColumn(table_column=Column(min_width=7, no_wrap=True))
            moving: list[ProgressColumn] = [BarColumn(bar_width=24), clock]
            progress = Progress(
                SpinnerColumn("line"),
                TextColumn("{task.description}", markup=False),
                *(moving if not self.narrow else []),
                TextColumn("{task.fields[tail]}", markup=False),
                console=RichConsole(stderr=True, no_color=not self._console.color),
                transient=True,
            )
            progress.start()
            self._drawn = progress, progress.add_task("starting", total=None, tail="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Also when an error passes: a terminal whose cursor stays hidden looks broken.
        self.end()

    def end(self) -> None:
        """Take the line away, for what is shown in its place. Nothing is drawn after."""
        drawn, self._drawn = self._drawn, None
        if drawn is not None:
            drawn[0].stop()

    def begin(self, words: str) -> None:
        """Something new: the clock starts again."""
        if self._drawn is not None:
            progress, task = self._drawn
            progress.reset(task, description=clean(words), total=1.0, tail="")

    def update(self, words: str, ratio: float | None = None, *, tail: str | None = None) -> None:
        """What is done, how far it is (None: not known), and after the clock `tail`, or else the time left."""
        if self._drawn is None:
            return
        progress, task = self._drawn
        done = min(ratio or 0.0, _ALMOST_DONE)
        progress.update(
            task,
            description=clean(words),
            total=None if ratio is None else 1.0,
            completed=done,
            tail=self._left(words, done) if tail is None else tail,
        )

    def _left(self, words: str, ratio: float) -> str:
        """What is left of the present step at its present pace; nothing before that can be told."""
        now_s = time.monotonic()
        # A step that starts again (the next load) has the same words; its ratio falls back to zero.
        if words != self._words or ratio == 0.0:
            self._words, self._began_s = words, now_s
        left_s = (now_s - self._began_s) / ratio * (1.0 - ratio) if ratio else 0.0
        return f"{format_seconds(left_s)} left" if left_s >= _LEAST_TOLD_S else ""
