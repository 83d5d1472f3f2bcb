"""What the earlier LMStrix did to get answers, one test for each thing that no other test shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.faulty_server import FaultyModel, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ran


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Ran]) -> Iterator[FaultyServer]:
    """A server of two models, which a scan has found; one of them declares more than most machines hold."""
    with FaultyServer(FaultyModel(key="large", declared=131_072), FaultyModel(key="small", declared=8192)) as running:
        monkeypatch.setenv("LMSTRIX_SERVER", running.address)
        cli("scan", "-q").ok()
        yield running


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    """A prompt file."""
    file = tmp_path / "p.toml"
    file.write_text(
        'role = "a clerk"\nloop = "{{loop}}{{loop}}"\n[a]\nb = "Hi {{ name }}, {{role}}"\n[c]\nd = "{{a.b}}!"\n'
        '[t]\ntemplate = "T {{text}}"\n',
        encoding="utf-8",
    )
    return str(file)


def asked_for(server: FaultyServer) -> dict[str, Any]:
    """What the last answer was asked for with, by key."""
    (layer,) = server.parameters("predict")["predictionConfigStack"]["layers"]
    values = ((field["key"].rpartition(".")[2], field["value"]) for field in layer["config"]["fields"])
    return {key: value.get("value", value) if isinstance(value, dict) else value for key, value in values}


def context_loaded(server: FaultyServer) -> int | None:
    """The context length that the last load asked for, None where it left that to the server."""
    (layer,) = server.parameters("loadModel")["loadConfigStack"]["layers"] or [{"config": {"fields": []}}]
    asked = {field["key"]: field["value"] for field in layer["config"]["fields"]}
    return asked.get("llm.load.contextLength")


def test_an_untested_model_is_loaded_modestly_and_a_tested_one_at_its_length(
    cli: Callable[..., Ran], server: FaultyServer
) -> None:
    assert "untested" in cli("infer", "hi", "large").ok().err
    assert context_loaded(server) == 4096
    cli("test", "small", "--ctx", "6000", "--fast", "-q").ok()
    cli("infer", "hi", "small", "-q").ok()
    assert context_loaded(server) == 6000


def test_in_ctx_is_tokens_or_a_share_and_zero_leaves_it_to_the_server(
    cli: Callable[..., Ran], server: FaultyServer
) -> None:
    cli("test", "small", "--fast", "-q").ok()
    for given, context in (("2048", 2048), ("50%", 4096), ("0", None)):
        cli("infer", "hi", "small", f"--in_ctx={given}", "--reload", "-q").ok()
        assert context_loaded(server) == context


def test_sizes_that_cannot_be_are_refused(cli: Callable[..., Ran], server: FaultyServer) -> None:
    for given in ("-4", "99999", "abc", "150%"):
        assert cli("infer", "hi", "small", "--in_ctx", given, "-q").code != 0
    for given in ("-5", "0", "0%", "-5%", "150%", "abc"):
        cli("infer", "hi", "small", "--out_ctx", given, "-q").failed(2, "--out-ctx")
    assert "loadModel" not in server.endpoints()


def test_out_ctx_is_tokens_or_a_share_and_minus_one_is_all_that_is_left(
    cli: Callable[..., Ran], server: FaultyServer
) -> None:
    cli("test", "small", "--fast", "-q").ok()
    for given, tokens in (("-1", 8190), ("50%", 4096), ("100", 100)):
        cli("infer", "hi", "small", "--out_ctx", given, "-q").ok()
        asked = asked_for(server)["maxPredictedTokens"]
        assert abs(asked - tokens) < 16  # the prompt and its template take the rest


def test_sampling_parameters_reach_the_model(cli: Callable[..., Ran], server: FaultyServer) -> None:
    words = "--param_temp 0.3 --param_top_k 40 --param_top_p 0.9 --param_repeat 1.2 --param_min_p 0.05"
    cli("infer", "hi", "small", *words.split(), "-q").ok()
    asked = asked_for(server)
    assert (asked["temperature"], asked["topKSampling"], asked["topPSampling"]) == (0.3, 40, 0.9)
    assert (asked["repeatPenalty"], asked["minPSampling"]) == (1.2, 0.05)


def test_the_last_model_that_answered_is_asked_where_none_is_named(
    cli: Callable[..., Ran], server: FaultyServer
) -> None:
    cli("infer", "hi", "small", "-q").ok()
    cli("infer", "hi", "nowhere", "-q").failed(1, "nowhere")
    assert cli("infer", "hi", "--compat").ok().json["model_id"] == "small"


def test_what_answered_stays_loaded_for_a_while_and_is_used_again(
    cli: Callable[..., Ran], server: FaultyServer
) -> None:
    for _ in range(2):
        cli("infer", "hi", "small", "-q").ok()
    assert server.endpoints().count("loadModel") == 1
    assert server.parameters("loadModel")["ttlMs"] > 0
    cli("infer", "hi", "small", "--reload", "-q").ok()
    assert server.endpoints().count("loadModel") == 2


def test_braces_in_a_prompt_are_no_matter_to_verbose(cli: Callable[..., Ran], server: FaultyServer) -> None:
    cli("infer", "{x} {process.id}", "small", "--verbose").ok()
    (message,) = server.parameters("predict")["history"]["messages"]
    assert message["content"][0]["text"] == "{x} {process.id}"


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["a.b,c.d", "--dict", "name={{topic}},topic=X"], "Hi {{topic}}, a clerk\n\nHi {{topic}}, a clerk!"),
        (["a.b", "--dict", "name=Al,role=a cook"], "Hi Al, a cook"),
        (["a.b", "--dict", 'name="Al, the first"'], "Hi Al, the first, a clerk"),
        (["t", "--text", "<|endoftext|>"], "T <|endoftext|>"),
        (["t", "--text", "123"], "T 123"),
        (["t.template", "--text", "a, b"], "T a, b"),
        (["t", "--text", ""], "T "),
    ],
)
def test_prompts_of_a_file_are_filled(cli: Callable[..., Ran], prompts: str, words: list[str], sent: str) -> None:
    assert cli("infer", *words, "--file_prompt", prompts, "--dry-run").ok().out == sent


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["a.b"], 1, "needs name"),
        (["a.b", "--dict", "a,b"], 2, "no name=value"),
        (["a.b", "--dict", "5"], 2, "no name=value"),
        (["a.b", "--text", "lost", "--dict", "name=Al"], 1, "no {{text}} placeholder"),
        (["loop"], 1, "loop"),
        (["nosuch"], 1, "nosuch"),
    ],
)
def test_what_cannot_be_filled_is_not_sent(
    cli: Callable[..., Ran], prompts: str, words: list[str], code: int, part: str
) -> None:
    cli("infer", *words, "--file_prompt", prompts, "--dry-run").failed(code, part)


def test_a_text_file_that_is_no_utf8_is_told(cli: Callable[..., Ran], prompts: str, tmp_path: Path) -> None:
    file = tmp_path / "latin1.txt"
    file.write_bytes(b"caf\xe9")
    cli("infer", "t", "--file_prompt", prompts, "--text_file", str(file), "--dry-run").failed(1, "not UTF-8")
