"""A tiny vision model that tells the colour of what it is shown, through llama.cpp's real projector.

    put_seeing(models)                                               "seeing", with its projector beside it

Its projector is a LLaVA one whose tower only averages the colour of each patch; the layers after it give the state of
each of `PATCHES` image tokens one dimension per known colour, larger the closer. The text model is a scripted one whose
attention, the same to every token, adds up these dimensions; asked about a colour, they decide which reply begins.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGUFWriter

from tests.support.model_files import put_model
from tests.support.pictures import BLUE, GREEN, PURPLE, RED, WHITE
from tests.support.tiny_gguf import cached, write_model
from tests.support.tiny_gguf_scripted import REPLIES, Reply, build_scripted, scripted_model

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from tests.support.tiny_gguf_architectures import TinyModel
    from tests.support.tiny_gguf_tokenizer import Vocabulary

SEEING = "seeing"
COLOUR_QUESTION = "What colour is this?"
PATCHES = 4
"""The tokens of one image, whatever its size."""
COLOURS = {"red": RED, "green": GREEN, "blue": BLUE, "purple": PURPLE, "white": WHITE}
BLIND = Reply("Nothing to see.", when="colo")  # in either spelling
SIGHTS = {name: f"{name}, I think." for name in COLOURS}
_SIGHTS = tuple(Reply(text, condition="false") for text in SIGHTS.values())
"""Never chosen by the template; `BLIND` turns into one of them when there is something to see."""
_PATCH_PIXELS, _IMAGE_PIXELS, _TOWER_WIDTH, _HIDDEN_WIDTH = 14, 28, 32, 32
# Far apart, so that each decides whatever the next holds: what follows a token, which colour it is, that there is none.
_SUCCESSOR, _COLOUR, _BLINDNESS = 4000.0, 100.0, 1.0
_SHARPNESS = 10.0
"""Of the projector: how far a colour's own dimension stands out."""


def put_seeing(models: Path) -> Path:
    """Place the model and its projector into a models directory; gives the folder that they are in."""
    folder = models / "acme" / "seeing-GGUF"
    folder.mkdir(parents=True)
    shutil.copy(cached("seeing", _write_seeing), folder / "seeing-f16.gguf")
    shutil.copy(cached("projector of seeing", _write_projector), folder / "mmproj-seeing-f16.gguf")
    return folder


def put_seeing_and_blind(models: Path) -> Path:
    """Fill a models directory with that model and with `scripted`, which sees nothing; gives the directory."""
    put_seeing(models)
    put_model(models, "scripted", scripted_model())
    return models


def _replies() -> tuple[Reply, ...]:
    return (BLIND, *_SIGHTS, *REPLIES)


def _built() -> tuple[TinyModel, Vocabulary, str]:
    return build_scripted(_replies(), spare_dimensions=len(COLOURS))


def _write_seeing(path: Path) -> None:
    model, words, template = _built()
    spare = model.shape.width - len(COLOURS)
    output = model.tensors["output.weight"]
    output[output > 0] = _SUCCESSOR
    first = {text: output[:, words.id_of(f"<|reply_{number}|>")].argmax() for number, text in enumerate(_replies())}
    question = words.id_of("<|reply_0|>")
    output[first[BLIND], question] += _BLINDNESS * 4  # half precision counts in fours up there
    for place, sight in enumerate(_SIGHTS):
        output[first[sight], question] = _SUCCESSOR
        output[first[sight], spare + place] = _COLOUR
        model.tensors["blk.0.attn_v.weight"][place, spare + place] = 1
        model.tensors["blk.0.attn_output.weight"][spare + place, place] = 1
    write_model(path, "llama", model, words, name="Tiny seeing", chat_template=template)


def _write_projector(path: Path) -> None:
    model, _, _ = _built()
    tensors = _projector_tensors(model.shape.width)
    for channel in range(3):
        tensors["v.patch_embd.weight"][channel, channel] = 1 / _PATCH_PIXELS**2
    spare = model.shape.width - len(COLOURS)
    # The squared distance from each colour, but for a part that is the same for all.
    for place, colour in enumerate(np.array(list(COLOURS.values())) / 255):
        tensors["mm.0.weight"][place, :3] = 2 * colour * _SHARPNESS
        tensors["mm.0.bias"][place] = -(colour @ colour) * _SHARPNESS
        tensors["mm.2.weight"][spare + place, place] = 1
    _write_clip(path, tensors)


def _projector_tensors(width: int) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of a vision tower of one layer that gives `PATCHES` vectors of `width`, all zero but the norms."""
    square, rows = (_TOWER_WIDTH, _TOWER_WIDTH), (_TOWER_WIDTH,)
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (_TOWER_WIDTH, 3, _PATCH_PIXELS, _PATCH_PIXELS),
        "v.position_embd.weight": (PATCHES, _TOWER_WIDTH),
        "mm.0.weight": (_HIDDEN_WIDTH, _TOWER_WIDTH),
        "mm.0.bias": (_HIDDEN_WIDTH,),
        "mm.2.weight": (width, _HIDDEN_WIDTH),
        "mm.2.bias": (width,),
    }
    for name in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down", "ln1", "ln2"):
        shapes[f"v.blk.0.{name}.weight"] = rows if name.startswith("ln") else square
        shapes[f"v.blk.0.{name}.bias"] = rows
    return {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}


def _write_clip(path: Path, tensors: dict[str, npt.NDArray[np.float32]]) -> None:
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", True)
    writer.add_string("clip.projector_type", "mlp")
    sizes = {
        "image_size": _IMAGE_PIXELS,
        "patch_size": _PATCH_PIXELS,
        "embedding_length": _TOWER_WIDTH,
        "feed_forward_length": _TOWER_WIDTH,
        "block_count": 1,
        "projection_dim": len(tensors["mm.2.bias"]),
        "attention.head_count": 1,
    }
    for name, size in sizes.items():
        writer.add_uint32(f"clip.vision.{name}", size)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.0, 0.0, 0.0])
    writer.add_array("clip.vision.image_std", [1.0, 1.0, 1.0])
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
