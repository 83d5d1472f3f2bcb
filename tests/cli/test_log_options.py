"""--verbose, --debug and --log-file: what a command does and decides, in a log without prompts and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import SCRIPTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran

TOKEN = "sk-lm-abcdEF12:abcdefghijKLMNOP1234"
PRIVATE = "my private prompt"


@pytest.mark.parametrize("words", [["list"], ["version"], ["doctor"], ["engine", "status"], ["logs"], ["power"]])
def test_every_command_tells_with_debug_what_it_is_and_how_long_it_took(
    cli: Callable[..., Ran], words: list[str]
) -> None:
    ran = cli(*words, "--debug")
    told = [line.partition("Z ")[2] for line in ran.lines]
    assert any(line.startswith("debug lmstrix ") for line in told)
    assert f"debug command {' '.join(words)} with --debug" in told
    assert any(line.startswith("debug home ") for line in told)
    assert told[-1].startswith("debug done in ")
    assert cli(*words).err.count("debug") == 0


def test_an_answer_tells_the_decisions_on_its_way_and_nothing_private(
    cli: Callable[..., Ran], engine: EmbeddedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.port
    monkeypatch.setenv("LMSTRIX_API_TOKEN", TOKEN)
    file = tmp_path / "lmstrix.log"
    words = ("infer", PRIVATE, "-m", SCRIPTED, "--system-prompt", PRIVATE, "--out-ctx", "5", "--log-file", str(file))
    quiet = cli(*words, "--quiet")
    assert (quiet.code, quiet.err) == (0, "")
    text = file.read_text()
    for part in ("command infer with", "settings: server", "embedded 2.", "loaded scripted, context", "the prompt has"):
        assert part in text
    for secret in (PRIVATE, TOKEN, TOKEN.rpartition(":")[2]):
        assert secret not in text
    loud = cli(*words, "--debug")
    assert "the prompt has" in loud.err
    assert PRIVATE not in loud.err


def test_a_failure_is_in_the_log_too(cli: Callable[..., Ran], engine: EmbeddedEngine, tmp_path: Path) -> None:
    assert engine.port
    file = tmp_path / "lmstrix.log"
    cli("infer", "hi", "-m", "no-such-model", "--log-file", str(file))
    last = file.read_text().splitlines()[-1]
    assert "failed after" in last
    assert "ModelNotFoundError at " in last


def test_a_log_file_that_cannot_be_written_is_said_before_anything_is_done(
    cli: Callable[..., Ran], tmp_path: Path, home: Path
) -> None:
    cli("scan", "--log-file", str(tmp_path)).failed(2, "cannot write the log file", str(tmp_path), "--log-file")
    assert not home.exists()
