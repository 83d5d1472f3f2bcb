"""Text files given to a model: UTF-8, or UTF-16 that says so; nothing binary, nothing larger than the cap."""

from __future__ import annotations

from pathlib import Path

from lmstrix.ground.errors import PromptError
from lmstrix.ground.text import decoded
from lmstrix.ground.units import format_bytes

MAX_TEXT_BYTES = 64 * 2**20
_FOREIGN_STARTS = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive or an Office document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GGUF": "a model",
}


def load_text(path: Path | str, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a text file, its line ends as they are. Raises PromptError when it is not there, not text, or too large."""
    file = Path(path).expanduser()
    try:
        with file.open("rb") as stream:
            # One byte more than allowed tells a file that is too large without reading the rest of it.
            data = stream.read(max_bytes + 1)
    except FileNotFoundError as exc:
        raise PromptError(f"no file at {file}") from exc
    except IsADirectoryError as exc:
        raise PromptError(f"{file} is a folder; name a text file in it") from exc
    except OSError as exc:
        raise PromptError(f"{file} cannot be read: {exc.strerror or exc}") from exc
    if len(data) > max_bytes:
        raise PromptError(f"{file} is larger than {format_bytes(max_bytes)}; give a shorter text")
    return decode_text(data, source=str(file))


def decode_text(data: bytes, *, source: str) -> str:
    """Bytes as text, from a file or stdin; `source` names them in messages."""
    # Named before decoding is tried: "this is a PDF" helps more than a byte at an offset.
    for start, kind in _FOREIGN_STARTS.items():
        if data.startswith(start):
            raise PromptError(f"{source} is {kind}, not UTF-8 text; extract its text first")
    try:
        text = decoded(data)
    except UnicodeDecodeError as exc:
        raise PromptError(
            f"{source} is not {exc.encoding.upper()}: byte 0x{data[exc.start]:02x} at offset {exc.start:,}; "
            "convert it to UTF-8 first"
        ) from exc
    zero = text.find("\0")
    if zero >= 0:
        raise PromptError(f"{source} is binary: a zero byte at character {zero:,}; give a text file")
    return text
