"""A plain call that meets an instance with special settings says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix import LMStrix
from lmstrix.ground.loads import LoadConfig
from tests.cli.conftest import EMBEDDING, SCRIPTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

SPECIAL = ("--k-cache-type", "q8_0", "--batch-size", "64")
TOLD = (
    f"uses {SCRIPTED}, which is loaded already, with K cache q8_0, batch of 64 tokens; "
    f"lmstrix unload {SCRIPTED} ends it"
)


def test_an_answer_of_a_special_instance_says_so(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("load", SCRIPTED, *SPECIAL).ok()
    for words in (("infer", "2+3=", "-m", SCRIPTED), ("infer", "2+3=", "-m", SCRIPTED, "--json")):
        assert cli(*words).ok().lines.count(TOLD) == 1
    assert cli("infer", "2+3=", "-m", SCRIPTED, "--quiet").ok().err == ""


def test_a_chat_says_it_once(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("load", SCRIPTED, *SPECIAL).ok()
    assert cli("chat", "-m", SCRIPTED, stdin=b"2+3=\n2+3=\n").ok().lines.count(TOLD) == 1


def test_a_batch_says_it(cli: Callable[..., Ran], engine: EmbeddedEngine, tmp_path: Path) -> None:
    (tmp_path / "ask.txt").write_text("2+3=", encoding="utf-8")
    cli("load", SCRIPTED, *SPECIAL).ok()
    batch = ("batch", "--prompts", str(tmp_path / "ask.txt"), "--models", SCRIPTED, "--out", str(tmp_path / "out"))
    assert cli(*batch).ok().lines.count(TOLD) == 1


def test_vectors_of_a_special_instance_say_so(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("load", EMBEDDING, "--gpu", "0").ok()
    assert "GPU share 0%" in cli("embed", "a", "-m", EMBEDDING).ok().err


def test_an_instance_loaded_as_usual_is_used_in_silence(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("load", SCRIPTED).ok()
    assert cli("infer", "2+3=", "-m", SCRIPTED).ok().err == ""
    cli("load", EMBEDDING).ok()
    assert cli("embed", "a", "-m", EMBEDDING).ok().err == ""


def test_python_is_told_as_well(home: Path, engine: EmbeddedEngine) -> None:
    said: list[str] = []
    with LMStrix(server=engine.address, notify=said.append) as lms:
        special = LoadConfig(context_length=None, k_cache_type="q8_0")
        lms.infer("2+3=", model=SCRIPTED, load=special)
        assert not [line for line in said if "loaded already" in line]
        lms.infer("2+3=", model=SCRIPTED)
        lms.infer("2+3=", model=SCRIPTED)
    (line,) = [line for line in said if "loaded already" in line]
    assert "K cache q8_0" in line
    assert "`unload(" in line


def test_a_server_that_does_not_tell_costs_no_answer(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    cli("load", "acme/tiny").ok()
    faulty.faults.errors["getLoadConfig"] = {"title": "unknown endpoint"}
    assert "loaded already" not in cli("infer", "hi", "-m", "acme/tiny").ok().err
