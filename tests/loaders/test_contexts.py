"""Text files for a model: what is read, what is refused and how it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.errors import PromptError
from lmstrix.loaders.contexts import decode_text, load_text

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, content: bytes) -> Path:
    file = folder / "text.txt"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        (b"plain", "plain"),
        ("zażółć 🐟".encode(), "zażółć 🐟"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("as PowerShell writes 🐟".encode("utf-16"), "as PowerShell writes 🐟"),
        (b"a\r\nb\n", "a\r\nb\n"),
        (b"<|endoftext|> {{x}}", "<|endoftext|> {{x}}"),
    ],
)
def test_text_is_read_as_it_is(tmp_path: Path, content: bytes, text: str) -> None:
    assert load_text(written(tmp_path, content)) == text


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ("zażółć".encode("cp1250"), "is not UTF-8: byte 0xbf at offset 2; convert it to UTF-8 first"),
        ("text".encode("utf-16")[:-1], "is not UTF-16"),
        (b"%PDF-1.7\n", "is a PDF, not UTF-8 text; extract its text first"),
        (b"PK\x03\x04docx", "Office document"),
        (b"\x89PNG\r\n", "is an image"),
        (b"GGUF\x03", "is a model"),
        (b"abc\x00def", "is binary: a zero byte at character 3"),
        (b"\xed\xa0\x80", "is not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path: Path, content: bytes, fact: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(PromptError) as caught:
        load_text(file)
    assert fact in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cap_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, b"12345")
    assert load_text(file, max_bytes=5) == "12345"
    with pytest.raises(PromptError, match="larger than 4 B"):
        load_text(file, max_bytes=4)


def test_fifty_megabytes_are_fine(tmp_path: Path) -> None:
    assert len(load_text(written(tmp_path, b"line of text\n" * 4_000_000))) == 52_000_000


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no file at"):
        load_text(tmp_path / "none")
    with pytest.raises(PromptError, match="is a folder"):
        load_text(tmp_path)


def test_bytes_of_stdin_are_named_so() -> None:
    assert decode_text(b"hello", source="stdin") == "hello"
    with pytest.raises(PromptError, match="stdin is not UTF-8"):
        decode_text(b"\xff", source="stdin")
