"""The counting chain without a model: which way is taken, and that nothing is ever downloaded."""

from __future__ import annotations

import base64
import hashlib
import socket
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.answers import tokens
from lmstrix.core.answers.tokens import PromptLine, cached_vocabulary, estimate_tokens, learn_line

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


def test_without_tiktoken_the_next_way_is_taken(vocabularies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "cached_vocabulary", lambda _environ: vocabularies / FILE)
    monkeypatch.setitem(sys.modules, "tiktoken", None)  # what Windows on ARM has of it
    assert estimate_tokens("x" * 40).method == "bytes"
    assert estimate_tokens("x" * 40, line=PromptLine(template_tokens=0, tokens_per_byte=1)).method == "earlier prompts"


def test_earlier_prompts_come_first() -> None:
    count = estimate_tokens("x" * 30, line=PromptLine(template_tokens=7, tokens_per_byte=0.1))
    assert (count.tokens, count.method, count.exact) == (10, "earlier prompts", False)


def test_the_template_is_learnt_apart_from_the_text() -> None:
    """Short prompts are mostly template: as bytes per token they would make every estimate of a long one absurd."""
    line = learn_line([(2, 22)] * 20)
    assert line is not None
    assert line.tokens(2) == 22
    assert 2_000_000 < line.tokens(10_000_000) < 3_000_000
    line = learn_line([(2, 22), (4000, 1370), (9000, 3020), (30, 32)])
    assert line is not None
    assert line.tokens(2) == pytest.approx(22, abs=3)
    assert line.tokens(6000) == pytest.approx(2020, rel=0.1)
    assert line.tokens(10_000_000) == pytest.approx(3_333_000, rel=0.1)


def test_a_prompt_with_tools_or_images_does_not_spoil_the_rest() -> None:
    plain = [(size, 20 + size // 4) for size in range(10, 3000, 100)]
    line = learn_line([(12, 4000), *plain, (40, 1800)])
    assert line is not None
    assert line.tokens(1000) == pytest.approx(270, rel=0.05)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**9)), max_size=30), st.integers(1, 10**9))
def test_no_log_makes_an_absurd_estimate(counted: list[tuple[int, int]], size: int) -> None:
    line = learn_line(counted)
    assert (line is None) == (not counted)
    if line is not None:
        assert size / 8 <= line.tokens(size) <= size + 1025
        assert line.tokens(0) == 0


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
