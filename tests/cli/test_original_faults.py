"""Faults that were demonstrated in the earlier LMStrix, each shown to be gone. The numbers are those of its survey.

All prompts of 11 are in test_prompts.py, the interrupts of 17 in test_testing.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.store import RegistryStore
from tests.cli.processes import finish, start
from tests.support.faulty_server import FaultyModel, FaultyServer, closed_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lmstrix.core.registry.registry import ModelRegistry
    from tests.cli.conftest import Ran

MODEL = "acme/tiny"


def listed(cli: Callable[..., Ran]) -> dict[str, dict[str, Any]]:
    """`list --json` by model key."""
    return {model["model_key"]: model for model in cli("list", "--json").ok().json["models"]}


@pytest.fixture
def three_tested(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A server of three models, all tested."""
    models = [FaultyModel(key=key, declared=2048) for key in ("alpha", "beta", "gamma")]
    with FaultyServer(*models) as server:
        monkeypatch.setenv("LMSTRIX_SERVER", server.address)
        cli("scan", "--quiet").ok()
        cli("test", "--all", "--fast", "--quiet").ok()
        yield server


def test_01_listing_or_scanning_an_empty_server_keeps_every_result(
    cli: Callable[..., Ran], three_tested: FaultyServer, home: Path
) -> None:
    before = (home / "lmstrix.json").read_bytes()
    three_tested.models.clear()
    cli("list").ok()
    assert (home / "lmstrix.json").read_bytes() == before
    cli("scan", "--quiet").ok()
    found = listed(cli)
    assert {model["tested_context_length"] for model in found.values()} == {2048}
    assert all(model["missing"] for model in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("content", ['{"models": {"a', "[]", "", "null", "\x00\x00"])
def test_02_a_corrupt_registry_is_never_taken_for_an_empty_one(
    cli: Callable[..., Ran], three_tested: FaultyServer, home: Path, content: str
) -> None:
    (home / "lmstrix.json").write_text(content)
    for words in (["list"], ["scan"], ["test", "alpha", "--fast"], ["infer", "hi", "-m", "alpha"], ["reset", "alpha"]):
        cli(*words).failed(1, "lmstrix.json")
        assert (home / "lmstrix.json").read_text() == content
    assert "problem" in cli("doctor").out


def test_02_a_byte_order_mark_is_no_corruption(cli: Callable[..., Ran], three_tested: FaultyServer, home: Path) -> None:
    good = (home / "lmstrix.json").read_bytes()
    (home / "lmstrix.json").write_bytes(b"\xef\xbb\xbf" + good)
    assert len(listed(cli)) == 3


@pytest.mark.slow
@pytest.mark.needs_posix("limits on what a process may write")
def test_03_a_save_that_fails_destroys_nothing(cli: Callable[..., Ran], three_tested: FaultyServer, home: Path) -> None:
    import resource

    before = (home / "lmstrix.json").read_bytes()
    three_tested.models["delta"] = FaultyModel(key="delta")
    limit = (1024, 1024)
    code, _, err = finish(start("scan", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)))
    assert (code, len(err.splitlines())) == (1, 1)
    assert (home / "lmstrix.json").read_bytes() == before


@pytest.mark.slow
def test_04_three_tests_at_once_lose_no_result(cli: Callable[..., Ran], three_tested: FaultyServer, home: Path) -> None:
    cli("reset", "--all", "--yes", "--quiet").ok()
    runs = {key: start("test", key, "--fast", "--quiet") for key in ("alpha", "beta", "gamma")}
    codes = {key: finish(process)[0] for key, process in runs.items()}
    assert 0 in codes.values()  # the others were refused by name, or waited their turn out
    assert {key: model["tested_context_length"] == 2048 for key, model in listed(cli).items()} == {
        key: code == 0 for key, code in codes.items()
    }


def test_05_what_it_cannot_parse_is_kept(cli: Callable[..., Ran], three_tested: FaultyServer, home: Path) -> None:
    file = home / "lmstrix.json"
    content = json.loads(file.read_text())
    models = content["models"]
    first, second = list(models)[:2]
    models[first]["mood"] = {"colour": "blue"}
    models[second]["max_context_length"] = None
    models["a/strange/one"] = {"nothing": "known"}
    content["somebody_elses"] = [1, 2, 3]
    file.write_text(json.dumps(content))
    cli("reset", "gamma", "--quiet").ok()
    cli("scan", "--quiet").ok()
    after = json.loads(file.read_text())
    assert after["somebody_elses"] == [1, 2, 3]
    assert after["models"][first]["mood"] == {"colour": "blue"}
    assert after["models"]["a/strange/one"]["nothing"] == "known"
    assert listed(cli)["beta"]["tested_context_length"] == 2048


def test_06_a_server_that_is_down_is_no_property_of_a_model(
    cli: Callable[..., Ran], three_tested: FaultyServer, home: Path
) -> None:
    before = (home / "lmstrix.json").read_bytes()
    down = f"127.0.0.1:{closed_port()}"
    for words in (["test", "alpha"], ["test", "--all", "--force"], ["test", "--all", "--reset"]):
        cli(*words, "--server", down).failed(3, down)
        assert (home / "lmstrix.json").read_bytes() == before
    cli("test", "alpha", "--fast", "--threshold", "1024", "--quiet").ok()
    assert listed(cli)["alpha"]["tested_context_length"] == 2048  # a lower ceiling proves nothing against it


def test_07_a_limit_below_the_declared_one_is_searched_for(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    faulty.models[MODEL].loadable = 29_696
    cli("test", MODEL, "--fast", "--quiet").ok()
    assert 0.9 * 29_696 <= listed(cli)[MODEL]["tested_context_length"] <= 29_696
    loads = faulty.endpoints().count("loadModel")
    cli("infer", "hi", "-m", MODEL, "--quiet").ok()
    assert faulty.endpoints().count("loadModel") == loads + 1  # it loads at once at what was found


def test_08_nothing_untested_or_beyond_the_declared_length_is_claimed(
    cli: Callable[..., Ran], faulty: FaultyServer
) -> None:
    faulty.models[MODEL].declared = 8192
    cli("load", MODEL, "--ctx", "2048", "--identifier", "the-users", "--quiet").ok()
    assert listed(cli)[MODEL]["status"] == "untested"
    faulty.models[MODEL].effective = lambda asked: min(asked, 3000)
    cli("test", MODEL, "--fast", "--quiet").ok()
    assert listed(cli)[MODEL]["tested_context_length"] <= 3000
    faulty.models[MODEL].effective = lambda asked: 4 * asked
    cli("test", MODEL, "--fast", "--threshold", "31744", "--force", "--quiet").ok()
    assert listed(cli)[MODEL]["tested_context_length"] <= 8192
    assert set(faulty.instances) == {"the-users"}


def test_09_a_wrong_answer_does_not_pass(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    fragment = {"content": "HTTP error 500: out of paper", "tokensCount": 6, "reasoningType": "none"}
    faulty.script = [{"type": "fragment", "fragment": fragment}]
    ran = cli("test", MODEL)
    assert "garbage answer" in ran.out
    assert "garbage answer" in cli("list").ok().out
    assert "0 of 8 codes recalled" in ran.err
    found = listed(cli)[MODEL]
    assert (found["outcome"], found["effective_context_length"]) == ("garbage answer", None)


def test_10_a_model_is_found_by_its_whole_name(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    decoy = FaultyModel(key="codellama-34b", extra={"path": "x/llama-3-merge/codellama-34b.gguf"})
    with FaultyServer(decoy, FaultyModel(key="llama-3"), FaultyModel(key="llama-3-70b")) as server:
        monkeypatch.setenv("LMSTRIX_SERVER", server.address)
        cli("infer", "hi", "-m", "llama-3", "--quiet").ok()
        assert server.parameters("loadModel")["modelKey"] == "llama-3"
        cli("test", "llama-3", "--ctx", "1024", "--fast", "--quiet").ok()
        assert server.parameters("loadModel")["modelKey"] == "llama-3"
        cli("infer", "hi", "-m", "llama").failed(1, "llama-3", "llama-3-70b")
        del server.models["llama-3"]
        cli("infer", "hi", "-m", "llama-3", "--ttl", "0", "--reload", "--quiet")
        assert server.parameters("loadModel")["modelKey"] == "llama-3"  # gone, but nothing else answers in its name


def test_11_prompts_are_text(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    for prompt in ("hello, world", "# Title\nbody", "1e5", "{{text}}", "[x]"):
        cli("infer", prompt, "-m", MODEL, "--quiet").ok()
        (message,) = faulty.parameters("predict")["history"]["messages"]
        assert message["content"][0]["text"] == prompt


def test_12_streams_are_text_and_their_deadline_fires(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("scan", "--quiet").ok()
    assert cli("infer", "hi", "-m", MODEL, "--stream", "--quiet").ok().out == "The sum of two and three is five.\n"
    faulty.faults.predict = "hang after 2 words"
    ran = cli("infer", "hi", "-m", MODEL, "--stream", "--stream-timeout", "200ms", "--quiet")
    assert (ran.code, ran.out, len(ran.lines)) == (1, "The sum \n", 1)
    assert "0.2 s" in ran.err
    assert "predict" in faulty.cancelled
    faulty.faults.predict = "hang"
    cli("infer", "hi", "-m", MODEL, "--first-token-timeout", "200ms", "--quiet").failed(1, "0.2 s")
    cli("infer", "hi", "-m", MODEL, "--timeout", "300ms", "--quiet").failed(1, "0.3 s")


@pytest.mark.parametrize("threshold", ["-5", "1.5", "True", "abc", "", "0", "nan", "1e999"])
def test_15_a_threshold_is_a_number_of_tokens(cli: Callable[..., Ran], faulty: FaultyServer, threshold: str) -> None:
    cli("test", MODEL, f"--threshold={threshold}").failed(2, "--threshold")
    assert not faulty.seen


def test_16_a_limit_of_75_is_not_a_context_of_75(
    cli: Callable[..., Ran], three_tested: FaultyServer, home: Path
) -> None:
    cli("save", "--limit", "75", "--threshold", "20000").failed(2, "--threshold")
    cli("save", "--limit", "75", "--quiet").failed(2, "75 tokens", "75%")
    for limit in ("-5", "0", "1.5", "0%", "101%"):
        cli("save", f"--limit={limit}", "--quiet").failed(2, "--limit")
    assert not list(home.rglob("*.gguf.json"))


def test_18_stdin_version_and_json(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    assert cli("infer", "-", "-m", MODEL, "--quiet", stdin=b"hi").ok().out
    assert cli("--version").ok().out.startswith("lmstrix ")
    for words in (["test", MODEL, "--fast"], ["infer", "hi", "-m", MODEL]):
        assert cli(*words, "--json").ok().json["schema"] == f"lmstrix.{words[0]}/1"


def test_the_registry_of_the_earlier_version_is_read(cli: Callable[..., Ran], faulty: FaultyServer, home: Path) -> None:
    home.mkdir()
    record = {
        "id": MODEL, "path": "acme/tiny-GGUF/tiny-q8_0.gguf", "size_bytes": 4, "ctx_in": 32768, "ctx_out": 4096,
        "tested_max_context": 31744, "context_test_status": "completed", "context_test_date": "2026-06-29T00:54:57.1",
    }  # fmt: skip
    (home / "lmstrix.json").write_text(json.dumps({"llms": {record["path"]: record}, "path": "/home/me/.lmstudio"}))
    assert listed(cli)[MODEL]["tested_context_length"] == 31744
    cli("scan", "--quiet").ok()
    assert listed(cli)[MODEL]["tested_context_length"] == 31744


def many(registry: ModelRegistry) -> None:
    """A thousand models."""
    registry.merge_scan(
        ModelFacts(path=f"p/m{n}/m.gguf", model_key=f"m{n}", size_bytes=n, max_context_length=4096) for n in range(1000)
    )


def test_a_scan_writes_once_and_not_at_all_when_nothing_changed(
    cli: Callable[..., Ran], faulty: FaultyServer, home: Path
) -> None:
    RegistryStore(home / "lmstrix.json").update(many)
    cli("scan", "--quiet").ok()
    before = (home / "lmstrix.json").stat()
    assert "registry unchanged" in cli("scan").ok().out
    after = (home / "lmstrix.json").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
