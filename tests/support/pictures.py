"""Small pictures of one colour in every format that models are shown, written with the standard library."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

Colour = tuple[int, int, int]
RED, GREEN, BLUE, PURPLE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 0, 128), (255, 255, 255)


def png(colour: Colour = PURPLE, *, width: int = 28, height: int = 28) -> bytes:
    """A PNG."""
    rows = (b"\0" + bytes(colour) * width) * height
    return png_of_rows(width, height, zlib.compress(rows))


def png_of_rows(width: int, height: int, packed_rows: bytes) -> bytes:
    """A PNG that declares a size, whatever its rows hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed_rows) + chunk(b"IEND", b"")


def bmp(colour: Colour = PURPLE, *, width: int = 28, height: int = 28) -> bytes:
    """A BMP of 24 bits a pixel."""
    row = bytes(reversed(colour)) * width
    rows = (row + bytes(-len(row) % 4)) * height
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(rows), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + head + rows


def gif(colour: Colour = PURPLE, *, width: int = 28, height: int = 28) -> bytes:
    """A GIF of two colours whose codes are never joined, so that they keep their width of three bits."""
    clear, end = 4, 5
    codes: list[int] = []
    for pixel in range(width * height):
        if pixel % 2 == 0:
            codes.append(clear)
        codes.append(0)
    bits = sum(code << 3 * place for place, code in enumerate([*codes, end]))
    data = bits.to_bytes((3 * (len(codes) + 1) + 7) // 8, "little")
    blocks = b"".join(bytes([len(part)]) + part for part in (data[at : at + 255] for at in range(0, len(data), 255)))
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(colour) + bytes(3)
    return head + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2" + blocks + b"\0;"


def jpeg(colour: Colour = PURPLE) -> bytes:
    """A baseline JPEG of 8 by 8 pixels: one coefficient for each of its three components."""
    red, green, blue = colour
    levels = (
        0.299 * red + 0.587 * green + 0.114 * blue - 128,
        -0.168736 * red - 0.331264 * green + 0.5 * blue,
        0.5 * red - 0.418688 * green - 0.081312 * blue,
    )
    bits = _Bits()
    for level in levels:
        coefficient = round(level * 8)
        length = abs(coefficient).bit_length()
        bits.add(length, 4)  # the code of each length, in a table where all twelve have four bits
        bits.add(coefficient if coefficient >= 0 else coefficient + (1 << length) - 1, length)
        bits.add(0, 1)  # the end of the block

    def segment(marker: int, data: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    lengths_table = b"\x00" + bytes([0, 0, 0, 12, *[0] * 12]) + bytes(range(12))
    end_table = b"\x10" + bytes([1, *[0] * 15]) + b"\0"
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + b"\1" * 64)
        + segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 3) + components)
        + segment(0xC4, lengths_table)
        + segment(0xC4, end_table)
        + segment(0xDA, b"\3" + bytes([1, 0, 2, 0, 3, 0]) + b"\0\x3f\0")
        + bits.data().replace(b"\xff", b"\xff\0")
        + b"\xff\xd9"
    )


def webp() -> bytes:
    """A WebP of one pixel."""
    return bytes.fromhex("524946461a000000574542505650384c0d0000002f00000010071011118888fe0700")


@dataclass(slots=True)
class _Bits:
    value: int = 0
    count: int = 0

    def add(self, value: int, count: int) -> None:
        self.value = self.value << count | value
        self.count += count

    def data(self) -> bytes:
        """Filled up with ones, as JPEG wants it."""
        spare = -self.count % 8
        return ((self.value << spare) | ((1 << spare) - 1)).to_bytes((self.count + spare) // 8, "big")
