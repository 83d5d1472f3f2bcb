"""The GGUF reader: right about what is written, and `GgufError` about everything else."""

from __future__ import annotations

import io
import math
import os
import random
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Literal

import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.ground.errors import GgufError
from lmstrix.ground.model_names import Shard, parse_shard
from lmstrix.loaders import gguf
from lmstrix.loaders.gguf import read_header
from lmstrix.loaders.gguf_header import ArrayInfo, GgufHeader
from tests.support.tiny_gguf import ARCHITECTURES, tiny_model, write_tiny
from tests.support.tiny_gguf_bytes import CODES, HeaderBytes

MIB = 2**20
HUGE = 10 * 10**9

keys = st.text(min_size=1, max_size=20).filter(lambda key: key != "general.alignment")
# Vocabulary entries may hold any bytes; they come back as surrogates.
entries = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def _values(type_name: str) -> st.SearchStrategy[float]:
    if type_name == "bool":
        return st.booleans()
    if type_name.startswith("float"):
        return st.floats(width=32 if type_name == "float32" else 64, allow_nan=False)
    bits, signed = int(type_name.lstrip("uint")), not type_name.startswith("u")
    low = -(2 ** (bits - 1)) if signed else 0
    return st.integers(low, low + 2**bits - 1)


numeric = st.sampled_from(sorted(CODES)).flatmap(
    lambda name: st.tuples(st.just(name), _values(name) | st.lists(_values(name), max_size=5))
)
strings = st.tuples(st.just("string"), st.text(max_size=20) | st.lists(entries, max_size=5))
metadata = st.dictionaries(keys, numeric | strings, max_size=8)
tensors = st.dictionaries(
    st.text(min_size=1, max_size=10),
    st.tuples(st.lists(st.integers(1, 64), max_size=4), st.integers(0, 2**40)),
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(entries=metadata, shapes=tensors, version=st.sampled_from([2, 3]), order=st.sampled_from(["<", ">"]))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    entries: dict[str, tuple[str, float | str | list[float] | list[str]]],
    shapes: dict[str, tuple[list[int], int]],
    version: int,
    order: Literal["<", ">"],
) -> None:
    built = HeaderBytes(version, order).start(tensors=len(shapes), metadata=len(entries))
    for key, (type_name, value) in entries.items():
        if isinstance(value, list):
            built.array(key, type_name, value)
        else:
            built.scalar(key, type_name, value)
    for name, (shape, offset) in shapes.items():
        built.tensor(name, tuple(shape), type_id=1, offset=offset)
    path = _written(tmp_path_factory.getbasetemp() / "round.gguf", built)

    header = read_header(path, with_arrays=True)

    expected = {key: tuple(value) if isinstance(value, list) else value for key, (_, value) in entries.items()}
    assert dict(header.metadata) == expected
    assert [type(value) for value in header.metadata.values()] == [type(value) for value in expected.values()]
    assert [(t.name, list(t.shape), t.offset) for t in header.tensors] == [(n, s, o) for n, (s, o) in shapes.items()]
    assert (header.version, header.byte_order) == (version, "little" if order == "<" else "big")
    assert header.data_offset == math.ceil(len(built.data) / 32) * 32
    assert header.parameter_count == sum(math.prod(shape) for shape, _ in shapes.values())


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_agrees_with_the_gguf_package(architecture: str) -> None:
    path = tiny_model(architecture, n_layers=4)
    header, peer = read_header(path, with_arrays=True), GGUFReader(path)

    fields = {key: item.contents() for key, item in peer.fields.items() if not key.startswith("GGUF.")}
    assert {key: list(v) if isinstance(v, tuple) else v for key, v in header.metadata.items()} == fields
    assert header.data_offset == peer.data_offset
    for ours, theirs in zip(header.tensors, peer.tensors, strict=True):
        assert (ours.name, ours.shape) == (theirs.name, tuple(theirs.shape))
        assert (ours.type_name, ours.size_bytes) == (theirs.tensor_type.name, theirs.n_bytes)
        assert header.data_offset + ours.offset == theirs.data_offset
    assert header.missing_bytes == 0


def test_big_endian_files_of_the_gguf_package_are_read(tmp_path: Path) -> None:
    little, big = tmp_path / "little.gguf", tmp_path / "big.gguf"
    write_tiny(little)
    write_tiny(big, big_endian=True)
    assert read_header(big).byte_order == "big"
    assert dict(read_header(big, with_arrays=True).metadata) == dict(read_header(little, with_arrays=True).metadata)
    assert read_header(big).tensors == read_header(little).tensors


def test_long_arrays_are_read_on_request_only(tmp_path: Path) -> None:
    built = HeaderBytes().start(metadata=5)
    built.array("words", "string", ["a", "bc"]).array("short", "uint32", [1, 2]).array("long", "float32", [0.5] * 1025)
    built.array("section", "bool", [True] * 1024).scalar("after", "uint8", 7)
    path = _written(tmp_path / "arrays.gguf", built)

    skipped = read_header(path).metadata
    words_at = built.data.index(b"\1" + bytes(7) + b"a")
    assert skipped["words"] == ArrayInfo(element_type="string", count=2, offset=words_at)
    assert (skipped["short"], skipped["after"]) == ((1, 2), 7)
    assert skipped["section"] == (True,) * 1024
    assert isinstance(skipped["long"], ArrayInfo)
    assert (skipped["long"].element_type, skipped["long"].count) == ("float32", 1025)
    named = read_header(path, with_arrays={"long"}).metadata
    assert named["long"] == (0.5,) * 1025
    assert isinstance(named["words"], ArrayInfo)
    assert read_header(path, with_arrays=True).metadata["words"] == ("a", "bc")


def test_alignment_moves_the_tensor_data(tmp_path: Path) -> None:
    built = HeaderBytes().start(metadata=1).scalar("general.alignment", "uint32", 4096)
    header = read_header(_written(tmp_path / "aligned.gguf", built))
    assert (header.alignment, header.data_offset) == (4096, 4096)


# What the header tells


def test_facts_of_a_language_model() -> None:
    header = read_header(tiny_model("llama", context_length=8192, n_layers=3, vocab_size=400))
    assert (header.architecture, header.name, header.quantization) == ("llama", "Tiny llama", "F16")
    assert (header.context_length, header.block_count, header.embedding_length) == (8192, 3, 64)
    assert header.vocabulary_size == 400
    assert header.chat_template is not None
    assert "<|im_start|>" in header.chat_template
    assert header.per_layer("attention.head_count_kv") == (2, 2, 2)
    assert not header.is_embedding
    assert not header.is_projector


def test_facts_of_hybrids_are_per_layer() -> None:
    header = read_header(tiny_model("granitehybrid", n_layers=4))
    assert header.per_layer("attention.head_count_kv") == (0, 2, 0, 2)
    assert header.per_layer("attention.head_count") == (4, 4, 4, 4)


def test_encoders_are_embedding_models() -> None:
    assert read_header(tiny_model("bert")).is_embedding


def test_a_language_model_that_pools_is_an_embedding_model(tmp_path: Path) -> None:
    built = HeaderBytes().start(metadata=2)
    built.scalar("general.architecture", "string", "qwen3").scalar("qwen3.pooling_type", "uint32", 3)
    assert read_header(_written(tmp_path / "pooled.gguf", built)).is_embedding


def test_projectors_are_told_apart(tmp_path: Path) -> None:
    built = HeaderBytes().start(metadata=1).scalar("general.architecture", "string", "clip")
    assert read_header(_written(tmp_path / "mmproj.gguf", built)).is_projector


def test_a_silent_header_answers_none(tmp_path: Path) -> None:
    header = read_header(_written(tmp_path / "silent.gguf", HeaderBytes().start()))
    assert (header.architecture, header.name, header.context_length, header.chat_template) == (None, None, None, None)
    assert (header.quantization, header.vocabulary_size, header.per_layer("attention.head_count")) == (None, None, None)
    assert (header.parameter_count, header.missing_bytes, header.shard_count) == (0, 0, 1)


def test_facts_of_the_wrong_type_are_not_known(tmp_path: Path) -> None:
    built = HeaderBytes().start(metadata=4)
    built.scalar("general.architecture", "string", "llama").scalar("general.name", "uint32", 7)
    built.scalar("llama.context_length", "string", "many").scalar("llama.block_count", "bool", True)
    header = read_header(_written(tmp_path / "odd.gguf", built))
    assert (header.name, header.context_length, header.block_count) == (None, None, None)


def test_an_absurd_layer_count_is_not_spelled_out(tmp_path: Path) -> None:
    built = HeaderBytes().start(metadata=3).scalar("general.architecture", "string", "llama")
    built.scalar("llama.block_count", "uint32", 2**32 - 1).scalar("llama.attention.head_count_kv", "uint32", 8)
    assert read_header(_written(tmp_path / "deep.gguf", built)).per_layer("attention.head_count_kv") is None


def test_quantization_without_a_file_type_is_that_of_most_values(tmp_path: Path) -> None:
    built = HeaderBytes().start(tensors=2)
    built.tensor("norm", (64,), type_id=0).tensor("weight", (256, 64), type_id=12, offset=256)
    assert read_header(_written(tmp_path / "untyped.gguf", built)).quantization == "Q4_K"


def test_a_guessed_file_type_counts(tmp_path: Path) -> None:
    built = HeaderBytes().start(metadata=1).scalar("general.file_type", "uint32", 1024 + 15)
    assert read_header(_written(tmp_path / "guessed.gguf", built)).quantization == "Q4_K_M"


def test_missing_tensor_data_is_counted(tmp_path: Path) -> None:
    whole = tiny_model("llama").read_bytes()
    read_header(tiny_model("llama")).check_tensor_data()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[:-1000])
    header = read_header(cut)
    assert 1000 - 32 < header.missing_bytes <= 1000  # the last tensor is padded
    with pytest.raises(GgufError, match=r"cut\.gguf.*incomplete"):
        header.check_tensor_data()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("big-00002-of-00003.gguf", Shard("big", 2, 3)),
        ("/models/a/b-q4-00001-of-00010.GGUF", Shard("b-q4", 1, 10)),
        ("whole.gguf", None),
        ("big-00000-of-00003.gguf", None),
        ("big-00004-of-00003.gguf", None),
        ("big-1-of-3.gguf", None),
        ("big-00001-of-00003.gguf.part", None),
    ],
)
def test_shards_are_known_by_name(name: str, expected: Shard | None) -> None:
    assert parse_shard(name) == expected


# What is no model


def _entry(key: str = "k") -> HeaderBytes:
    return HeaderBytes().start(metadata=1).text(key)


HOSTILE: dict[str, tuple[HeaderBytes | bytes, str]] = {
    "empty file": (b"", "byte 0"),
    "only magic": (b"GGUF", "byte 4.*ends inside"),
    "HTML": (b"<!DOCTYPE html><html>404</html>", "byte 0.*no GGUF"),
    "version 0": (HeaderBytes(version=0).start(), "version 0"),
    "version 1": (HeaderBytes(version=1).start(), "version 1 is not supported"),
    "version 1, big-endian": (HeaderBytes(version=1, order=">").start(), "version 1 is not supported"),
    "version 4": (HeaderBytes(version=4).start(), "unknown GGUF version 4"),
    "absurd tensor count": (HeaderBytes().start(tensors=2**64 - 1), "byte 8.*tensors announced"),
    "absurd metadata count": (HeaderBytes().start(metadata=2**63), "byte 16.*metadata entries announced"),
    "more entries than there are": (HeaderBytes().start(metadata=2).scalar("k", "uint64", 1), "announced"),
    "10 GB key": (HeaderBytes().start(metadata=1).text(b"k" * 20, length=HUGE), "byte 24.*key of 10,000,000,000"),
    "10 GB text": (_entry().number("I", 8).text("short", length=HUGE), "text of 10,000,000,000 bytes"),
    "text past the end": (_entry().number("I", 8).text("short", length=6), "ends inside text"),
    "key that is not UTF-8": (
        HeaderBytes().start(metadata=1).text(b"\xff\xfe").number("I", 0),
        "key that is not UTF-8",
    ),
    "text that is not UTF-8": (_entry().number("I", 8).text(b"\xc3("), "text that is not UTF-8"),
    "unknown type": (_entry().number("I", 13).number("Q", 0), "unknown value type 13"),
    "unknown element type": (_entry().number("I", 9, 77).number("Q", 0), "unknown value type 77"),
    "nested array": (_entry().number("I", 9, 9).number("Q", 1), "array of arrays"),
    "absurd number array": (HeaderBytes().start(metadata=1).array("k", "uint32", [1], count=2**62), "announced"),
    "absurd string array": (HeaderBytes().start(metadata=1).array("k", "string", ["a"], count=2**62), "announced"),
    "string array past the end": (
        HeaderBytes().start(metadata=1).array("k", "string", ["a" * 40, ""], count=3),
        "an array of 3 strings reaches past the end",
    ),
    "string in an array past the end": (
        _entry().number("I", 9, 8).number("Q", 1).text("short", length=2**64 - 1),
        "an array of 1 strings reaches past the end",
    ),
    "string far past the end": (
        _entry().number("I", 9, 8).number("Q", 2).text("short", length=2**64 - 1).text("short"),
        "an array of 2 strings reaches past the end",
    ),
    "duplicated key": (
        HeaderBytes().start(metadata=2).scalar("k", "uint8", 1).scalar("k", "uint8", 1),
        "'k' appears twice",
    ),
    "duplicated tensor": (HeaderBytes().start(tensors=2).tensor("t", (1,)).tensor("t", (1,)), "'t' appears twice"),
    "too many dimensions": (HeaderBytes().start(tensors=1).tensor("t", (1, 1, 1, 1, 1)), "5 dimensions"),
    "alignment of 3": (HeaderBytes().start(metadata=1).scalar("general.alignment", "uint32", 3), "not a power of two"),
    "alignment of 0": (HeaderBytes().start(metadata=1).scalar("general.alignment", "uint32", 0), "not a power of two"),
    "alignment in words": (HeaderBytes().start(metadata=1).scalar("general.alignment", "", "32"), "not a power of two"),
}


@pytest.mark.parametrize("with_arrays", [False, True])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_with_the_reason(tmp_path: Path, case: str, with_arrays: bool) -> None:
    built, reason = HOSTILE[case]
    path = _written(tmp_path / "hostile.gguf", built)
    with pytest.raises(GgufError, match=rf"hostile\.gguf: .*{reason}") as caught:
        read_header(path, with_arrays=with_arrays)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.gguf", Path("nul\0byte.gguf")):
        with pytest.raises(GgufError):
            read_header(path)


@pytest.mark.needs_posix("no named pipes in the file system")
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(GgufError, match="not a regular file"):
        read_header(tmp_path / "pipe.gguf")


@pytest.mark.parametrize("with_arrays", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_truncation_is_refused(tmp_path: Path, order: Literal["<", ">"], with_arrays: bool) -> None:
    whole = bytes(_specimen(order).data)
    path = tmp_path / "cut.gguf"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(GgufError, match=r"cut\.gguf"):
            read_header(path, with_arrays=with_arrays)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Flipped bits, spliced-in counts and lengths, cuts: `GgufError` or a header whose every fact can be asked for."""
    rng = random.Random(seed)
    path = tmp_path / "damaged.gguf"
    refused = 0
    for _ in range(400):
        path.write_bytes(_damaged(bytes(_specimen(rng.choice("<>")).data), rng))
        try:
            header = read_header(path, with_arrays=rng.random() < 0.5)
        except GgufError:
            refused += 1
        else:
            _ask_everything(header)
    assert 0 < refused < 400


def test_announced_sizes_are_not_allocated(tmp_path: Path) -> None:
    """Sparse files that are as large as they claim still cost next to nothing."""
    cases = {
        "text": (_entry().number("I", 8).number("Q", 300 * MIB), "text of"),
        "string": (_entry().number("I", 9, 8).number("Q", 1).number("Q", 300 * MIB), "longer than a vocabulary"),
        "strings": (_entry().number("I", 9, 8).number("Q", 30 * MIB), "announced"),
        "numbers": (_entry().number("I", 9, 0).number("Q", 300 * MIB), "MiB of metadata"),
    }
    for name, (built, reason) in cases.items():
        path = _written(tmp_path / f"{name}.gguf", built)
        os.truncate(path, 400 * MIB)
        tracemalloc.start()
        try:
            with pytest.raises(GgufError, match=reason):
                read_header(path, with_arrays=True)
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()


def test_texts_have_a_ceiling_together(tmp_path: Path) -> None:
    path = tmp_path / "texts.gguf"
    with path.open("wb") as file:
        file.write(HeaderBytes().start(metadata=9).data)
        for number in range(9):
            file.write(HeaderBytes(data=bytearray()).text(f"k{number}").number("I", 8).number("Q", 16 * MIB).data)
            file.truncate(file.seek(16 * MIB, os.SEEK_CUR))
    with pytest.raises(GgufError, match="more than 128 MiB of metadata"):
        read_header(path)


def _written(path: Path, built: HeaderBytes | bytes) -> Path:
    path.write_bytes(built if isinstance(built, bytes) else built.data)
    return path


def _specimen(order: Literal["<", ">"] | str) -> HeaderBytes:
    """A small header with something of everything."""
    built = HeaderBytes(order=">" if order == ">" else "<").start(tensors=2, metadata=7)
    built.scalar("general.architecture", "string", "llama").scalar("llama.block_count", "uint32", 2)
    built.scalar("llama.rope.freq_base", "float32", 1e4).scalar("general.file_type", "uint32", 15)
    built.array("llama.attention.head_count_kv", "int32", [8, 0]).array("tokenizer.ggml.tokens", "string", ["a", "é"])
    built.scalar("tokenizer.ggml.add_bos_token", "bool", False)
    return built.tensor("token_embd.weight", (256, 2), type_id=12).tensor("output_norm.weight", (256,), offset=288)


def _damaged(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(4, len(damaged))
        match rng.randrange(4):
            case 0:
                damaged[at] ^= 1 << rng.randrange(8)
            case 1:
                damaged[at : at + 8] = struct.pack(
                    "<Q", rng.choice([0, 1, 255, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1])
                )
            case 2:
                damaged[at:at] = rng.randbytes(rng.randint(1, 9))
            case _:
                del damaged[at : at + rng.randint(1, 9)]
    return bytes(damaged)


def _ask_everything(header: GgufHeader) -> None:
    for fact in (name for name, item in vars(GgufHeader).items() if isinstance(item, property)):
        getattr(header, fact)
    for key in header.metadata:
        header.per_layer(key.partition(".")[2])
        header.number(key)


# Files that change under the reader

READ_FOREVER = """
import sys, time
from lmstrix.ground.errors import GgufError
from lmstrix.loaders.gguf import read_header
outcomes, until = set(), time.monotonic() + 2
while time.monotonic() < until:
    try:
        outcomes.add(len(read_header(sys.argv[1]).metadata["words"].element_type))
    except GgufError as exc:
        outcomes.add(type(exc).__name__)
print(sorted(map(str, outcomes)))
"""


@pytest.mark.slow
@pytest.mark.needs_posix("Windows lets nobody shorten a file that is open")
def test_a_file_that_is_cut_and_rewritten_while_it_is_read_ends_no_process(tmp_path: Path) -> None:
    whole = bytes(HeaderBytes().start(metadata=1).array("words", "string", ["word"] * 200_000).data)
    path = tmp_path / "moving.gguf"
    path.write_bytes(whole)
    # A process of its own, because a signal would end this one.
    with subprocess.Popen([sys.executable, "-c", READ_FOREVER, str(path)], stdout=subprocess.PIPE, text=True) as reader:
        while reader.poll() is None:
            with path.open("r+b") as file:
                file.truncate(100)
                file.write(whole)
        assert reader.stdout is not None
        assert (reader.returncode, "GgufError" in reader.stdout.read()) == (0, True)


class Shrinking(io.FileIO):
    """A file that somebody cuts to `end` bytes as soon as it has been read from."""

    end = 100

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(-1 if size is None else size)
        os.truncate(str(self.name), self.end)
        return piece


def test_a_file_that_changes_while_it_is_read_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = HeaderBytes().start(metadata=1).array("words", "string", ["word"] * 100_000)
    path = _written(tmp_path / "moving.gguf", built)
    monkeypatch.setattr(gguf, "open_regular", Shrinking)
    with pytest.raises(GgufError, match=r"moving\.gguf: changed while it was read; wait"):
        read_header(path)


@pytest.mark.needs_posix("needs sparse files")
def test_a_file_of_long_jumps_is_not_read_to_its_end(tmp_path: Path) -> None:
    built, jump = _entry().number("I", 9, 8).number("Q", 3000), 2**20
    path = tmp_path / "sparse.gguf"
    with path.open("wb") as file:
        file.write(bytes(built.data))
        for _ in range(3000):
            file.write(struct.pack("<Q", jump))
            file.seek(jump, os.SEEK_CUR)
        file.truncate()
    with pytest.raises(GgufError, match="longer than 256 MiB"):
        read_header(path)
