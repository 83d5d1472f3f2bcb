"""`test --dry-run`: what it says of memory is what the server that runs would allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.engine import EmbeddedEngine
from tests.cli.conftest import TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Ran

MIB = 2**20


def test_a_dry_run_reckons_with_what_the_running_engine_allows(
    cli: Callable[..., Ran], models_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedEngine(models_dir, memory_limit=90 * MIB) as engine:
        monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
        cli("scan", "--quiet").ok()
        estimated = cli("estimate", TINY, "--json").ok().json
        (planned,) = cli("test", TINY, "--dry-run", "--json").ok().json["models"]
        assert planned["budget_bytes"] == estimated["budget_bytes"] == 90 * MIB
        # The memory of the same runtime, too.
        assert planned["predicted_bytes"] == estimated["total_bytes"]


def test_without_a_server_a_dry_run_reckons_with_this_machine(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    (planned,) = cli("test", TINY, "--dry-run", "--json", "--server", "127.0.0.1:1").ok().json["models"]
    assert planned["budget_bytes"] > 2**30
