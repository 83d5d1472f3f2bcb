"""Memory that stays free: bytes, or a share of what models might take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.core.memory.budgets import Budget
from lmstrix.core.memory.runtime import LM_STUDIO
from lmstrix.ground.errors import SettingsError, UsageError
from lmstrix.ground.headroom import NO_HEADROOM, Headroom, parse_headroom
from lmstrix.ground.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("value", "kept", "word"),
    [(None, 0, "0"), ("2GB", 2 * 10**9, "2000000000"), (512, 512, "512"), ("10%", 10**9, "10%"), ("0%", 0, "0")],
)
def test_what_stays_free_of_ten_gigabytes(value: str | int | None, kept: int, word: str) -> None:
    headroom = parse_headroom(value)
    assert (headroom.of(10**10), headroom.word) == (kept, word)
    assert parse_headroom(headroom.word) == headroom


@pytest.mark.parametrize("value", ["lots", "2 parsecs", "100%", "-1%", "x%", str(2**61)])
def test_what_is_no_headroom(value: str) -> None:
    with pytest.raises(UsageError, match=r"safety\.headroom"):
        parse_headroom(value)


def test_more_than_there_is_leaves_nothing() -> None:
    assert Headroom(free_bytes=100).of(60) == 60


def test_a_budget_says_what_it_keeps_free() -> None:
    budget = Budget(available_bytes=10**10, runtime=LM_STUDIO, why="all there is")
    kept = budget.keeping(Headroom(free_ratio=0.25))
    assert (kept.available_bytes, kept.headroom_bytes) == (7_500_000_000, 2_500_000_000)
    assert kept.explained == "all there is, less 2.33 GiB that safety.headroom keeps free"
    assert budget.keeping(NO_HEADROOM) is budget
    unknown = Budget(available_bytes=None, runtime=LM_STUDIO)
    assert unknown.keeping(Headroom(free_bytes=1)) is unknown


def test_the_settings_check_it(tmp_path: Path) -> None:
    assert load_settings(tmp_path, environ={"LMSTRIX_SAFETY_HEADROOM": "10%"}).settings.headroom == "10%"
    (tmp_path / "config.toml").write_text("[safety]\nheadroom = 2000000000\n")
    assert load_settings(tmp_path, environ={}).settings.headroom == 2_000_000_000
    (tmp_path / "config.toml").write_text('[safety]\nheadroom = "most"\n')
    with pytest.raises(SettingsError, match=r"config\.toml.*safety\.headroom: 'most' is not a number such as 2GiB"):
        load_settings(tmp_path, environ={})
    (tmp_path / "config.toml").write_text("[safety]\nheadroom = true\n")
    with pytest.raises(SettingsError, match=r"safety\.headroom"):
        load_settings(tmp_path, environ={})
