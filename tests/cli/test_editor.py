"""`infer -e`: a prompt written in an editor."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.processes import COMMAND, PATIENCE_S, finish, start
from tests.cli.terminals import TAKE_TERMINAL

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


def test_without_a_terminal_no_editor_waits_for_one() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"VISUAL", "EDITOR"}}
    code, _, err = finish(start("infer", "-e", env=environment, start_new_session=True))
    assert (code, err.strip()) == (
        2,
        "lmstrix: there is no terminal for the editor vi; give the text in words, or set VISUAL",
    )


def test_the_editor_reads_the_terminal_where_stdin_is_a_pipe(editor: Callable[..., Path], tmp_path: Path) -> None:
    opened = editor("OLD")
    script = tmp_path / "my editor"
    asks = "Path('typed').write_text(str(sys.stdin.isatty()), encoding='utf-8')\nold ="
    script.write_text(script.read_text(encoding="utf-8").replace("old =", asks, 1), encoding="utf-8")
    terminal, other_side = os.openpty()
    piped = f"printf 'Be short.' | {shlex.join(COMMAND)} infer Hi -e -f - --dry-run > said"
    code = f"{TAKE_TERMINAL.rpartition('os.execv')[0]}os.execv('/bin/sh', ['sh', '-c', sys.argv[1]])"
    with subprocess.Popen([sys.executable, "-c", code, piped], stdin=other_side, start_new_session=True) as process:
        os.close(other_side)
        assert process.wait(PATIENCE_S) == 0
    os.close(terminal)
    assert (tmp_path / "typed").read_text(encoding="utf-8") == "True"
    assert opened.read_text(encoding="utf-8") == "Hi"
    assert (tmp_path / "said").read_text(encoding="utf-8") == "Be short.\n\nHi"
