"""Images through a real projector: what the model sees decides what it says."""

from __future__ import annotations

import os
import signal
import zlib
from typing import TYPE_CHECKING

import pytest

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.records import ChatPart, ChatTurn, LoadSettings, PredictionInput, PredictionSettings
from lmstrix.engine.uploads import FileStore
from tests.engine.pools import collect, running_pool, stats_of, text_of
from tests.support.pictures import BLUE, GREEN, RED, bmp, gif, jpeg, png, png_of_rows, webp
from tests.support.tiny_gguf_vision import BLIND, COLOUR_QUESTION, COLOURS, PATCHES, SEEING, SIGHTS, put_seeing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from lmstrix.engine.instance import Instance
    from lmstrix.engine.pool import InstancePool

CONTEXT = 300


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[InstancePool]:
    put_seeing(tmp_path / "models")
    async with running_pool(tmp_path / "models") as pool:
        yield pool


@pytest.fixture
async def instance(pool: InstancePool) -> Instance:
    return await pool.load(SEEING, LoadSettings(context_length=CONTEXT), kind="llm")


def showing(text: str, *images: bytes, **settings: object) -> PredictionInput:
    settings.setdefault("overflow_policy", "stopAtLimit")
    pictures = tuple(ChatPart(type="file", file_type="image", data=image) for image in images)
    turn = ChatTurn(role="user", parts=(ChatPart(type="text", text=text), *pictures))
    return PredictionInput(turns=(turn,), settings=PredictionSettings(temperature=0, **settings))  # type: ignore[arg-type]


async def seen(instance: Instance, *images: bytes) -> str:
    return text_of(await collect(instance.predict(showing(COLOUR_QUESTION, *images))))


async def refused(instance: Instance, *images: bytes, **settings: object) -> EngineFault:
    """The refusal of these images, after which the model must still answer."""
    with pytest.raises(EngineFault) as caught:
        await collect(instance.predict(showing("Hi", *images, **settings)))
    assert text_of(await collect(instance.predict(showing("What is 2+3=?")))) == "5"
    return caught.value


async def test_an_image_takes_its_tokens_and_the_model_answers(instance: Instance) -> None:
    assert instance.entry.vision
    counts = []
    for images in ((png(),), (png(), png())):
        events = await collect(instance.predict(showing("What is 2+3=?", *images)))
        assert text_of(events) == "5"
        counts.append(stats_of(events).prompt_tokens or 0)
    assert counts[1] - counts[0] == PATCHES


async def test_the_model_tells_what_it_is_shown(instance: Instance) -> None:
    assert await seen(instance) == BLIND.text
    for name, colour in COLOURS.items():
        assert await seen(instance, png(colour)) == SIGHTS[name]
    assert await seen(instance, png(RED), png(BLUE), png(BLUE)) == SIGHTS["blue"]
    assert await seen(instance, *[png(GREEN)] * 30) == SIGHTS["green"]


@pytest.mark.parametrize("written", [png, bmp, gif, jpeg])
async def test_formats(instance: Instance, written: Callable[..., bytes]) -> None:
    for name in ("purple", "green"):
        assert await seen(instance, written(COLOURS[name])) == SIGHTS[name]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 3000), (3000, 1), (1500, 1500)])
async def test_sizes(instance: Instance, width: int, height: int) -> None:
    events = await collect(instance.predict(showing("What is 2+3=?", png(width=width, height=height))))
    assert text_of(events) == "5"


async def test_an_uploaded_image_is_found(instance: Instance) -> None:
    files = FileStore()
    part = ChatPart(type="file", file_type="image", file_id=files.add("grey.png", png()).identifier)
    turn = ChatTurn(role="user", parts=(ChatPart(type="text", text=COLOUR_QUESTION), part))
    assert text_of(await collect(instance.predict(PredictionInput(turns=(turn,)), files=files))) == SIGHTS["purple"]


async def test_the_context_asked_for_holds_with_images(instance: Instance) -> None:
    stats = stats_of(await collect(instance.predict(showing("Tell me a story", png()))))
    assert stats.stop_reason == "contextLengthReached"
    assert (stats.prompt_tokens or 0) + (stats.predicted_tokens or 0) == CONTEXT
    limited = stats_of(await collect(instance.predict(showing("Tell me a story", png(), max_tokens=5))))
    assert (limited.stop_reason, limited.predicted_tokens) == ("maxPredictedTokensReached", 5)
    with pytest.raises(EngineFault) as caught:
        await collect(instance.predict(showing("ab " * CONTEXT, png())))
    assert caught.value.kind == "overflow"
    assert caught.value.error_data is not None
    assert caught.value.error_data["contextLength"] == CONTEXT


async def test_tools_may_be_offered_beside_an_image(instance: Instance) -> None:
    function = {"name": "paint", "description": "", "parameters": {"type": "object", "properties": {}}}
    asked = showing(COLOUR_QUESTION, png(), tools=({"type": "function", "function": function},))
    assert text_of(await collect(instance.predict(asked))) == SIGHTS["purple"]


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (png()[:60], "damaged, or too large"),
        (png_of_rows(28, 28, b"nonsense"), "damaged, or too large"),
        (jpeg()[:90], "The image is a JPEG file whose end is missing"),
        (gif()[:60], "The image is a GIF file whose end is missing"),
        (bmp()[:-1], "The image is a BMP file whose end is missing"),
        (png_of_rows(0, 28, b""), "The image is a damaged PNG file"),
        (png_of_rows(60_000, 60_000, zlib.compress(bytes(1000))), "Images of 3,600 megapixels are too much"),
        (webp(), "The image is a WebP file"),
        (b"a picture of a cat", "The image is no image file"),
        (b"", "The image is no image file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_shown_is_refused(instance: Instance, image: bytes, told: str) -> None:
    fault = await refused(instance, image)
    assert fault.kind == "invalid"
    assert told in fault.title


async def test_a_template_of_the_request_shows_no_images(instance: Instance) -> None:
    fault = await refused(instance, png(), prompt_template="{{ messages[0].content }}")
    assert (fault.kind, "template" in fault.title) == ("unsupported", True)


@pytest.mark.needs_posix("signals to a process")
async def test_an_image_that_ends_the_child_ends_one_prediction(pool: InstancePool, instance: Instance) -> None:
    prediction = instance.predict(showing("Tell me a story", png()))
    async for _ in prediction:
        os.kill(instance.model.process.pid, signal.SIGKILL)
        break
    with pytest.raises(EngineFault, match="crashed") as caught:
        await collect(prediction)
    assert caught.value.kind == "crashed"
    again, loaded_now = await pool.get_or_load(SEEING, LoadSettings(), kind="llm", ttl_s=60)
    assert loaded_now
    assert await seen(again, png(BLUE)) == SIGHTS["blue"]
