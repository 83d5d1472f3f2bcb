"""`logs`: calls by number, whole, and found by words of any script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.paths import own_folder
from tests.cli.conftest import SCRIPTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran


def test_a_call_is_shown_whole_by_its_number(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    prompt = "hello\n\n" + "many words " * 30
    cli("infer", prompt, "-m", SCRIPTED).ok()
    cli("infer", "2+3=", "-m", SCRIPTED).ok()
    listed = cli("logs").ok().out.splitlines()
    assert [line.split()[0] for line in listed if line.split()[0].isdecimal()] == ["2", "1"]
    ran = cli("logs", "--full", "1").ok()
    assert prompt in ran.out
    assert "Hello! I am a tiny model with few words.\n" in ran.out
    assert "tokens/s" in ran.out
    (told,) = cli("logs", "--full", "1", "--json").ok().json["calls"]
    assert (told["call_id"], told["prompt"]) == (1, prompt)
    cli("logs", "--full", "99").failed(2, "no call 99", "lmstrix logs")
    cli("logs", "--full", "1", "--search", "x").failed(2, "--full")


def test_beginnings_and_japanese_are_found(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("infer", "日本の首都はどこ", "-m", SCRIPTED).ok()
    cli("infer", "2+3=", "-m", SCRIPTED).ok()
    assert [call["call_id"] for call in cli("logs", "--search", "首都", "--json").ok().json["calls"]] == [1]
    assert [call["call_id"] for call in cli("logs", "--search", "Hel", "--json").ok().json["calls"]] == [1]


def test_a_call_whose_texts_were_not_kept_says_so(cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path) -> None:
    own_folder(home).mkdir(parents=True, exist_ok=True)
    (own_folder(home) / "config.toml").write_text("log_texts = false\n", encoding="utf-8")
    cli("infer", "2+3=", "-m", SCRIPTED).ok()
    assert "were not kept" in cli("logs", "--full", "1").ok().err
