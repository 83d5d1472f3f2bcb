"""What the earlier LMStrix did with models and their registry, one test for each thing that no other test shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ran


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A server of models with odd names and figures."""
    models = [
        FaultyModel(key="embedded-coder-7b", declared=4096),
        FaultyModel(key="[/nope]", declared=4096),
        FaultyModel(key="acme/[v2]model", declared=10**12),
        FaultyModel(key="silent", declared=0),
        FaultyModel(key="heavy", declared=4096, loadable=0),
    ]
    with FaultyServer(*models) as running:
        monkeypatch.setenv("LMSTRIX_SERVER", running.address)
        yield running


def records(cli: Callable[..., Ran]) -> dict[str, dict[str, Any]]:
    """`list --compat` by id."""
    return {model["id"]: model for model in json.loads(cli("list", "--compat").ok().out)}


def test_lmstrix_alone_shows_the_overview(cli: Callable[..., Ran], home: Path) -> None:
    for words in ([], ["help"], ["-h"], ["--help"]):
        ran = cli(*words).ok()
        assert ran.out.startswith("LMStrix finds the real context limit")
        assert ran.err == ""


def test_the_service_that_was_there_by_accident_is_told(cli: Callable[..., Ran], home: Path) -> None:
    cli("service", "scan_models").failed(2, "service is of the earlier LMStrix", "scan, list, test, infer")


def test_about_counts_what_is_in_the_registry(cli: Callable[..., Ran], server: FaultyServer) -> None:
    cli("scan", "-q").ok()
    lines = dict(line.split(maxsplit=1) for line in cli("about", "-q").ok().out.splitlines())
    assert lines["models"] == "5"
    assert lines["status"] == "5 untested"


def test_a_scan_records_size_contexts_tools_and_vision(cli: Callable[..., Ran], server: FaultyServer) -> None:
    server.models["embedded-coder-7b"].extra = {"vision": True, "trainedForToolUse": False}
    cli("scan", "-q").ok()
    model = records(cli)["embedded-coder-7b"]
    assert model["path"] == "embedded-coder-7b-GGUF/embedded-coder-7b-q8_0.gguf"
    assert model["size_bytes"] > 0
    assert (model["ctx_in"], model["ctx_out"]) == (4096, 4096)
    assert (model["has_tools"], model["has_vision"]) == (False, True)


def test_a_name_with_embed_in_it_is_no_embedding_model(cli: Callable[..., Ran], server: FaultyServer) -> None:
    cli("scan", "-q").ok()
    cli("test", "embedded-coder-7b", "--fast", "-q").ok()
    assert records(cli)["embedded-coder-7b"]["tested_max_context"] == 4096


def test_a_declared_context_of_nothing_or_of_a_trillion_keeps_its_model(
    cli: Callable[..., Ran], server: FaultyServer
) -> None:
    cli("scan", "-q").ok()
    found = records(cli)
    assert found["silent"]["ctx_in"] == 0
    assert found["acme/[v2]model"]["ctx_in"] == 10**12


def test_names_with_brackets_are_shown_whole(cli: Callable[..., Ran], server: FaultyServer) -> None:
    cli("scan", "-q").ok()
    shown = cli("list").ok().out
    assert "[/nope]" in shown
    assert "acme/[v2]model" in shown


def test_ids_are_sorted_upwards_and_downwards(cli: Callable[..., Ran], server: FaultyServer) -> None:
    cli("scan", "-q").ok()
    upwards = cli("list", "--sort", "id", "--show", "id").ok().out.split()
    assert upwards == sorted(upwards)
    assert cli("list", "--sort", "idd", "--show", "id", "-q").ok().out.split() == upwards[::-1]


def test_failed_forgets_the_results_of_failed_models_alone(cli: Callable[..., Ran], server: FaultyServer) -> None:
    cli("scan", "-q").ok()
    cli("test", "embedded-coder-7b", "--fast", "-q").ok()
    assert cli("test", "heavy", "--fast", "-q").code == 1
    cli("scan", "--failed", "-q").ok()
    found = records(cli)
    assert found["heavy"]["status"] == "untested"
    assert found["embedded-coder-7b"]["status"] == "tested"
