"""Safetensors headers, sane and hostile."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.ground.errors import MlxError
from lmstrix.loaders.safetensors import read_header
from tests.support.safetensors import data_bytes, header_bytes, write_safetensors

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.safetensors import Tensors

TENSORS: Tensors = {
    "layer.weight": ("U32", [4096, 512]),
    "layer.scales": ("BF16", [4096, 64]),
    "layer.biases": ("BF16", [4096, 64]),
    "norm.weight": ("F32", [4096]),
}


def entry(begin: int, end: int, dtype: str = "U8", shape: object = None) -> dict[str, object]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def test_all_tensors_are_counted_to_the_byte(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_safetensors(file, TENSORS)
    header = read_header(file)
    assert sum(tensor.size_bytes for tensor in header.tensors.values()) == data_bytes(TENSORS)
    assert header.missing_bytes == 0
    assert {name: (t.dtype, list(t.shape)) for name, t in header.tensors.items()} == TENSORS


def test_bytes_missing_at_the_end_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    size = write_safetensors(file, TENSORS)
    with file.open("r+b") as cut:
        cut.truncate(size - 1000)
    assert read_header(file).missing_bytes == 1000


HOSTILE = {
    "nothing": (b"", "empty"),
    "short": (b"\x01\x02", "corrupt"),
    "a web page": (b"<html><body>404 Not Found</body></html>", "corrupt"),
    "a length of 2^63": (struct.pack("<Q", 2**63) + b"{}", "corrupt"),
    "a length beyond the file": (struct.pack("<Q", 10_000) + b"{}", "corrupt"),
    "no JSON": (header_bytes("{nope}"), "corrupt"),
    "no object": (header_bytes("[1, 2]"), "corrupt"),
    "deep nesting": (header_bytes('{"a":' * 100_000 + "1" + "}" * 100_000), "corrupt"),
    "bytes that are no text": (struct.pack("<Q", 4) + b'{"\xff\xfe', "corrupt"),
    "a number of 10,000 digits": (header_bytes('{"a": ' + "9" * 10_000 + "}"), "corrupt"),
    "a tensor twice": (header_bytes('{"a": {}, "a": {}}'), "corrupt"),
    "an entry that is a number": (header_bytes({"a": 1}), "corrupt"),
    "offsets the wrong way round": (header_bytes({"a": entry(8, 0, shape=[8])}), "corrupt"),
    "negative offsets": (header_bytes({"a": entry(-8, 0)}), "corrupt"),
    "offsets that are true": (
        header_bytes({"a": {"dtype": "U8", "shape": [1], "data_offsets": [False, True]}}),
        "corrupt",
    ),
    "three offsets": (header_bytes({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}}), "corrupt"),
    "a shape that contradicts": (header_bytes({"a": entry(0, 8, "F32", [3])}), "corrupt"),
    "nine dimensions": (header_bytes({"a": entry(0, 1, "U8", [1] * 9)}), "corrupt"),
    "a shape of 2^504": (header_bytes({"a": entry(0, 1, "new type", [2**62] * 8)}), "corrupt"),
    "tensors that overlap": (header_bytes({"a": entry(0, 8), "b": entry(4, 12)}) + b"\0" * 12, "corrupt"),
}


@pytest.mark.parametrize(("content", "kind"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_header_is_refused_with_one_line(tmp_path: Path, content: bytes, kind: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(MlxError) as failure:
        read_header(file)
    assert failure.value.kind == kind
    assert "model.safetensors" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_type_the_format_gains_later_is_taken_by_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(header_bytes({"a": entry(0, 8, "F2", [32])}) + b"\0" * 8)
    assert read_header(file).tensors["a"].size_bytes == 8


def test_a_file_that_is_not_there_or_no_file_is_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(MlxError) as failure:
            read_header(path)
        assert failure.value.kind == "unreadable"


def test_only_the_first_kilobytes_are_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    size = write_safetensors(file, {"huge": ("F32", [2**18, 2**18])})  # 256 GiB, a hole on the disk
    assert size > 2**38
    assert read_header(file).tensors["huge"].n_values == 2**36


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_ENTRIES = st.dictionaries(
    st.text(max_size=8),
    st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(["U8", "F32", "U32", "F4", "?"]) | _JSON,
            "shape": st.lists(st.integers(-1, 70), max_size=3) | _JSON,
            "data_offsets": st.lists(st.integers(-1, 400), min_size=2, max_size=2) | _JSON,
        },
    )
    | _JSON,
    max_size=4,
)


@settings(deadline=None)
@given(content=st.binary(max_size=64) | _ENTRIES.map(lambda entries: header_bytes(json.dumps(entries)) + bytes(200)))
def test_no_content_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "model.safetensors"
    file.write_bytes(content)
    with suppress(MlxError):
        assert all(tensor.size_bytes >= 0 for tensor in read_header(file).tensors.values())
