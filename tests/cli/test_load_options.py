"""How a model is loaded, said where an answer is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import SCRIPTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

MODEL = "acme/tiny"
LOAD = ("--gpu", "0.5", "--k-cache-type", "q8_0", "--v-cache-type", "q8_0", "--flash-attention")


def loads(faulty: FaultyServer) -> list[dict[str, Any]]:
    """The settings of every load so far, by their last words."""
    stacks = [
        frame["creationParameter"]["loadConfigStack"]
        for _, frame in faulty.seen
        if frame.get("endpoint") == "loadModel"
    ]
    fields = [[field for layer in stack["layers"] for field in layer["config"]["fields"]] for stack in stacks]
    return [{field["key"].rpartition(".")[2]: field["value"] for field in each} for each in fields]


@pytest.fixture
def batch(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "ask.txt").write_text("hi", encoding="utf-8")
    return ("batch", "--prompts", str(tmp_path / "ask.txt"), "--models", MODEL, "--out", str(tmp_path / "out"))


def test_they_reach_the_load(cli: Callable[..., Ran], faulty: FaultyServer, batch: tuple[str, ...]) -> None:
    for words in (("infer", "hi", "-m", MODEL), (*batch, "--parallel", "2")):
        cli(*words, *LOAD).ok()
        told = loads(faulty)[-1]
        assert (told["offloadRatio"], told["flashAttention"]) == (0.5, True)
        for cache in ("kCacheQuantizationType", "vCacheQuantizationType"):
            assert told[cache] == {"checked": True, "value": "q8_0"}


def test_what_is_loaded_otherwise_does_not_serve(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("infer", "hi", "-m", MODEL).ok()
    cli("infer", "hi", "-m", MODEL).ok()
    assert len(loads(faulty)) == 1
    cli("infer", "hi", "-m", MODEL, "--k-cache-type", "q8_0").ok()
    assert len(loads(faulty)) == 2


def test_an_answer_is_kept_with_how_its_model_was_loaded(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("infer", "hi", "-m", MODEL, "--cache").ok()
    cli("infer", "hi", "-m", MODEL, "--cache", "--k-cache-type", "q8_0").ok()
    assert len(loads(faulty)) == 2


def test_a_batch_asks_again_what_was_answered_by_another_load(
    cli: Callable[..., Ran], faulty: FaultyServer, batch: tuple[str, ...]
) -> None:
    for words, outcome in (((), "ok"), ((), "skipped"), (LOAD, "ok"), (LOAD, "skipped")):
        (item,) = cli(*batch, *words, "--json").ok().json["items"]
        assert item["outcome"] == outcome


def test_the_engine_answers_with_them(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    assert cli("infer", "2+3=", "-m", SCRIPTED, "--no-flash-attention", "--gpu", "0").ok().out == "5\n"
