"""Image files, told and measured by their headers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.loaders.images import image_format, image_size, is_cut_off
from tests.support.pictures import bmp, gif, jpeg, png, png_of_rows, webp

if TYPE_CHECKING:
    from collections.abc import Callable

WRITTEN = {"PNG": png, "BMP": bmp, "GIF": gif}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_is_told_and_measured(name: str) -> None:
    written: Callable[..., bytes] = WRITTEN[name]
    data = written(width=31, height=7)
    assert (image_format(data), image_size(data), is_cut_off(data)) == (name, (31, 7), False)


def test_a_jpeg_is_measured_behind_its_other_segments() -> None:
    assert (image_format(jpeg()), image_size(jpeg()), is_cut_off(jpeg())) == ("JPEG", (8, 8), False)
    preview = b"\xff\xe1" + struct.pack(">H", 2 + len(jpeg())) + jpeg()
    photograph = jpeg()[:2] + preview + jpeg()[2:]
    assert (image_size(photograph), is_cut_off(photograph)) == ((8, 8), False)
    assert is_cut_off(photograph[:-2])


def test_a_bmp_may_be_written_from_top_to_bottom() -> None:
    data = bytearray(bmp(width=5, height=3))
    struct.pack_into("<i", data, 22, -3)
    assert image_size(bytes(data)) == (5, 3)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (webp(), "WebP"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", None),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"BMW builds cars, and this is a text about them.", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"<svg/>", None),
        (b"", None),
    ],
)
def test_formats_without_a_size_here(data: bytes, expected: str | None) -> None:
    assert (image_format(data), image_size(data)) == (expected, None)


@pytest.mark.parametrize("data", [png()[:20], png_of_rows(0, 9, b""), gif()[:8], bmp()[:20], jpeg()[:40], jpeg()[:75]])
def test_a_damaged_header_has_no_size(data: bytes) -> None:
    assert image_size(data) is None


@given(start=st.sampled_from([png(), bmp(), gif(), jpeg(), b""]), kept=st.integers(0, 200), rest=st.binary(max_size=99))
def test_no_bytes_are_an_error(start: bytes, kept: int, rest: bytes) -> None:
    data = start[:kept] + rest
    size = image_size(data)
    assert size is None or (size.width > 0 and size.height > 0)
    assert is_cut_off(data) in (True, False)


@pytest.mark.parametrize("cut", [jpeg()[:-2], gif()[:-1], bmp()[:-1]])
def test_a_missing_end_is_seen(cut: bytes) -> None:
    assert is_cut_off(cut)
