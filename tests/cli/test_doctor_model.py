"""`doctor MODEL`: what is known of one model, predicted and measured told apart, and what to change first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.core.registry.defaults import CONTEXT_LENGTH, FOLDER
from lmstrix.engine import EmbeddedEngine
from tests.cli.conftest import EMBEDDING, SCRIPTED, TINY, loaded_on
from tests.support.faulty_server import closed_port
from tests.support.model_files import put_model
from tests.support.tiny_gguf import tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer


def checks_of(ran: Ran) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in ran.json["checks"]}


@pytest.mark.slow
def test_a_model_from_untested_to_loaded(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "-q").ok()
    before = cli("doctor", TINY, "--json").ok()
    context = checks_of(before)["context"]
    assert (context["state"], context["remedy"]) == ("note", f"lmstrix test {TINY}")
    assert context["found"].startswith("not tested here; declares 4,096")
    assert "not measured" in checks_of(before)["speed"]["found"]
    assert before.json["improvements"][0]["how"] == f"lmstrix test {TINY}"
    assert loaded_on(engine.address) == []  # it loads nothing

    cli("test", TINY, "--fast", "-q").ok()
    cli("load", TINY, "-q").ok()
    ran = cli("doctor", TINY, "--json").ok()
    checks, figures = checks_of(ran), ran.json["figures"]
    assert ran.json["schema"] == "lmstrix.doctor/1"
    assert (ran.json["ok"], ran.json["model_key"]) == (True, TINY)
    assert "tested to 4,096 tokens" in checks["context"]["found"]
    assert "it holds all 4,096 tokens that it declares" in checks["context"]["found"]
    assert "measured" in checks["memory"]["found"]
    assert checks["layers"]["found"] == "0 of 2 on graphics cards (measured, as loaded; the output is one)"
    assert figures["tested_context_length"] == figures["loaded_context_length"] == 4096
    assert figures["measured_bytes"] == pytest.approx(figures["predicted_bytes"], rel=0.2)
    assert "measured by its test" in checks["speed"]["found"]
    assert figures["bandwidth_tokens_per_second"] > 0
    assert "all its tensors are there" in checks["file"]["found"]
    assert ran.json["improvements"] == []
    text = cli("doctor", TINY).ok().out
    assert "nothing to change" in text


def test_a_logged_speed_goes_before_the_tests(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "-q").ok()
    cli("infer", "story", "-m", SCRIPTED, "--max-tokens", "200", "-q").ok()
    found = checks_of(cli("doctor", SCRIPTED, "--json").ok())["speed"]["found"]
    assert "tokens per second (the mean of 1 logged call)" in found


def test_a_model_that_is_not_there(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "-q").ok()
    cli("doctor", "scriptd").failed(1, "'scriptd'", SCRIPTED)


def test_an_embedding_model_needs_no_test(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "-q").ok()
    ran = cli("doctor", EMBEDDING, "--json").ok()
    assert checks_of(ran).keys().isdisjoint({"speed", "chat template"})
    assert ran.json["improvements"] == []


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of 64k tokens in a folder of its own, without a server."""
    file = put_model(tmp_path / "models", "long", tiny_model("llama", context_length=65536, n_layers=4, head_dim=64))
    monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("LMSTRIX_SERVER", f"127.0.0.1:{closed_port()}")
    return file


def scanned(cli: Callable[..., Ran], file: Path) -> None:
    cli("scan", "--models-dir", str(file.parents[2]), "--server", "embedded", "-q").ok()


def test_without_a_server(cli: Callable[..., Ran], alone: Path) -> None:
    scanned(cli, alone)
    checks = checks_of(cli("doctor", "long", "--json").ok())
    assert checks["server"]["found"] == "no server runs"
    assert "it may take" in checks["memory"]["found"]


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_file_that_is_not_whole(cli: Callable[..., Ran], alone: Path, harm: str) -> None:
    scanned(cli, alone)
    if harm == "cut":
        alone.write_bytes(alone.read_bytes()[:-1000])
    else:
        alone.unlink()
    ran = cli("doctor", "long")
    assert ran.code == 1
    assert ran.err == "lmstrix: 1 problem found, named above\n"
    assert ("1,000 bytes of tensor data are missing" if harm == "cut" else "is not there") in ran.out
    if harm == "gone":
        assert "not known: its file cannot be read here" in ran.out


def test_a_smaller_cache_where_memory_is_short(
    cli: Callable[..., Ran], alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned(cli, alone)
    whole = cli("estimate", "long", "--server", "embedded", "--json").ok().json["total_bytes"]
    with EmbeddedEngine(alone.parents[2], memory_limit=int(whole * 0.7)) as engine:
        monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
        ran = cli("doctor", "long", "--json").ok()
    limit = ran.json["figures"]["predicted_limit"]
    assert 0 < limit < 65536
    first, second = ran.json["improvements"]
    assert first["how"] == "lmstrix test long"
    assert f"a KV cache of q8_0: {limit:,} -> " in second["gain"]
    assert second["how"] == "lmstrix test long --k-cache-type q8_0 --v-cache-type q8_0"


def test_lm_studios_default_beside_what_was_tested(cli: Callable[..., Ran], faulty: FaultyServer, home: Path) -> None:
    (home / ".internal").mkdir(parents=True)
    cli("scan", "-q").ok()
    assert "none for this model" in checks_of(cli("doctor", "acme/tiny", "--json"))["LM Studio default"]["found"]
    cli("test", "acme/tiny", "--fast", "-q").ok()
    raw = json.loads((home / "lmstrix.json").read_text(encoding="utf-8"))
    (path,) = [path for path, record in raw["models"].items() if record.get("model_key") == "acme/tiny"]
    file = home / FOLDER / f"{path}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"load": {"fields": [{"key": CONTEXT_LENGTH, "value": 512}]}}), encoding="utf-8")
    ran = cli("doctor", "acme/tiny", "--json")
    assert "512 tokens, less than it was tested to" in checks_of(ran)["LM Studio default"]["found"]
    assert ran.json["figures"]["saved_context_length"] == 512
    assert any(each["how"] == "lmstrix save acme/tiny" for each in ran.json["improvements"])


def test_a_file_that_is_no_usable_model_is_found_and_says_why(
    cli: Callable[..., Ran], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "some models"
    whole = put_model(models, "good", tiny_model("llama"))
    broken = models / "acme" / "broken" / "broken.gguf"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(whole.read_bytes()[:900])
    (models / "acme" / "text").mkdir()
    (models / "acme" / "text" / "text.gguf").write_text("hello", encoding="utf-8")
    monkeypatch.setenv("LMSTRIX_SERVER", f"127.0.0.1:{closed_port()}")
    monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(models))
    cli("scan", "--server", "embedded", "--quiet").ok()
    monkeypatch.chdir(broken.parent)
    for name in ("broken", "broken.gguf", "ACME/broken/broken.gguf", str(broken), "./broken.gguf"):
        cli("doctor", name).failed(1, "acme/broken/broken.gguf is no usable model: byte ", "download it again")
    cli("doctor", "text").failed(1, "acme/text/text.gguf is no usable model: byte 0: does not start with GGUF")
    cli("doctor", "none").failed(1, "No model 'none' in the registry")
    models_line = checks_of(cli("doctor", "--json"))["models"]
    assert models_line["found"].endswith(
        "(3 GGUF files); 2 cannot be used: acme/broken/broken.gguf, acme/text/text.gguf"
    )
    assert models_line["remedy"].startswith("lmstrix doctor acme/broken/broken.gguf says why")
