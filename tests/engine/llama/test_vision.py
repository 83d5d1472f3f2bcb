"""Images through a real projector, tiny and random, beside the scripted model."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf import GGUFWriter

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.records import ChatPart, ChatTurn, LoadSettings, PredictionInput, PredictionSettings
from lmstrix.engine.uploads import FileStore
from lmstrix.loaders.gguf import read_header
from tests.engine.pools import SCRIPTED, collect, running_pool, scripted_models, stats_of, text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from lmstrix.engine.instance import Instance

CONTEXT = 300
PATCHES = 4


def write_projector(path: Path, width: int, *, embedding: int = 32, image: int = 28, patch: int = 14) -> None:
    """A vision tower of one layer that gives `PATCHES` vectors as wide as the model's."""
    noise = np.random.default_rng(0)
    square, rows = (embedding, embedding), (embedding,)
    block = "v.blk.0."
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (embedding, 3, patch, patch),
        "v.position_embd.weight": ((image // patch) ** 2, embedding),
        "mm.0.weight": (width, embedding),
        "mm.0.bias": (width,),
        "mm.2.weight": (width, width),
        "mm.2.bias": (width,),
    }
    for name in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down"):
        shapes |= {f"{block}{name}.weight": square, f"{block}{name}.bias": rows}
    for name in ("ln1", "ln2"):
        shapes |= {f"{block}{name}.weight": rows, f"{block}{name}.bias": rows}
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", True)
    writer.add_string("clip.projector_type", "mlp")
    sizes = {
        "image_size": image,
        "patch_size": patch,
        "embedding_length": embedding,
        "feed_forward_length": embedding,
        "block_count": 1,
        "projection_dim": width,
        "attention.head_count": 1,
    }
    for name, size in sizes.items():
        writer.add_uint32(f"clip.vision.{name}", size)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    for name, shape in shapes.items():
        writer.add_tensor(name, (noise.standard_normal(shape) * 0.1).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def png(size: int = 28) -> bytes:
    """A grey square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\x80" * 3 * size) * size
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
async def instance(tmp_path: Path) -> AsyncIterator[Instance]:
    models = scripted_models(tmp_path / "models")
    (model,) = models.rglob("*.gguf")
    write_projector(model.with_name("mmproj-f16.gguf"), read_header(model).embedding_length or 0)
    async with running_pool(models) as pool:
        yield await pool.load(SCRIPTED, LoadSettings(context_length=CONTEXT), kind="llm")


def showing(text: str, *images: bytes, **settings: object) -> PredictionInput:
    settings.setdefault("overflow_policy", "stopAtLimit")
    pictures = tuple(ChatPart(type="file", file_type="image", data=image) for image in images)
    turn = ChatTurn(role="user", parts=(ChatPart(type="text", text=text), *pictures))
    return PredictionInput(turns=(turn,), settings=PredictionSettings(**settings))  # type: ignore[arg-type]


async def test_an_image_takes_its_tokens_and_the_model_answers(instance: Instance) -> None:
    assert instance.entry.vision
    counts = []
    for images in ((png(),), (png(), png())):
        events = await collect(instance.predict(showing("What is 2+3=?", *images)))
        assert text_of(events) == "5"
        counts.append(stats_of(events).prompt_tokens or 0)
    assert counts[1] - counts[0] == PATCHES


async def test_an_uploaded_image_is_found(instance: Instance) -> None:
    files = FileStore()
    part = ChatPart(type="file", file_type="image", file_id=files.add("grey.png", png()).identifier)
    turn = ChatTurn(role="user", parts=(ChatPart(type="text", text="What is 2+3=?"), part))
    assert text_of(await collect(instance.predict(PredictionInput(turns=(turn,)), files=files))) == "5"


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


async def test_what_is_no_image_is_an_error(instance: Instance) -> None:
    with pytest.raises(EngineFault) as caught:
        await collect(instance.predict(showing("Hi", b"\x89PNG\r\n\x1a\n nonsense")))
    assert caught.value.kind == "invalid"
    assert text_of(await collect(instance.predict(showing("What is 2+3=?")))) == "5"
