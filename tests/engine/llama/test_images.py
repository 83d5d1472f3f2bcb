"""Limits on what the images of one request may have together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lmstrix.engine.catalog import Catalog
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.images import LIMITS, ImageLimits, check_images, without_contents
from lmstrix.engine.records import ChatPart, ChatTurn
from tests.support.pictures import png, webp
from tests.support.tiny_gguf_vision import SEEING, put_seeing

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.engine.records import CatalogEntry


@pytest.fixture
def seeing(tmp_path: Path) -> CatalogEntry:
    put_seeing(tmp_path)
    return Catalog(tmp_path).find(SEEING)


def test_what_is_within_the_limits_passes(seeing: CatalogEntry) -> None:
    limits = ImageLimits(count=3, size_bytes=3 * len(png()), pixels=3 * 28 * 28)
    check_images([png()] * 3, seeing, limits=limits)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (ImageLimits(count=2), "3 images are too much for one request, which takes 2"),
        (ImageLimits(size_bytes=2 * len(png())), f"Images of {3 * len(png())} B are too much"),
        (ImageLimits(pixels=2 * 28 * 28), "megapixels are too much"),
    ],
)
def test_what_is_above_them_is_refused(seeing: CatalogEntry, limits: ImageLimits, told: str) -> None:
    with pytest.raises(EngineFault) as caught:
        check_images([png()] * 3, seeing, limits=limits)
    assert told in caught.value.title
    assert caught.value.kind == "invalid"


def test_one_of_several_is_named(seeing: CatalogEntry) -> None:
    with pytest.raises(EngineFault, match="Image 2 of 3 is a WebP file"):
        check_images([png(), webp(), png()], seeing)


def test_a_model_without_a_projector_is_named(seeing: CatalogEntry) -> None:
    blind = replace(seeing, vision=False)
    check_images([], blind)
    with pytest.raises(EngineFault, match="seeing cannot read images") as caught:
        check_images([b"whatever"], blind)
    assert caught.value.kind == "unsupported"


def test_a_photograph_and_a_large_screen_pass(seeing: CatalogEntry) -> None:
    assert LIMITS.pixels >= 5 * 4032 * 3024
    assert LIMITS.pixels >= 7680 * 4320


def test_a_template_is_spared_the_images() -> None:
    text, image = ChatPart(type="text", text="see"), ChatPart(type="file", file_type="image", data=png())
    document = ChatPart(type="file", file_type="text/plain", file_id="f-1")
    (turn,) = without_contents([ChatTurn(role="user", parts=(text, image, document))])
    assert (turn.parts[0], turn.parts[2]) == (text, document)
    assert len(turn.parts[1].data or b"") == 1
