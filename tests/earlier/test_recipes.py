"""The recipes of LMStrix 1's documentation that hand its JSON to jq: they need --compat, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Ran


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Ran]) -> Iterator[FaultyServer]:
    """A server of a tested and of an untested model."""
    with FaultyServer(FaultyModel(key="alpha", declared=2048), FaultyModel(key="beta", declared=4096)) as running:
        monkeypatch.setenv("LMSTRIX_SERVER", running.address)
        cli("scan", "-q").ok()
        cli("test", "alpha", "--fast", "-q").ok()
        yield running


def jq(program: str, text: str, same: Callable[[Any], list[object]]) -> list[object]:
    """What jq makes of it; where it is not installed, what is the same in Python."""
    found = shutil.which("jq")
    if found is None:
        return same(json.loads(text))
    ran = subprocess.run([found, "-c", program], input=text, capture_output=True, text=True, check=True, timeout=30)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_names_of_tested_models(cli: Callable[..., Ran], server: FaultyServer) -> None:
    text = cli("list", "--show", "json", "--compat").ok().out
    program = '.[] | select(.status=="tested") | .name'
    assert jq(program, text, lambda all_: [each["name"] for each in all_ if each["status"] == "tested"]) == ["alpha"]


def test_names_of_untested_models(cli: Callable[..., Ran], server: FaultyServer) -> None:
    text = cli("list", "--filter", "status:untested", "--show", "json", "--compat").ok().out
    assert jq(".[].name", text, lambda all_: [each["name"] for each in all_]) == ["beta"]


def test_a_name_is_found_by_a_line_of_json(cli: Callable[..., Ran], server: FaultyServer) -> None:
    lines = cli("list", "--show", "json", "--compat").ok().out.splitlines()
    assert '    "id": "alpha",' in lines


def test_an_answer_of_what_came_through_a_pipe(cli: Callable[..., Ran], server: FaultyServer) -> None:
    text = cli("infer", "-m", "alpha", "--stdin", "--format", "json", "--compat", stdin=b"2+3=").ok().out
    assert jq(".response", text, lambda answer: [answer["response"]]) == ["The sum of two and three is five."]


def test_every_tested_model_is_asked_in_turn(cli: Callable[..., Ran], server: FaultyServer) -> None:
    text = cli("list", "--show", "json", "--compat").ok().out
    for name in jq(".[].name", text, lambda all_: [each["name"] for each in all_]):
        assert cli("infer", "Explain it", "-m", str(name), "--out-ctx", "100", "--quiet").ok().out
