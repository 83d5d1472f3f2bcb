"""How a model is loaded, said where an answer is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import EMBEDDING as EMBEDS
from tests.cli.conftest import SCRIPTED, loaded_on
from tests.support.faulty_server import FaultyModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

MODEL = "acme/tiny"
EMBEDDING = "acme/embed"
CACHES = ("--k-cache-type", "q8_0", "--v-cache-type", "q8_0", "--flash-attention")
LOAD = ("--gpu", "0.5", *CACHES, "--batch-size", "128", "--threads", "3", "--no-mlock")


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
    for words in (("load", MODEL), ("infer", "hi", "-m", MODEL), (*batch, "--parallel", "2")):
        cli(*words, *LOAD).ok()
        told = loads(faulty)[-1]
        assert (told["offloadRatio"], told["flashAttention"]) == (0.5, True)
        assert (told["evalBatchSize"], told["cpuThreadPoolSize"], told["keepModelInMemory"]) == (128, 3, False)
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


def test_what_no_load_can_honour_is_refused_before_one(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("infer", "hi", "-m", MODEL, "--batch-size", "1").failed(2, "--batch-size: 1 is out of range (at least 2")
    cli("scan", "--quiet").ok()
    odd = ("--v-cache-type", "q8_0", "--no-flash-attention")
    for command in (("infer", "hi", "-m", MODEL), ("load", MODEL)):
        cli(*command, *odd).failed(2, "--v-cache-type q8_0 needs flash attention: leave out --no-flash-attention")
    assert loads(faulty) == []
    cli("infer", "hi", "-m", MODEL, "--v-cache-type", "f16", "--no-flash-attention").ok()


def test_a_chat_loads_its_model_so_once_for_all_questions(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("infer", "hi", "-m", MODEL).ok()
    cli("chat", "-m", MODEL, *LOAD, stdin=b"one\ntwo\nthree\n").ok()
    _, of_chat = loads(faulty)
    assert (of_chat["offloadRatio"], of_chat["cpuThreadPoolSize"]) == (0.5, 3)


def test_embeddings_are_loaded_with_what_their_models_have(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    faulty.models = {EMBEDDING: FaultyModel(key=EMBEDDING, kind="embedding")}
    cli("embed", "a", "-m", EMBEDDING).ok()
    cli("embed", "a", "-m", EMBEDDING, "--gpu", "0", "--batch-size", "64", "--mlock").ok()
    _, told = loads(faulty)
    assert (told["offloadRatio"], told["evalBatchSize"], told["keepModelInMemory"]) == (0, 64, True)
    refused = cli("load", EMBEDDING, "--threads", "2", "--k-cache-type", "q8_0")
    refused.failed(2, "--k-cache-type and --threads", "an embedding model", "leave them out")
    assert len(loads(faulty)) == 2


def test_the_engine_refuses_the_batch_of_an_embedding_model(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan").ok()
    for words in (("embed", "a", "-m", EMBEDS), ("load", EMBEDS)):
        cli(*words, "--batch-size", "64").failed(2, f"--batch-size has no effect on {EMBEDS}: the embedded engine")
    assert loaded_on(engine.address) == []


@pytest.mark.parametrize("wrong", [("--threads", "0"), ("--threads", "513"), ("--batch-size", "0"), ("--mlock", "x")])
def test_a_setting_out_of_range_is_refused_before_anything_runs(
    cli: Callable[..., Ran], faulty: FaultyServer, wrong: tuple[str, ...]
) -> None:
    refused = cli("load", MODEL, *wrong)
    assert (refused.code, faulty.seen) == (2, [])


@pytest.mark.slow
def test_a_smaller_batch_needs_less_memory_and_has_results_of_its_own(
    cli: Callable[..., Ran], engine: EmbeddedEngine
) -> None:
    usual, small, large = (
        cli("estimate", SCRIPTED, *words, "--json").ok().json
        for words in ((), ("--batch-size", "64"), ("--batch-size", "2048"))
    )
    assert small["compute_buffer_bytes"] < usual["compute_buffer_bytes"] / 4
    assert large["compute_buffer_bytes"] == usual["compute_buffer_bytes"]
    assert small["server_total_bytes"] < usual["server_total_bytes"]
    for words in ((), ("--batch-size", "64"), ("--threads", "2", "--mlock")):
        cli("test", SCRIPTED, "--fast", *words).ok()
    (model,) = (each for each in cli("list", "--json").ok().json["models"] if each["model_key"] == SCRIPTED)
    settings = sorted(result["configuration"].partition(" ")[2] for result in model["results"])
    assert settings == ["", "batch=64"]
