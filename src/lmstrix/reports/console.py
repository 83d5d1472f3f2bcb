"""The channels of the terminal: results to stdout, as text, a table or JSON; everything else to stderr.

What shows a record stands in the module of its subject, beside the record's JSON form.
"""

from __future__ import annotations

import json as json_module
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from lmstrix.ground.stdio import shows_colors
from lmstrix.reports.folding import write_line
from lmstrix.reports.json_form import jsonable, yaml_fields
from lmstrix.reports.table import clean, harmless, render, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.reports.table import Column

_LEAST_TEXT_WIDTH = 20
"""With less room than this beside its beginning, a line is left to the terminal to break."""


class Console:
    """Where results go. `json` prints every result as one JSON object with a schema name, `yaml` that as YAML."""

    def __init__(self, *, json: bool = False, verbose: bool = False, quiet: bool = False, color: bool = True) -> None:
        self.json = json
        self.yaml = False
        self.verbose = verbose
        self.quiet = quiet
        self.color = color and "NO_COLOR" not in os.environ and shows_colors()

    def note(self, line: str) -> None:
        """A remark for the user, on stderr; not with --quiet."""
        if not self.quiet:
            write_line(sys.stderr, clean(line))

    def text(self, text: str) -> None:
        """Model text, exactly, on stdout; control characters that could drive a terminal are shown as "?" there."""
        sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()

    def result(self, schema: str, value: dict[str, Any]) -> None:
        """A result as JSON: {"schema": "lmstrix.<command>/1", …}."""
        if self.yaml:
            self.text("\n".join(yaml_fields(_tagged(schema, value))) + "\n")
            return
        self.bare_json(_tagged(schema, value))

    def bare_json(self, value: dict[str, Any] | list[Any]) -> None:
        """The same without a schema name: as the earlier LMStrix wrote it."""
        # A stdout of another encoding (Windows' code pages) would fail at, or garble, what ASCII escapes carry safely.
        ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        json_module.dump(value, sys.stdout, ensure_ascii=ascii_only, indent=2, default=jsonable)
        sys.stdout.write("\n")

    def result_line(self, schema: str, value: dict[str, Any]) -> None:
        """One result of many, as one line of JSON, written at once."""
        # Always ASCII: text may hold line breaks of Unicode's own (U+2028), at which some readers would split the line.
        sys.stdout.write(json_module.dumps(_tagged(schema, value), default=jsonable) + "\n")
        sys.stdout.flush()

    def width(self) -> int | None:
        """The columns of the terminal; None where a program reads the results."""
        if sys.stdout.isatty() or "COLUMNS" in os.environ:
            return shutil.get_terminal_size().columns
        return None

    def indented(self, beginning: str, text: str) -> None:
        """A line on stdout; on a terminal it is broken between words, and goes on below where the text began."""
        from textwrap import wrap

        columns, room = self.width(), width_of(beginning)
        if columns is None or columns - room < _LEAST_TEXT_WIDTH:
            lines = [text]
        else:
            lines = wrap(text, columns - room, break_long_words=False, break_on_hyphens=False)
        sys.stdout.write(beginning + f"\n{'':{room}}".join(lines) + "\n")

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        *,
        header: bool = True,
        max_width: int | None = None,
    ) -> None:
        """A table on stdout, as wide as the terminal, or as it wants to be when piped."""
        out = sys.stdout
        unicode = "utf" in (out.encoding or "").lower()
        out.write(
            render(
                columns,
                rows,
                max_width=max_width or self.width(),
                header=header,
                ellipsis="…" if unicode else "..",
                bold=self.color and out.isatty(),
            )
        )


def _tagged(schema: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"schema": f"lmstrix.{schema}/1", **value}
