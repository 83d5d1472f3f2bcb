"""`infer --image`, from the file to what the model sees in it, and what is told about files that cannot be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix import EmbeddedEngine, LMStrix, UsageError
from lmstrix.core.memory.prediction import shape_of
from lmstrix.core.registry.records import ModelRecord, facts_to_json
from lmstrix.core.registry.scanner import scan_models_dir
from lmstrix.loaders.gguf import read_header
from lmstrix.loaders.mlx import read_model
from tests.cli.conftest import SCRIPTED
from tests.support.pictures import BLUE, GREEN, RED, gif, jpeg, png, png_of_rows, webp
from tests.support.tiny_gguf_vision import BLIND, COLOUR_QUESTION, PATCHES, SEEING, SIGHTS, put_seeing_and_blind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ran

FILES = {
    "red.png": png(RED),
    "photo.jpeg": jpeg(BLUE),
    "green.gif": gif(GREEN),
    "no-suffix": png(RED),
    "notes.png": b"Only text.",
    "empty.png": b"",
    "cut.jpeg": jpeg()[:-2],
    "modern.webp": webp(),
    "bomb.png": png_of_rows(60_000, 60_000, b""),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that sees, and one that does not."""
    return put_seeing_and_blind(tmp_path_factory.mktemp("seeing-models"))


@pytest.fixture(scope="module")
def seeing_engine(models: Path) -> Iterator[EmbeddedEngine]:
    """The running engine."""
    with EmbeddedEngine(models, memory_limit=2**30) as engine:
        yield engine


@pytest.fixture
def ask(
    cli: Callable[..., Ran], seeing_engine: EmbeddedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Asks about the colour of image files, which are all in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)

    def infer(*images: str, words: tuple[str, ...] = (), model: str = SEEING) -> Ran:
        shown = [word for image in images for word in ("--image", image)]
        return cli("infer", COLOUR_QUESTION, "-m", model, "--server", seeing_engine.address, "--quiet", *shown, *words)

    return infer


def test_the_model_sees_what_it_is_shown(ask: Callable[..., Ran]) -> None:
    assert ask().ok().out == f"{BLIND.text}\n"
    for image, colour in (("red.png", "red"), ("photo.jpeg", "blue"), ("green.gif", "green"), ("no-suffix", "red")):
        assert ask(image).ok().out == f"{SIGHTS[colour]}\n"
    assert ask("photo.jpeg", "red.png", "no-suffix").ok().out == f"{SIGHTS['red']}\n"


def test_images_count_in_what_was_read(ask: Callable[..., Ran]) -> None:
    plain = ask(words=("--json",)).ok().json
    seen = ask("red.png", "green.gif", words=("--json",)).ok().json
    assert seen["prompt_tokens"] >= plain["prompt_tokens"] + 2 * PATCHES


def test_what_cannot_be_counted_before_is_told(ask: Callable[..., Ran]) -> None:
    ask("red.png").ok()  # loads it, so that its own count can be had
    words = ("--dry-run", "--json")
    plain, seen = (ask(*images, words=words).ok().json for images in ((), ("red.png", "green.gif")))
    assert (plain["count_exact"], plain["images_not_counted"]) == (True, 0)
    assert (seen["count_exact"], seen["images_not_counted"]) == (False, 2)


def test_the_fit_is_told_without_what_images_take(
    ask: Callable[..., Ran], cli: Callable[..., Ran], seeing_engine: EmbeddedEngine
) -> None:
    words = ("infer", COLOUR_QUESTION, "-m", SEEING, "--server", seeing_engine.address, "--image", "red.png")
    assert ", without the tokens of 1 image\n" in cli(*words, "--verbose").ok().err
    told = cli(*words, "--dry-run").ok().err
    assert told == "34 of 4,096 tokens, counted by the loaded model, without the tokens of 1 image; nothing was sent\n"


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("none.png", "no image at none.png; check the path"),
        (".", "the image . cannot be read (Is a directory); check the path"),
        ("notes.png", "notes.png is no image file; give a PNG or JPEG"),
        ("empty.png", "empty.png is empty; give a PNG or JPEG"),
    ],
)
def test_what_is_no_image_is_told_before_anything_is_loaded(ask: Callable[..., Ran], image: str, told: str) -> None:
    ask(image).failed(2, told)
    ask(image, words=("--dry-run",)).failed(2, told)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("cut.jpeg", "is a JPEG file whose end is missing); Send it whole"),
        ("modern.webp", "is a WebP file, which llama.cpp cannot read); Send PNG, JPEG, GIF or BMP"),
        ("bomb.png", "Images of 3,600 megapixels are too much for one request, which takes 67); Scale them down"),
    ],
)
def test_what_the_engine_refuses_is_one_clear_line(ask: Callable[..., Ran], image: str, told: str) -> None:
    ask(image).failed(1, told)
    assert ask("red.png").ok().out == f"{SIGHTS['red']}\n"


def test_a_large_file_is_refused_by_its_size(ask: Callable[..., Ran], tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.write(png())
        file.truncate(40 * 2**20)
    ask("large.png").failed(2, "large.png has 40.0 MiB, and an image at most 20.0 MiB; scale it down")


def test_a_model_without_vision_is_named(ask: Callable[..., Ran]) -> None:
    for words in ((), ("--dry-run",)):
        ask("red.png", words=words, model=SCRIPTED).failed(2, "scripted takes no images; choose a model with vision")
    ask("red.png", words=("--raw",)).failed(2, "a raw prompt takes no images")


def test_the_listing_tells_vision_and_counts_the_projector(
    cli: Callable[..., Ran], seeing_engine: EmbeddedEngine, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_bytes = sum(file.stat().st_size for file in (models / "acme" / "seeing-GGUF").iterdir())
    # As the server lists it, and as a scan of the folder alone finds it.
    for folder in (models / "none", models):
        monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(folder))
        server = () if folder == models else ("--server", seeing_engine.address)
        cli("scan", "--quiet", *server).ok()
        listed = {model["model_key"]: model for model in cli("list", "--json").ok().json["models"]}
        assert {key: model["vision"] for key, model in listed.items()} == {SEEING: True, SCRIPTED: False}
        assert listed[SEEING]["size_bytes"] == all_bytes


def test_a_forecast_counts_the_projector(models: Path) -> None:
    folder = models / "acme" / "seeing-GGUF"
    (facts,) = [
        facts
        for facts in scan_models_dir(models, known={}, read_header=read_header, read_folder=read_model).models
        if facts.vision
    ]
    record = ModelRecord(facts.path, facts_to_json(facts))
    shape = shape_of(folder / "seeing-f16.gguf", record, read_header)
    assert shape.mmproj_bytes == (folder / "mmproj-seeing-f16.gguf").stat().st_size


def test_the_python_api_shows_images(seeing_engine: EmbeddedEngine, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png(RED))
    with LMStrix(server=seeing_engine.address) as lms:
        answer = lms.infer(COLOUR_QUESTION, model=SEEING, images=(str(tmp_path / "red.png"),))
        assert answer.text == SIGHTS["red"]
        with pytest.raises(UsageError, match="no image at"):
            lms.infer(COLOUR_QUESTION, model=SEEING, images=(str(tmp_path / "none.png"),))
        with pytest.raises(UsageError, match="is an address; download the image and give the file"):
            lms.infer(COLOUR_QUESTION, model=SEEING, images=("https://a.org/b.png",))
