"""How long a prompt is: refused at once where it cannot fit, estimated by what was seen, and a dry run that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.core.history import History
from tests.cli.conftest import SCRIPTED, loaded_on
from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix import EmbeddedEngine
    from tests.cli.conftest import Ran

MODEL = "acme/tiny"
MEGABYTE = 2**20


def test_a_text_that_cannot_fit_by_its_bytes_is_never_sent(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    faulty.seen.clear()
    ran = cli("infer", "-", "-m", MODEL, stdin=b"word " * (2 * MEGABYTE))
    ran.failed(1, "10,485,759 bytes", "40,960 tokens at the very least", "32,768")
    assert not faulty.seen


def test_of_a_text_far_too_long_a_part_is_counted(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    ran = cli("infer", "-", "-m", SCRIPTED, "--quiet", stdin=b"a b " * (MEGABYTE // 10))
    ran.failed(1, "the first 262,144 of its 419,427 characters are", "but the context holds 2,048")
    assert loaded_on(engine.address) == []


def test_bytes_do_not_refuse_what_fits(cli: Callable[..., Ran]) -> None:
    with FaultyServer(FaultyModel(key=MODEL, declared=4096)) as server:
        words = ("infer", "-", "-m", MODEL, "--quiet", "--server", server.address)
        # One word is one token here, however long.
        cli(*words, stdin=b"x" * (MEGABYTE // 2)).ok()


def test_a_dry_run_says_what_does_not_fit_and_why_it_did_not_count(
    cli: Callable[..., Ran], engine: EmbeddedEngine
) -> None:
    cli("scan", "--quiet").ok()
    short = cli("infer", "2+3=", "-m", SCRIPTED, "--dry-run").ok()
    assert "not counted exactly: scripted is not loaded on the embedded engine at" in short.err
    ran = cli("infer", "word " * 6000, "-m", SCRIPTED, "--dry-run")
    assert ran.code == 1
    assert ran.out == "word " * 6000
    assert "about 7,500 of 2,048 tokens" in ran.err
    assert ran.lines[-1] == "lmstrix: the prompt and its answer do not fit the context; shorten it, or see --in-ctx"
    told = cli("infer", "2+3=", "-m", SCRIPTED, "--dry-run", "--json", "--out-ctx", "2040").ok().json
    assert (told["fits"], told["count_exact"]) == (True, False)
    cli("infer", "2+3=", "-m", SCRIPTED, "--quiet").ok()
    ran = cli("infer", "2+3=", "-m", SCRIPTED, "--dry-run", "--json", "--out-ctx", "2040")
    assert (ran.code, ran.json["fits"], ran.json["count_exact"], ran.json["not_counted"]) == (1, False, True, None)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "acme/tiny is not loaded"),
        (("-m", MODEL, "--server", "127.0.0.1:1"), "no server answers"),
    ],
)
def test_a_dry_run_says_what_was_missing(
    cli: Callable[..., Ran], faulty: FaultyServer, words: tuple[str, ...], why: str
) -> None:
    cli("scan", "--quiet").ok()
    assert f"not counted exactly: {why}" in cli("infer", "hi", "--dry-run", *words).ok().err


def test_a_failing_count_is_told(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("infer", "hi", "-m", MODEL, "--quiet").ok()
    faulty.faults.errors["countTokens"] = {"title": "no tokenizer here"}
    assert "could not count it: " in cli("infer", "hi", "-m", MODEL, "--dry-run").ok().err


def test_estimates_learn_the_template_from_the_log(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    sent = cli("infer", "hi", "-m", SCRIPTED, "--ttl", "0", "--json").ok().json
    with History(home / "lmstrix.db") as history:
        sizes = history.calls.prompt_sizes("acme/scripted-GGUF/scripted-f16.gguf")
    assert sizes == [(2, sent["prompt_tokens"])]
    told = cli("infer", "hi", "-m", SCRIPTED, "--dry-run", "--json").ok().json
    assert told["counted_by"] == "earlier prompts"
    assert told["prompt_tokens"] == pytest.approx(sent["prompt_tokens"], abs=1)
    # Where two bytes took the whole template, ten thousand times as many do not take ten thousand templates.
    long = cli("infer", "x" * 20_000, "-m", SCRIPTED, "--dry-run", "--json").json
    assert 2_500 <= long["prompt_tokens"] <= 10_000
