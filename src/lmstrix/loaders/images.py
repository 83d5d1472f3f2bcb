"""What an image file is, how large its picture will be and whether it is all there, without unpacking it.

A file of a few kilobytes may declare a picture of gigabytes, so what is about to unpack one asks here first. Formats
are told by their first bytes, never by a name. A header that is damaged, or laid out in a way that its format allows
and nobody writes, has no size.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from lmstrix.ground.errors import UsageError
from lmstrix.ground.text import is_web_address
from lmstrix.ground.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

ImageFormat = Literal["PNG", "JPEG", "GIF", "BMP", "WebP", "HEIC", "AVIF", "TIFF"]
MAX_IMAGE_BYTES = 20 * 2**20
"""Photographs have a few megabytes. Writing 31 MiB as JSON held the engine's loop for 0.4 s (one busy core)."""
_HEADER_BYTES = 64
_MAX_JPEG_SEGMENTS = 1000
"""Before the picture's own: real files have up to about a hundred, for colour profiles and previews."""
_BMP_HEADER_BYTES = frozenset({12, 40, 52, 56, 64, 108, 124})
_ISO_BRANDS: dict[bytes, ImageFormat] = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"mif1": "HEIC",
}


class ImageSize(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        """All of them."""
        return self.width * self.height


def check_image_file(path: str) -> None:
    """Raise UsageError for a file that no server could show a model. Which formats it reads is the server's to say."""
    if is_web_address(path):
        raise UsageError(f"{path} is an address; download the image and give the file")
    file = Path(path)
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEADER_BYTES)
        size_bytes = file.stat().st_size
    except FileNotFoundError as exc:
        raise UsageError(f"no image at {file}; check the path") from exc
    except OSError as exc:
        raise UsageError(f"the image {file} cannot be read ({exc.strerror}); check the path") from exc
    if image_format(head) is None:
        what = "is empty" if not size_bytes else "is no image file"
        raise UsageError(f"{file} {what}; give a PNG or JPEG")
    if size_bytes > MAX_IMAGE_BYTES:
        limit = format_bytes(MAX_IMAGE_BYTES)
        raise UsageError(f"{file} has {format_bytes(size_bytes)}, and an image at most {limit}; scale it down")


def image_format(data: bytes) -> ImageFormat | None:
    """The format of an image file, None when it is none that is known; the first 64 bytes are enough."""
    head = data[:_HEADER_BYTES]
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        return _ISO_BRANDS.get(head[8:12])
    # Two letters alone would make an image of every text about BMWs.
    if head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADER_BYTES:
        return "BMP"
    return None


def image_size(data: bytes) -> ImageSize | None:
    """The size that a PNG, JPEG, GIF or BMP declares; None for others, and where there is no telling."""
    read = _SIZES.get(image_format(data) or "")
    try:
        size = read(data) if read else None
    except struct.error:  # the header is cut off
        return None
    return size if size and size.width > 0 and size.height > 0 else None


def is_cut_off(data: bytes) -> bool:
    """Whether the end of a JPEG, GIF or BMP is missing, where decoders go on with grey; without a PNG's they stop."""
    match image_format(data):
        case "JPEG":
            # A preview inside the file has an end of its own, before the picture's header.
            return data.find(b"\xff\xd9", _jpeg_frame_at(data) or 0) < 0
        case "GIF":
            return not data.rstrip(b"\0").endswith(b";")
        case "BMP":
            return len(data) < _bmp_bytes(data)
    return False


def _png_size(data: bytes) -> ImageSize | None:
    if data[12:16] != b"IHDR":
        return None
    return ImageSize(*struct.unpack_from(">II", data, 16))


def _gif_size(data: bytes) -> ImageSize | None:
    return ImageSize(*struct.unpack_from("<HH", data, 6))


def _bmp_size(data: bytes) -> ImageSize | None:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
    return ImageSize(width, abs(height))  # negative: the rows go from top to bottom


def _bmp_bytes(data: bytes) -> int:
    """The least that a BMP has when its rows are not compressed; 0 for others."""
    if len(data) < 34 or data[14] == 12 or any(data[30:34]):
        return 0
    starts_at, width, height, bits = struct.unpack_from("<I4xii2xH", data, 10)
    return int(starts_at + (width * bits + 31) // 32 * 4 * abs(height))


def _jpeg_size(data: bytes) -> ImageSize | None:
    at = _jpeg_frame_at(data)
    if at is None:
        return None
    height, width = struct.unpack_from(">HH", data, at + 5)
    return ImageSize(width, height)


def _jpeg_frame_at(data: bytes) -> int | None:
    """Where the header of the picture is."""
    at = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        if len(data) < at + 9:
            return None
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF or length < 2:
            return None
        # Frame headers, of which there is one for each way to code a picture; three numbers among them are tables.
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return at
        at += 2 + length
    return None


_MAGIC: tuple[tuple[bytes, ImageFormat], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_SIZES: dict[str, Callable[[bytes], ImageSize | None]] = {
    "PNG": _png_size,
    "JPEG": _jpeg_size,
    "GIF": _gif_size,
    "BMP": _bmp_size,
}
