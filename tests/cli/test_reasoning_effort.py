"""How much a model is to reason, and mirostat: sent where they are heeded, refused by name where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.api import rest
from lmstrix.api.reasoning import effort_key
from lmstrix.api.rest import ModelCapabilities
from lmstrix.engine import EmbeddedEngine
from tests.cli.conftest import SCRIPTED, loaded_on
from tests.support.faulty_server import FaultyModel, FaultyServer
from tests.support.model_files import put_model
from tests.support.tiny_gguf_scripted import Reply, scripted_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ran

GPT, QWEN, PLAIN = "openai/gpt-oss-20b", "qwen/qwen3-8b", "acme/tiny"
LEVELS = [Reply(f"{level} it is", condition=f"reasoning_effort == '{level}'") for level in ("low", "high")]
SWITCH = [Reply("quiet", condition="enable_thinking is defined and not enable_thinking"), Reply("loud")]


@pytest.fixture
def reasoning_engine(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedEngine]:
    """The embedded engine with a model that knows levels, one that knows on and off, and one that knows neither."""
    for name, replies in (("leveled", [*LEVELS, Reply("usual")]), ("switched", SWITCH), ("plain", [Reply("plain")])):
        put_model(tmp_path / "models", name, scripted_model(replies))
    monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(tmp_path / "models"))
    with EmbeddedEngine(tmp_path / "models") as engine:
        monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
        yield engine


@pytest.fixture
def lm_studio(faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> FaultyServer:
    """LM Studio, whose REST side says what its models can be told of reasoning."""
    told = {GPT: ("low", "medium", "high"), QWEN: ("off", "on", "low"), PLAIN: ()}
    faulty.models = {key: FaultyModel(key=key) for key in told}

    async def fetch(*_server: object, **_access: object) -> dict[str, ModelCapabilities]:
        return {key: ModelCapabilities(model_key=key, reasoning_options=options) for key, options in told.items()}

    monkeypatch.setattr(rest, "fetch_capabilities", fetch)
    return faulty


def asked(server: FaultyServer) -> dict[str, Any]:
    """The settings of the last question, by key."""
    stacks = [
        frame["creationParameter"]["predictionConfigStack"]
        for _, frame in server.seen
        if frame.get("endpoint") == "predict"
    ]
    return {field["key"]: field["value"] for layer in stacks[-1]["layers"] for field in layer["config"]["fields"]}


def test_the_engine_tells_the_template(cli: Callable[..., Ran], reasoning_engine: EmbeddedEngine, home: Path) -> None:
    effort = "--reasoning-effort"
    assert cli("infer", "hi", "-m", "leveled", effort, "high").ok().out == "high it is\n"
    assert cli("chat", "-m", "leveled", effort, "low", stdin=b"hi\n").ok().out == "low it is\n"
    assert cli("infer", "hi", "-m", "leveled").ok().out == "usual\n"
    assert cli("infer", "hi", "-m", "switched", effort, "off").ok().out == "quiet\n"
    assert cli("infer", "hi", "-m", "switched", effort, "on").ok().out == "loud\n"


def test_what_a_model_does_not_take_is_refused_before_a_load(
    cli: Callable[..., Ran], reasoning_engine: EmbeddedEngine, tmp_path: Path
) -> None:
    cli("scan").ok()
    plain = cli("infer", "hi", "-m", "plain", "--reasoning-effort", "high")
    plain.failed(2, "--reasoning-effort high has no effect on plain", "leave it out")
    cli("infer", "hi", "-m", "leveled", "--reasoning-effort", "off").failed(2, "it takes low, medium, high")
    (tmp_path / "ask.txt").write_text("hi", encoding="utf-8")
    words = ("batch", "--prompts", str(tmp_path / "ask.txt"), "--models", "plain", "--out", str(tmp_path / "out"))
    refused = cli(*words, "--reasoning-effort", "low")
    assert (refused.code, "--reasoning-effort low has no effect on plain" in refused.err) == (1, True)
    assert loaded_on(reasoning_engine.address) == []


def test_a_switch_that_a_model_does_not_have_is_refused(
    cli: Callable[..., Ran], reasoning_engine: EmbeddedEngine, tmp_path: Path
) -> None:
    assert cli("infer", "hi", "-m", "switched", "--no-think").ok().out == "quiet\n"
    assert cli("infer", "hi", "-m", "switched", "--think", "--reload").ok().out == "loud\n"
    for model in ("plain", "leveled"):
        for word, ends in (("--think", "on"), ("--no-think", "off")):
            refused = cli("infer", "hi", "-m", model, word)
            refused.failed(2, f"{word} has no effect on {model}: its reasoning cannot be switched {ends}; leave it out")
    (tmp_path / "ask.txt").write_text("hi", encoding="utf-8")
    words = ("batch", "--prompts", str(tmp_path / "ask.txt"), "--models", "plain", "--out", str(tmp_path / "out"))
    assert "--think has no effect on plain" in cli(*words, "--think").err
    assert not [each for each in loaded_on(reasoning_engine.address) if each.model_key != "switched"]


def test_lm_studio_switches_what_it_says_it_can(cli: Callable[..., Ran], lm_studio: FaultyServer) -> None:
    cli("infer", "hi", "-m", QWEN, "--think").ok()
    assert asked(lm_studio)["llm.prediction.reasoning.enableThinking"] is True
    cli("infer", "hi", "-m", GPT, "--no-think").failed(2, "--no-think has no effect on openai/gpt-oss-20b")


def test_a_switch_is_sent_with_a_word_where_the_server_does_not_say(
    cli: Callable[..., Ran], faulty: FaultyServer
) -> None:
    ran = cli("infer", "hi", "-m", PLAIN, "--no-think").ok()
    assert asked(faulty)["llm.prediction.reasoning.enableThinking"] is False
    assert "--no-think may have no effect: the server does not say" in ran.err


def test_lm_studio_gets_the_fields_it_knows(cli: Callable[..., Ran], lm_studio: FaultyServer) -> None:
    cli("infer", "hi", "-m", GPT, "--reasoning-effort", "high").ok()
    assert asked(lm_studio)["ext.virtualModel.customField.openai.gptOss20b.reasoningEffort"] == "high"
    cli("infer", "hi", "-m", QWEN, "--reasoning-effort", "off").ok()
    assert asked(lm_studio)["llm.prediction.reasoning.enableThinking"] is False
    lm_studio.seen.clear()
    # Its REST side has levels for this one, but by which field of the model they are set is not known.
    cli("infer", "hi", "-m", QWEN, "--reasoning-effort", "low").failed(2, "it takes off, on")
    cli("infer", "hi", "-m", PLAIN, "--reasoning-effort", "on").failed(2, "has no effect on acme/tiny")
    assert not any(frame.get("endpoint") in ("loadModel", "predict") for _, frame in lm_studio.seen)


def test_a_server_that_does_not_say_is_not_guessed_at(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("scan").ok()
    refused = cli("infer", "hi", "-m", PLAIN, "--reasoning-effort", "on")
    refused.failed(2, "the server does not say what acme/tiny takes")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--reasoning-effort", "much"), ("--reasoning-effort", "'much' is not one of off, low, medium, high, on")),
        (("--think", "--reasoning-effort", "high"), ("--think or --reasoning-effort, not both",)),
        (("--raw", "--reasoning-effort", "high"), ("a raw prompt asks for no reasoning",)),
        (("--raw", "--no-think"), ("a raw prompt asks for no reasoning; leave out --think",)),
        (("--mirostat", "3"), ("--mirostat", "at most 2")),
        (("--mirostat", "2", "--mirostat-eta", "0"), ("--mirostat-eta",)),
        (("--mirostat-tau", "4"), ("--mirostat-tau and --mirostat-eta tune mirostat", "--mirostat 2")),
    ],
)
def test_bad_words_get_one_line(cli: Callable[..., Ran], home: Path, words: tuple[str, ...], parts: tuple[str]) -> None:
    cli("infer", "hi", "-m", PLAIN, *words).failed(2, *parts)


def test_mirostat_is_the_embedded_engines_alone(
    cli: Callable[..., Ran], engine: EmbeddedEngine, lm_studio: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("scan").ok()
    words = ("--mirostat", "2", "--mirostat-tau", "4", "--seed", "1")
    cli("infer", "hi", "-m", PLAIN, *words).failed(2, "--mirostat 2 has no effect on LM Studio", "--server embedded")
    assert not any(frame.get("endpoint") in ("loadModel", "predict") for _, frame in lm_studio.seen)
    cli("infer", "hi", "-m", PLAIN, "--mirostat", "0").ok()
    monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
    assert cli("infer", "2+3=", "-m", SCRIPTED, *words).ok().out == "5\n"
    assert cli("chat", "-m", SCRIPTED, *words, stdin=b"2+3=\n").ok().out == "5\n"


def test_the_field_has_the_models_own_name() -> None:
    assert effort_key("openai/gpt-oss-120b") == "ext.virtualModel.customField.openai.gptOss120b.reasoningEffort"
    assert effort_key("leveled") == "ext.virtualModel.customField.leveled.reasoningEffort"
