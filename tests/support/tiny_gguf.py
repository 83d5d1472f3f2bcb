"""Tiny GGUF models that llama.cpp really loads: random weights, a usable tokenizer, any shape asked for.

    path = tiny_model("llama", context_length=8192, n_layers=1)      written once per parameters, then reused
    write_tiny(path, "gemma3", TinyShape(n_layers=6))                written where you say

What they say is noise; `tiny_gguf_scripted.py` writes models that say what a test wants. Cached files are shared
between tests and runs: copy one before changing it.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from gguf import GGUFEndian, GGUFWriter, LlamaFileType

from tests.support.tiny_gguf_architectures import ARCHITECTURES, TinyModel, TinyShape
from tests.support.tiny_gguf_tokenizer import CHATML, Vocabulary, add_vocabulary, vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ARCHITECTURES", "TinyShape", "cached", "tiny_model", "write_model", "write_tiny"]


def write_tiny(
    path: Path,
    architecture: str = "llama",
    shape: TinyShape | None = None,
    *,
    name: str | None = None,
    chat_template: str | None = CHATML,
    big_endian: bool = False,
    tensors_per_file: int = 0,
) -> None:
    """Write a model of random weights to `path`, replacing what is there.

    With `tensors_per_file` it is split: `path` "a.gguf" becomes "a-00001-of-0000N.gguf" and so on.
    """
    shape = shape or TinyShape()
    words = vocabulary(size=shape.vocab_size)
    model = TinyModel(shape, len(words))
    ARCHITECTURES[architecture](model)
    template = None if architecture == "bert" else chat_template
    write_model(
        path,
        architecture,
        model,
        words,
        name=name or f"Tiny {architecture}",
        chat_template=template,
        big_endian=big_endian,
        tensors_per_file=tensors_per_file,
    )


def tiny_model(architecture: str = "llama", *, name: str | None = None, **dimensions: int) -> Path:
    """A model as `write_tiny` writes it with `TinyShape(**dimensions)`, from the cache when it was written before."""
    shape = TinyShape(**dimensions)
    return cached(f"{architecture} {name} {shape}", lambda path: write_tiny(path, architecture, shape, name=name))


def write_model(
    path: Path,
    architecture: str,
    model: TinyModel,
    words: Vocabulary,
    *,
    name: str,
    chat_template: str | None,
    big_endian: bool = False,
    tensors_per_file: int = 0,
) -> None:
    """Write a built model and its vocabulary."""
    byte_order = GGUFEndian.BIG if big_endian else GGUFEndian.LITTLE
    writer = GGUFWriter(path, architecture, endianess=byte_order, split_max_tensors=tensors_per_file)
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    for key, value in model.metadata.items():
        _add(writer, f"{architecture}.{key}", value)
    add_vocabulary(writer, words, chat_template=chat_template, markers=architecture == "bert")
    for tensor_name, values in model.tensors.items():
        writer.add_tensor(tensor_name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: GGUFWriter, key: str, value: int | float | bool | list[int] | list[bool]) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case _:
            writer.add_array(key, value)


def cached(description: str, write: Callable[[Path], None]) -> Path:
    """The file `write` makes, kept in the temporary folder under a name made of `description`, of this code and of
    what writes it."""
    folder = Path(tempfile.gettempdir()) / f"lmstrix-tiny-models-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    digest = hashlib.sha256(_CODE + description.encode()).hexdigest()[:24]
    path = folder / f"{digest}.gguf"
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        write(unfinished)
        unfinished.replace(path)
    return path


_CODE = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("tiny_gguf*.py"))) + (
    # What draws the weights and what writes the file change the bytes, too.
    f"numpy {version('numpy')} gguf {version('gguf')}".encode()
)
