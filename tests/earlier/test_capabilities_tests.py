"""What the earlier LMStrix did to test models, one test for each thing that no other test shows."""

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
def server(monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Ran]) -> Iterator[FaultyServer]:
    """A server of two models, which a scan has found."""
    with FaultyServer(FaultyModel(key="alpha", declared=8192), FaultyModel(key="beta", declared=4096)) as running:
        monkeypatch.setenv("LMSTRIX_SERVER", running.address)
        cli("scan", "-q").ok()
        yield running


def record(cli: Callable[..., Ran], key: str) -> dict[str, Any]:
    """A model of `list --compat`."""
    return next(model for model in json.loads(cli("list", "--compat").ok().out) if model["id"] == key)


def test_a_test_records_status_context_first_token_and_speed(cli: Callable[..., Ran], server: FaultyServer) -> None:
    cli("test", "alpha", "--fast", "-q").ok()
    found = record(cli, "alpha")
    assert (found["context_test_status"], found["tested_max_context"]) == ("completed", 8192)
    assert (found["last_known_good_context"], found["failed"]) == (8192, False)
    assert found["ttft_seconds"] > 0
    assert found["context_test_date"] is not None


def test_a_failed_test_keeps_what_was_said(cli: Callable[..., Ran], server: FaultyServer) -> None:
    server.models["alpha"].loadable = 0
    assert cli("test", "alpha", "--fast", "--ignore-guardrail", "-q").code == 1
    found = record(cli, "alpha")
    assert (found["context_test_status"], found["failed"], found["tested_max_context"]) == ("failed", True, None)
    assert found["error_msg"]


def test_all_models_are_asked_for_no_more_than_they_declare(cli: Callable[..., Ran], server: FaultyServer) -> None:
    cli("test", "--all", "--threshold", "31744", "--fast", "-q").ok()
    assert (record(cli, "alpha")["tested_max_context"], record(cli, "beta")["tested_max_context"]) == (8192, 4096)


def test_all_leaves_out_what_is_tested_and_says_how_many(cli: Callable[..., Ran], server: FaultyServer) -> None:
    cli("test", "alpha", "--fast", "-q").ok()
    ran = cli("test", "--all", "--fast").ok()
    assert "1 model skipped: tested already" in ran.err
    assert "alpha" not in ran.out


def test_all_with_verbose_shows_its_table(cli: Callable[..., Ran], server: FaultyServer) -> None:
    ran = cli("test", "--all", "--fast", "--verbose").ok()
    assert ran.out.split()[:2] == ["MODEL", "DECLARED"]
    assert "object at 0x" not in ran.out


def test_one_length_can_be_tested_again_without_force(cli: Callable[..., Ran], server: FaultyServer) -> None:
    for _ in range(2):
        cli("test", "alpha", "--ctx", "2048", "--fast", "-q").ok()
    assert server.endpoints().count("loadModel") == 2


def test_all_at_one_length_are_completed(cli: Callable[..., Ran], server: FaultyServer) -> None:
    cli("test", "--all", "--ctx", "1024", "--fast", "-q").ok()
    assert {record(cli, key)["context_test_status"] for key in ("alpha", "beta")} == {"completed"}


def test_a_question_of_ones_own_comes_from_words_or_a_file(
    cli: Callable[..., Ran], server: FaultyServer, tmp_path: Path
) -> None:
    file = tmp_path / "question.txt"
    file.write_text("What is two plus two?", encoding="utf-8")
    cli("test", "alpha", "--ctx", "512", "--prompt", "What is two plus two?", "-q").ok()
    cli("test", "beta", "--ctx", "512", "--file_prompt", str(file), "-q").ok()
    for key in ("alpha", "beta"):
        assert record(cli, key)["tested_max_context"] == 512
    asked = json.dumps(server.parameters("predict")["history"])
    assert "What is two plus two?" in asked
