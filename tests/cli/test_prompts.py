"""Every prompt that the earlier LMStrix changed, evaluated or refused reaches the model byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

PROMPTS = [
    "hello, world", "hello # x", "# Title\nbody", "[x]", "'quoted'", '"double"', "123", "1e5", "3.10", "True", "None",
    "{a}", "0x10", "1_000", "(1)", "...", "{{text}}", "1,2", "- item", "ünïcödé 漢字 🙂", "007", " padded ", "a=b",
    "--not an option", "-5", "@alice hi", "\\n", "a\tb", "%s", "{process.id}", "[/nope]", "line\r\nend\n", "e\u0301",
    "<|endoftext|>", "\x1b[31mred", "null\u200bwidth",
]  # fmt: skip
DASHES = ["-x", "--", "-", "--stream", "-m", "--help"]


def received(server: FaultyServer) -> str:
    """The prompt the server was last asked."""
    messages = server.parameters("predict")["history"]["messages"]
    (message,) = messages
    assert message["role"] == "user"
    text: str = "".join(part["text"] for part in message["content"])
    return text


@pytest.mark.slow
def test_as_an_argument(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    for prompt in PROMPTS:
        cli("infer", prompt, "-m", "acme/tiny").ok()
        assert received(faulty) == prompt


def test_after_two_dashes(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    for prompt in DASHES:
        cli("infer", "-m", "acme/tiny", "--no-stdin", "--", prompt, stdin=b"unread").ok()
        assert received(faulty) == prompt


def test_a_dash_as_an_option_is_a_dash(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("infer", "--prompt=-", "-m", "acme/tiny", "--no-stdin", stdin=b"unread").ok()
    assert received(faulty) == "-"


def test_from_stdin(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    for prompt in [*PROMPTS[::3], *DASHES]:
        cli("infer", "-", "-m", "acme/tiny", stdin=prompt.encode()).ok()
        assert received(faulty) == prompt
    cli("infer", "--stdin", "-m", "acme/tiny", stdin=b"# Title\n").ok()
    assert received(faulty) == "# Title\n"


def test_the_raw_prompt_too(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("infer", "# Title\nbody", "-m", "acme/tiny", "--raw").ok()
    assert received(faulty) == "# Title\nbody"


@pytest.mark.parametrize("prompt", ["", " ", "\n\t"])
def test_an_empty_prompt_is_refused_before_anything_is_asked(
    cli: Callable[..., Ran], faulty: FaultyServer, prompt: str
) -> None:
    cli("scan", "--quiet").ok()
    before = len(faulty.seen)
    cli("infer", prompt, "-m", "acme/tiny").failed(2, "the prompt is empty")
    cli("infer", "-", "-m", "acme/tiny", stdin=prompt.encode()).failed(2, "the prompt is empty")
    assert len(faulty.seen) == before


def test_bytes_that_are_no_text(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    cli("infer", "-", "-m", "acme/tiny", stdin=b"caf\xe9").failed(2, "not valid UTF-8", "byte 3")
    cli("infer", "caf\udce9", "-m", "acme/tiny").failed(2, "not valid UTF-8")


def test_a_prompt_of_fifty_megabytes_is_refused_by_size(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    prompt = b"fifty-bytes-of-a-word-that-goes-on-until-it-is-50 " * 1_000_000
    cli("infer", "-", "-m", "acme/tiny", "--quiet", stdin=prompt).failed(1, "195,313 tokens", "holds")
    assert "predict" not in faulty.endpoints()
