"""Lines on a terminal: no word in two pieces, nothing lost, and for programs exactly what was written."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.reports.folding import at_words, write_line
from lmstrix.reports.table import width_of

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "no effect here: 11 settings of the earlier LMStrix (lmstrix config validate names what)"


@given(st.text("ab漢 ", max_size=80), st.integers(2, 30))
def test_pieces_are_the_line_and_fit_unless_they_are_one_word(line: str, columns: int) -> None:
    pieces = at_words(line, columns)
    assert " ".join(pieces) == line
    assert [piece for piece in pieces if width_of(piece) > columns and " " in piece] == []


def test_a_program_gets_one_line() -> None:
    stream = io.StringIO()
    write_line(stream, NOTE * 4)
    assert stream.getvalue() == NOTE * 4 + "\n"


@pytest.mark.needs_posix("no pseudo-terminals")
@pytest.mark.parametrize(("columns", "lines"), [(40, 3), (200, 1), (0, 1)])
def test_a_terminal_gets_whole_words(columns: int, lines: int) -> None:
    import pty
    import termios

    reading, writing = pty.openpty()
    termios.tcsetwinsize(writing, (30, columns))
    with os.fdopen(writing, "w") as stream:
        write_line(stream, NOTE)
        shown = os.read(reading, 65536).decode().splitlines()
    os.close(reading)
    assert len(shown) == lines
    assert " ".join(shown) == NOTE
    assert columns == 0 or max(map(len, shown)) <= columns


@pytest.mark.needs_posix("no pseudo-terminals")
def test_notes_and_errors_of_a_command_break_between_words(tmp_path: Path) -> None:
    import pty
    import termios

    from tests.cli.processes import finish, start

    reading, writing = pty.openpty()
    termios.tcsetwinsize(writing, (30, 50))
    environment = {"LMSTRIX_HOME": str(tmp_path), "LMSTRIX_MODELS_DIR": str(tmp_path / "none")}
    running = start("scan", stderr=writing, environment=environment)
    os.close(writing)
    assert finish(running)[0] == 3
    shown = os.read(reading, 65536).decode().splitlines()
    os.close(reading)
    assert [line for line in shown if len(line) > 50 and " " in line] == []
    assert "no server is running; reading the models directory" in shown
    assert " ".join(shown).endswith("needs neither")
