"""What a command says that has nothing to show: that it is nothing, of what, and what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ran


@pytest.mark.parametrize("words", [("logs",), ("logs", "--stats")])
def test_an_empty_log_says_who_writes_there(cli: Callable[..., Ran], words: tuple[str, ...]) -> None:
    assert cli(*words).ok().lines == ["no calls in the log yet (infer, chat and batch write there)"]


def test_a_search_that_finds_nothing_does_not_say_that_the_log_is_empty(cli: Callable[..., Ran]) -> None:
    assert cli("logs", "--search", "herring").ok().lines == ["no such call in the log"]


def test_no_conversation_names_what_begins_one(cli: Callable[..., Ran]) -> None:
    for words in (("conversations", "show"), ("infer", "hello", "--continue")):
        cli(*words).failed(2, "there is no conversation yet (lmstrix chat begins one; log_texts = false keeps none)")


def test_an_option_that_resembles_nothing_suggests_nothing(cli: Callable[..., Ran]) -> None:
    assert "did you mean" not in cli("power", "--seconds", "1").failed(2).err
    assert "did you mean '--watch'" in cli("power", "--wach", "1").failed(2).err
