"""`ps`: what is loaded, and what it takes where the server tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
