"""`ps`: what is loaded, and what it takes where the server tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import SCRIPTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer


def test_an_engine_tells_what_each_model_takes(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("load", SCRIPTED).ok()
    (model,) = cli("ps", "--json").ok().json["models"]
    assert model["memory"]["memory_bytes"] >= model["memory"]["kv_cache_bytes"] > 0
    assert model["memory"]["weights_bytes"] > 0
    head, row = cli("ps").ok().out.splitlines()
    assert "MEMORY" in head
    assert row.count("iB") == 2  # of the file, and of the memory


def test_what_a_server_does_not_tell_is_not_made_up(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("load", "acme/tiny").ok()
    (model,) = cli("ps", "--json").ok().json["models"]
    assert "memory" not in model
    assert cli("ps").ok().out.splitlines()[1].count("iB") == 1


def test_layers_on_the_card_and_the_load_are_told(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("load", SCRIPTED, "--batch-size", "96", "--threads", "1", "--mlock", "--k-cache-type", "q8_0").ok()
    (model,) = cli("ps", "--json").ok().json["models"]
    # Its two layers and the output; llama.cpp of the tests has no cards.
    assert (model["gpu_layers"], model["all_layers"]) == (0, 3)
    load = model["load"]
    assert (load["eval_batch_size"], load["threads"], load["keep_in_memory"], load["k_cache_type"]) == (
        96,
        1,
        True,
        "q8_0",
    )
    ran = cli("ps", "--verbose").ok()
    head, row = ran.out.splitlines()
    assert "ON GPU" in head
    assert " 0/3 " in row
    assert any("batch of 96 tokens, 1 thread, K cache q8_0" in line for line in ran.lines)
    assert any("weights locked in memory" in line for line in ran.lines)


def load_answer(**values: object) -> dict[str, object]:
    return {"fields": [{"key": f"llm.load.llama.{name}", "value": value} for name, value in values.items()]}


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"acceleration.offloadRatio": 0.5}, "50%"),
        ({"acceleration.offloadRatio": "max"}, "100%"),
        ({"acceleration.offloadRatio": "off"}, "0%"),
        ({"acceleration.offloadRatio": "max", "autoFit": True}, "not told"),
        ({"acceleration.offloadRatio": [7]}, "not told"),
        ({}, "not told"),
    ],
)
def test_lm_studio_tells_the_share_of_layers(
    cli: Callable[..., Ran], faulty: FaultyServer, told: dict[str, object], shown: str
) -> None:
    cli("load", "acme/tiny").ok()
    faulty.faults.answers["getLoadConfig"] = load_answer(**told)
    assert shown in cli("ps").ok().out.splitlines()[1]
    (model,) = cli("ps", "--json").ok().json["models"]
    assert "gpu_layers" not in model


def test_a_server_that_tells_nothing_of_loads(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("load", "acme/tiny").ok()
    faulty.faults.errors["getLoadConfig"] = {"title": "unknown endpoint"}
    ran = cli("ps", "--verbose").ok()
    assert "not told" in ran.out
    assert "acme/tiny: the server does not tell how it was loaded" in ran.lines
