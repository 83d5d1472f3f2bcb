"""Memory that an engine keeps free by itself: what tests and estimates beside it say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.engine import EmbeddedEngine
from tests.cli.conftest import TINY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ran

MIB = 2**20
LIMIT, KEPT = 64 * MIB, 27 * MIB  # what is left holds the tiny model at about half of what it declares


@pytest.fixture
def keeping_engine(models_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedEngine]:
    with EmbeddedEngine(models_dir, memory_limit=LIMIT, headroom=KEPT) as engine:
        monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
        monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(models_dir))
        yield engine


@pytest.mark.parametrize("here", [None, "27MiB", "1MiB"])
def test_a_test_that_it_ends_says_headroom(
    cli: Callable[..., Ran], keeping_engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, here: str | None
) -> None:
    if here is not None:
        monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", here)
    cli("scan", "--quiet").ok()
    ran = cli("test", TINY, "--fast").ok()
    assert "as it keeps 27.0 MiB free, without it about 4,096 would fit" in " ".join(ran.err.split())
    assert "more would not leave the memory free that safety.headroom asks for" in " ".join(ran.err.split())
    (found,) = cli("test", TINY, "--fast", "--reset", "--json").ok().json["models"]
    assert found["ended_by"] == "headroom"
    assert 256 <= found["tested_context_length"] < 4096
    assert found["failing_loads"] == 0


def test_what_is_kept_free_on_both_sides_is_kept_once(
    cli: Callable[..., Ran], keeping_engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("scan", "--quiet").ok()
    (server,) = [check for check in cli("doctor", "--json").json["checks"] if check["name"] == "server"]
    assert "one more may take 37.0 MiB (its own --memory-limit, less 27.0 MiB that it keeps free)" in server["found"]
    for here, kept in ((None, KEPT), ("27MiB", KEPT), ("1MiB", KEPT), ("30MiB", 30 * MIB)):
        if here is not None:
            monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", here)
        told = cli("estimate", TINY, "--json").ok().json
        assert (told["headroom_bytes"], told["budget_bytes"]) == (kept, LIMIT - kept)
        assert cli("recommend", "--json").json["budget_bytes"] == LIMIT - kept


def test_a_share_kept_free_is_one_of_the_engines_own_limit(
    cli: Callable[..., Ran], models_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedEngine(models_dir, memory_limit=LIMIT) as engine:
        monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
        monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(models_dir))
        cli("scan", "--quiet").ok()
        monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", f"{100 * KEPT / LIMIT}%")
        (found,) = cli("test", TINY, "--fast", "--json").ok().json["models"]
        assert found["ended_by"] == "headroom"
        assert 256 <= found["tested_context_length"] < 4096
        monkeypatch.setenv("LMSTRIX_SAFETY_HEADROOM", "90%")
        (passed,) = cli("test", TINY, "--fast", "--json").ok().json["models"]
        assert passed["skipped"].startswith("fits at no context while safety.headroom keeps 90% free")


def test_an_engine_that_keeps_all_free_refuses_for_that(
    cli: Callable[..., Ran], models_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedEngine(models_dir, memory_limit=LIMIT, headroom="90%") as engine:
        monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
        monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(models_dir))
        cli("scan", "--quiet").ok()
        (found,) = cli("test", TINY, "--fast", "--json").json["models"]
        assert (found["ended_by"], found["outcome"]) == ("headroom", "refused for headroom")
        assert "lets no context at all through, as it keeps 57.6 MiB free" in found["refused"]
