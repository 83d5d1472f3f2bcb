"""Commands that measure for long keep the machine awake meanwhile; those that only look do not."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lmstrix.service import bench_targets, benching, testing, traffic_testing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []

    @contextmanager
    def keep_awake() -> Iterator[None]:
        done.append("awake")
        try:
            yield
        finally:
            done.append("may sleep")

    for module in (bench_targets, benching, testing, traffic_testing):
        monkeypatch.setattr(module, "keep_awake", keep_awake)
    return done


@pytest.mark.slow
def test_what_measures_keeps_the_machine_awake(
    cli: Callable[..., Ran], faulty: FaultyServer, asked: list[str], tmp_path: Path
) -> None:
    cli("scan", "--quiet").ok()
    targets = tmp_path / "targets.toml"
    targets.write_text(f'[[target]]\nname = "one"\naddress = "{faulty.address}"\n', encoding="utf-8")
    short = ("--context-tiers", "0", "--runs", "1", "--max-tokens", "4", "--no-power", "--no-save", "--quiet")
    traffic = ("--rate", "5", "--span", "1", "--max-tokens", "4", "--out", str(tmp_path / "t"), "--quiet")
    for words in (
        ("test", "acme/tiny", "--fast", "--context-length", "512", "--quiet"),
        ("bench", "acme/tiny", *short),
        ("bench", "--targets", str(targets), *short[:-2], "--out", str(tmp_path / "b"), "--quiet"),
        ("bench", "acme/tiny", *traffic),
    ):
        asked.clear()
        cli(*words)
        assert asked == ["awake", "may sleep"], words
    asked.clear()
    cli("test", "acme/tiny", "--dry-run", "--quiet").ok()
    assert asked == []
