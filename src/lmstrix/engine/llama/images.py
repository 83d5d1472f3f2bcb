"""The images of a request, refused before llama.cpp unpacks them where that would fail or take too much memory.

llama.cpp would try: what it cannot read it calls "image or audio file", and a file of 4 MB that declares 300 megapixels
made it take 1.8 GB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.request import is_image
from lmstrix.ground.units import format_bytes
from lmstrix.loaders.images import MAX_IMAGE_BYTES, image_format, image_size, is_cut_off

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.engine.records import CatalogEntry, ChatPart, ChatTurn

_READABLE: Final = frozenset({"PNG", "JPEG", "GIF", "BMP"})
_REMEDY: Final = "Send PNG, JPEG, GIF or BMP."
_REPAIR: Final = "Save it again as PNG or JPEG."
_SMALLER: Final = "Scale them down: a model sees about one megapixel of each."


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """What the images of one request may have together."""

    count: int = 1000
    """Each takes some tokens, so that few contexts hold more; looking at the headers of these takes a millisecond."""
    size_bytes: int = MAX_IMAGE_BYTES
    pixels: int = 2**26
    """8,192 by 8,192, or five photographs of 12 megapixels. llama.cpp takes 6 bytes for each (measured with PNG)."""


LIMITS: Final = ImageLimits()


def check_images(images: Sequence[bytes], entry: CatalogEntry, *, limits: ImageLimits = LIMITS) -> None:
    """Raise `EngineFault` when the model cannot be shown these images."""
    if not images:
        return
    if not entry.vision:
        raise EngineFault(
            f"The model {entry.model_key} cannot read images: it has no vision projector (mmproj)",
            kind="unsupported",
            suggestion="Load a vision model.",
        )
    if len(images) > limits.count:
        raise _too_much(f"{len(images):,} images", f"{limits.count:,}", "Send fewer.")
    size_bytes = sum(map(len, images))
    if size_bytes > limits.size_bytes:
        raise _too_much(f"Images of {format_bytes(size_bytes)}", format_bytes(limits.size_bytes), _SMALLER)
    pixels = sum(_pixels(image, _named(number, len(images))) for number, image in enumerate(images, 1))
    if pixels > limits.pixels:
        raise _too_much(f"Images of {pixels / 1e6:,.0f} megapixels", f"{limits.pixels / 1e6:,.0f}", _SMALLER)


def without_contents(turns: Sequence[ChatTurn]) -> list[ChatTurn]:
    """The same chat with one byte for each image: a template only marks their places, and 31 MiB took it 3 s."""
    return [replace(turn, parts=tuple(map(_without_content, turn.parts))) for turn in turns]


def _without_content(part: ChatPart) -> ChatPart:
    return replace(part, data=b"-") if is_image(part) else part


def _too_much(what: str, limit: str, remedy: str) -> EngineFault:
    return EngineFault(f"{what} are too much for one request, which takes {limit}", kind="invalid", suggestion=remedy)


def _named(number: int, count: int) -> str:
    return "The image" if count == 1 else f"Image {number} of {count}"


def _pixels(image: bytes, name: str) -> int:
    kind = image_format(image)
    if kind is None:
        raise EngineFault(f"{name} is no image file of a known format", kind="invalid", suggestion=_REMEDY)
    if kind not in _READABLE:
        raise EngineFault(f"{name} is a {kind} file, which llama.cpp cannot read", kind="invalid", suggestion=_REMEDY)
    size = image_size(image)
    if size is None:
        raise EngineFault(
            f"{name} is a damaged {kind} file: its header tells no size", kind="invalid", suggestion=_REPAIR
        )
    if is_cut_off(image):
        raise EngineFault(f"{name} is a {kind} file whose end is missing", kind="invalid", suggestion="Send it whole.")
    return size.pixels
