"""The counting chain without a model: which way is taken, and that nothing is ever downloaded."""

from __future__ import annotations

import base64
import hashlib
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.answers import tokens
from lmstrix.core.answers.tokens import cached_vocabulary, estimate_tokens

if TYPE_CHECKING:
    from pathlib import Path

FILE = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # what tiktoken calls its cl100k_base


@pytest.fixture(autouse=True)
def vocabularies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for tiktoken, and no network at all."""

    def refuse(*_: object) -> None:
        raise AssertionError("something opened a connection")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path


def test_four_bytes_a_token_when_nothing_is_known() -> None:
    count = estimate_tokens("ä" * 10)
    assert (count.tokens, count.method, count.exact) == (5, "bytes", False)


def test_earlier_prompts_come_first() -> None:
    count = estimate_tokens("x" * 30, bytes_per_token=3.0)
    assert (count.tokens, count.method, count.exact) == (10, "earlier prompts", False)


def test_a_damaged_vocabulary_is_left_alone(vocabularies: Path) -> None:
    (vocabularies / FILE).write_bytes(b"IQ== 0\n")
    assert estimate_tokens("hello").method == "bytes"
    assert (vocabularies / FILE).read_bytes() == b"IQ== 0\n"


def test_a_vocabulary_that_is_there_is_used(vocabularies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bytewise = b"".join(base64.b64encode(bytes([byte])) + f" {byte}\n".encode() for byte in range(256))
    (vocabularies / FILE).write_bytes(bytewise)
    digest = hashlib.sha256(bytewise).hexdigest()
    monkeypatch.setattr(tokens, "_ENCODING_SHA256", digest)
    assert cached_vocabulary({"TIKTOKEN_CACHE_DIR": str(vocabularies)}) == vocabularies / FILE
    assert cached_vocabulary({"DATA_GYM_CACHE_DIR": str(vocabularies)}) == vocabularies / FILE


@pytest.mark.parametrize("environ", [{"TIKTOKEN_CACHE_DIR": ""}, {"TIKTOKEN_CACHE_DIR": "/nowhere"}])
def test_no_cache_no_vocabulary(environ: dict[str, str]) -> None:
    assert cached_vocabulary(environ) is None


@given(st.text(st.characters()))
def test_any_text_counts(text: str) -> None:
    count = estimate_tokens(text)
    assert (count.tokens == 0) == (text == "")
