"""The keys that end a chat's input are those of the system it runs on."""

from __future__ import annotations

import runpy
import sys

import pytest

from lmstrix.core.answers import chat


@pytest.mark.parametrize(
    ("platform", "keys"), [("linux", "Ctrl-D"), ("darwin", "Ctrl-D"), ("win32", "Ctrl-Z and Enter")]
)
def test_the_help_names_what_ends_the_input_here(monkeypatch: pytest.MonkeyPatch, platform: str, keys: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    names = runpy.run_path(str(chat.__file__), run_name="chat_elsewhere")
    assert names["END_KEYS"] == keys
    assert f"leave (or {keys}; on a terminal" in names["HELP"]
