"""`safety.headroom`: memory that tests and loads leave free."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.memory.budgets import Budget
from lmstrix.core.memory.runtime import EMBEDDED
from lmstrix.service import room, testing
from tests.cli.conftest import EMBEDDING, TINY

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine import EmbeddedEngine
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.headroom import Headroom
    from tests.cli.conftest import Ran


@dataclass
class Memory:
    """What the server has for models, in place of what changes under the tests."""

    available_bytes: int


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    found = Memory(10**9)

    async def server_budget(_: ModelBackend, headroom: Headroom, *, with_own_limit: bool = False) -> Budget:
        budget = Budget(available_bytes=found.available_bytes, runtime=EMBEDDED, source="server", why="told")
        return replace(budget.keeping(headroom), limited_by="host" if not with_own_limit else None)

    monkeypatch.setattr(testing, "server_budget", server_budget)
    monkeypatch.setattr(room, "server_budget", server_budget)
    return found


def leave_room_for(cli: Callable[..., Ran], memory: Memory, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep free all but what a context of this length takes."""
    monkeypatch.delenv("LMSTRIX_SAFETY_HEADROOM", raising=False)
    report = cli("estimate", TINY, "--ctx", str(length), "--json").ok().json
    taken = report["total_bytes"]
    monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", str(memory.available_bytes - taken))


@pytest.mark.slow
def test_a_test_ends_where_it_begins_and_says_so(
    cli: Callable[..., Ran], engine: EmbeddedEngine, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("scan", "--quiet").ok()
    leave_room_for(cli, memory, 2048, monkeypatch)
    ran = cli("test", TINY, "--fast", "--json").ok()
    (tested,) = ran.json["models"]
    assert tested["ended_by"] == "headroom"
    assert 1024 <= tested["tested_context_length"] < 4096
    assert "memory free that safety.headroom asks for" in cli("test", TINY, "--fast", "--reset").ok().err
    assert cli("list", "ended:headroom", "--show", "id").ok().out.split() == [TINY]
    # It stands as long as the headroom does; without it the limit is still to be found.
    again = cli("test", "--all", "--fast", "--json").ok().json["models"]
    assert all(model.get("skipped") for model in again if model["model_key"] == TINY)
    monkeypatch.delenv("LMSTRIX_SAFETY_HEADROOM")
    (found,) = [
        each for each in cli("test", "--all", "--fast", "--json").ok().json["models"] if each["model_key"] == TINY
    ]
    assert (found["ended_by"], found["tested_context_length"]) == ("declared", 4096)


def test_a_model_that_leaves_too_little_is_passed_over(
    cli: Callable[..., Ran], engine: EmbeddedEngine, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("scan", "--quiet").ok()
    monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", "99.9%")
    (passed,) = cli("test", TINY, "--json").ok().json["models"]
    assert passed["skipped"].startswith("fits at no context while safety.headroom keeps 99.9% free")
    assert cli("test", TINY, "--fast", "--ctx", "512", "--json").ok().json["models"][0]["tested_context_length"] == 512


@pytest.mark.slow
def test_an_answer_loads_no_more_than_leaves_it_free(
    cli: Callable[..., Ran], engine: EmbeddedEngine, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("test", TINY, "--fast").ok()
    leave_room_for(cli, memory, 1024, monkeypatch)
    ran = cli("infer", "hi", "-m", TINY, "--max-tokens", "2").ok()
    assert "(headroom)" in ran.err
    loaded = cli("ps", "--json").ok().json["models"][0]["context_length"]
    assert 256 <= loaded < 2048
    # What is loaded now serves the next one, though it takes what was free.
    monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", "99.9%")
    assert "loading" not in cli("infer", "hi", "-m", TINY, "--max-tokens", "2").ok().err
    cli("unload", "--all").ok()
    refused = cli("infer", "hi", "-m", TINY, "--max-tokens", "2")
    refused.failed(1, "fit beside what safety.headroom keeps free")
    cli("load", TINY).failed(1, "fits at no context beside what safety.headroom keeps free")
    assert cli("infer", "hi", "-m", TINY, "--max-tokens", "2", "--in-ctx", "512").ok().out


def test_vectors_load_no_more_than_leaves_it_free(
    cli: Callable[..., Ran], engine: EmbeddedEngine, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("scan", "--quiet").ok()
    monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", "99.9%")
    for words in (("embed", "hi"), ("collections", "add", "notes", "hi")):
        cli(*words).failed(1, f"{EMBEDDING} fits at no context beside what safety.headroom keeps free")
    half = cli("estimate", EMBEDDING, "--ctx", "256", "--json").ok().json["total_bytes"]
    monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", str(memory.available_bytes - half))
    assert cli("embed", "hi").ok().out.startswith("[")
    (loaded,) = cli("ps", "--json").ok().json["models"]
    assert 0 < loaded["context_length"] < loaded["max_context_length"]


@pytest.mark.slow
@pytest.mark.parametrize("traffic", [(), ("--rate", "20", "--span", "1", "--concurrency", "1")])
def test_a_benchmark_loads_no_more_than_leaves_it_free(
    cli: Callable[..., Ran],
    engine: EmbeddedEngine,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    traffic: tuple[str, ...],
) -> None:
    def bench(*words: str) -> Ran:
        kind = traffic or ("--runs", "1", "--no-power", "--no-save")
        return cli("bench", TINY, *kind, "--max-tokens", "8", "--json", *words)

    cli("scan", "--quiet").ok()
    leave_room_for(cli, memory, 1024, monkeypatch)
    ran = bench().ok()
    assert "leaves free what safety.headroom keeps" in ran.out
    (found,) = ran.json["results" if traffic else "cells"]
    loaded = found["context_length"] if traffic else found["loads"][0]["context_length"]
    assert 256 <= loaded < 2048
    # A tier is measured whole or not at all.
    refused = bench("--context-tiers", "2048")
    assert refused.code == 1
    assert "2,048 tokens are needed, and" in refused.out
    assert "fit beside what safety.headroom keeps free" in refused.out
    monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", "99.9%")
    assert "fits at no context beside what safety.headroom keeps free" in bench().out


def test_what_stays_free_is_shown(
    cli: Callable[..., Ran], engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("scan", "--quiet").ok()
    assert "kept free" not in cli("estimate", TINY).ok().out
    monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", "1GiB")
    assert "1.00 GiB" in next(line for line in cli("estimate", TINY).ok().out.splitlines() if "kept free" in line)
    assert cli("estimate", TINY, "--json").ok().json["headroom_bytes"] == 2**30
    assert "less 1.00 GiB that safety.headroom keeps free" in " ".join(cli("doctor").out.split())
    assert "LMSTRIX_SAFETY_HEADROOM" in next(
        line for line in cli("config", "effective").ok().out.splitlines() if "safety.headroom" in line
    )
