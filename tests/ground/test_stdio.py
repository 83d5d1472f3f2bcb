"""The standard streams on the systems there are."""

from __future__ import annotations

import errno
import io
import sys
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground import stdio
from lmstrix.ground.stdio import is_closed_pipe, prepare_output, shows_colors
from lmstrix.ground.text import decoded, encoding_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "é → 世界 🌍"


class Stream(io.TextIOWrapper):
    """A stream of a Windows program in Western Europe."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="cp1252")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def written(self) -> bytes:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


def shown(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], *, terminal: bool) -> bytes:
    stream = Stream(terminal=terminal)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", Stream(terminal=terminal))
        prepare_output(environ)
        sys.stdout.write(TEXT)
    return stream.written()


def test_pipes_and_files_get_utf8_unless_somebody_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, {}, terminal=False) == TEXT.encode()
    assert shown(monkeypatch, {"PYTHONIOENCODING": "cp1252"}, terminal=False) == "é ? ?? ?".encode("cp1252")
    assert shown(monkeypatch, {"PYTHONUTF8": "0"}, terminal=False) == "é ? ?? ?".encode("cp1252")
    assert shown(monkeypatch, {"PYTHONUTF8": ""}, terminal=False) == TEXT.encode()


def test_a_terminal_keeps_its_encoding_and_shows_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, {}, terminal=True) == "é ? ?? ?".encode("cp1252")


def test_a_stream_of_another_program_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    prepare_output({})
    sys.stdout.write(TEXT)


@pytest.mark.parametrize(
    ("failure", "platform", "closed"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "linux", True),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "win32", True),
        (OSError(errno.EINVAL, "Invalid argument"), "win32", True),
        (OSError(errno.EINVAL, "Invalid argument"), "linux", False),
        (OSError(errno.EINVAL, "Invalid argument", "a:b"), "win32", False),
        (OSError(errno.ENOSPC, "No space left on device"), "win32", False),
    ],
)
def test_a_reader_that_left_is_told_from_a_fault(
    failure: OSError, platform: str, closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert is_closed_pipe(failure) is closed


@pytest.fixture
def colors_anew() -> Iterator[None]:
    shows_colors.cache_clear()
    yield
    shows_colors.cache_clear()


@pytest.mark.usefixtures("colors_anew")
@pytest.mark.parametrize(("refusing", "colors"), [((), True), ((-11,), False), ((-12,), False)])
def test_a_console_without_codes_gets_no_colors(
    refusing: tuple[int, ...], colors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(stdio, "_obeys_codes", lambda number: number not in refusing)
    assert shows_colors() is colors


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_without_its_mark(encoding: str) -> None:
    assert decoded(TEXT.encode(encoding)) == TEXT


def test_what_is_no_text_says_which_byte() -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        decoded(b"\xef\xbb\xbfab\xff")
    assert (caught.value.encoding, caught.value.start) == ("utf-8", 5)
    with pytest.raises(UnicodeDecodeError) as caught:
        decoded(b"\xff\xfea\x00b")
    assert caught.value.encoding.startswith("utf-16")
    assert encoding_of(b"") == "utf-8"
