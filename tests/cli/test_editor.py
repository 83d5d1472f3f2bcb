"""`infer -e`: a prompt written in an editor."""

from __future__ import annotations

import stat
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran

pytestmark = pytest.mark.needs_posix("the editor is a script")


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes an editor that keeps what it was opened with in the file returned, and leaves what `written` says."""
    monkeypatch.chdir(tmp_path)

    def make(written: str, *, ends_with: int = 0) -> Path:
        script, opened = tmp_path / "my editor", tmp_path / "opened"
        script.write_text(
            f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\nfile = Path(sys.argv[-1])\n"
            f"old = file.read_text(encoding='utf-8')\nPath({str(opened)!r}).write_text(old, encoding='utf-8')\n"
            f"file.write_text({written!r}.replace('OLD', old), encoding='utf-8')\nsys.exit({ends_with})\n",
            encoding="utf-8",
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("VISUAL", f"'{script}' --wait")
        monkeypatch.setenv("EDITOR", "no-such-editor")
        return opened

    return make


@pytest.mark.parametrize("word", ["-e", "--editor"])
def test_a_prompt_is_written_in_the_editor(cli: Callable[..., Ran], editor: Callable[..., Path], word: str) -> None:
    opened = editor("Grüße\nan alle\n")
    assert cli("infer", word, "--dry-run").ok().out == "Grüße\nan alle"
    assert opened.read_text(encoding="utf-8") == ""


def test_it_opens_with_the_prompt_which_is_filled_afterwards(
    cli: Callable[..., Ran], editor: Callable[..., Path]
) -> None:
    opened = editor("OLD in {{place}}: {{text}}")
    words = ("--var", "place=Paris", "--text", "now?", "-f", "-")
    assert cli("infer", "The weather", "-e", *words, "--dry-run", stdin=b"Be short.").ok().out == (
        "Be short.\n\nThe weather in Paris: now?"
    )
    assert opened.read_text(encoding="utf-8") == "The weather"


def test_it_opens_with_a_prompt_of_a_file_filled(
    cli: Callable[..., Ran], editor: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "p.toml").write_text(
        '[sum]\nsystem_prompt = "Be brief."\nprompt = "Sum up: {{text}}"\n', encoding="utf-8"
    )
    opened = editor("OLD {{text}} @p.toml:sum")
    found = cli("infer", "@p.toml:sum", "--text", "T", "-e", "--dry-run", "--json").ok().json
    assert opened.read_text(encoding="utf-8") == "Sum up: T"
    assert (found["prompt"], found["system_prompt"]) == ("Sum up: T {{text}} @p.toml:sum", "Be brief.")


def test_nothing_is_sent_when_nothing_was_written(cli: Callable[..., Ran], editor: Callable[..., Path]) -> None:
    editor(" \n\n")
    cli("infer", "hello", "-e").failed(1, "the prompt was left empty in the editor; nothing was sent")


def test_an_editor_that_fails_is_named(
    cli: Callable[..., Ran], editor: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    editor("hello", ends_with=3)
    cli("infer", "-e").failed(2, "my editor", "ended with 3; nothing was sent", "VISUAL or EDITOR")
    monkeypatch.delenv("VISUAL")
    cli("infer", "-e").failed(2, "the editor no-such-editor cannot be used", "set VISUAL or EDITOR")
