"""A broken installation, closed streams, damaged files: each is one clear line, and `doctor` goes on and lists it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lmstrix
from lmstrix.ground.paths import own_folder
from tests.cli.processes import COMMAND, finish, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ran

DAMAGE = b"SQLite format 3\x00" + b"garbage" * 1000


def with_closed(redirection: str, *words: str, home: Path) -> tuple[int, str, str]:
    """Run `lmstrix` with what a shell's `>&-` closes."""
    script = f'exec "$0" "$@" {redirection}'
    command = ["sh", "-c", script, *COMMAND]
    return finish(start(*words, command=command, environment={"LMSTRIX_HOME": str(home)}))


@pytest.mark.needs_posix("a shell of Windows closes no descriptors")
@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [("<&-", 0, ""), ("2>&-", 0, ""), (">&-", 1, "the output cannot be written"), ("<&- >&- 2>&-", 1, "")],
)
def test_closed_streams_are_neither_a_traceback_nor_written_into(
    redirection: str, code: int, said: str, tmp_path: Path
) -> None:
    ended, _, err = with_closed(redirection, "list", "--json", home=tmp_path)
    assert (ended, "Traceback" in err) == (code, False), err
    assert said in err


def test_a_missing_package_is_one_line_and_doctor_names_it(tmp_path: Path) -> None:
    source = str(Path(lmstrix.__file__).parents[1])
    # Isolated and without site-packages: Python and our own source, nothing else.
    bare = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {source!r}); sys.argv[0] = 'lmstrix'\n"]
    bare[-1] += "from lmstrix.__main__ import main; sys.exit(main())"
    environment = {"LMSTRIX_HOME": str(tmp_path)}
    code, _, err = finish(start("scan", command=bare, environment=environment))
    assert (code, len(err.splitlines())) == (1, 1), err
    assert "is missing: pip install lmstrix" in err
    code, out, err = finish(start("doctor", command=bare, environment=environment))
    assert (code, "Traceback" in err) == (1, False), err
    assert "pip install lmstudio" in out
    assert "registry" in out  # what needs no package is examined all the same


def test_doctor_lists_an_invalid_configuration_and_goes_on(cli: Callable[..., Ran], home: Path) -> None:
    own_folder(home).mkdir(parents=True)
    (own_folder(home) / "config.toml").write_text('sever = "here"\n')
    ran = cli("doctor")
    assert ran.code == 1
    assert "unknown setting 'sever'" in ran.out
    assert "registry" in ran.out
    cli("list").failed(2, "unknown setting 'sever'")  # for everything else, it is an error as before


def test_doctor_finds_a_damaged_history_and_leaves_it(cli: Callable[..., Ran], home: Path) -> None:
    home.mkdir()
    (home / "lmstrix.db").write_bytes(DAMAGE)
    ran = cli("doctor")
    assert (ran.code, "is damaged" in ran.out) == (1, True)
    assert (home / "lmstrix.db").read_bytes() == DAMAGE


@pytest.mark.parametrize("words", [("logs",), ("bench", "history"), ("history", "scripted"), ("reset", "scripted")])
@pytest.mark.usefixtures("engine")
def test_every_command_that_meets_a_damaged_history_says_so(
    words: tuple[str, ...], cli: Callable[..., Ran], home: Path
) -> None:
    cli("scan", "--quiet").ok()
    (home / "lmstrix.db").write_bytes(DAMAGE)
    assert "lmstrix.db was damaged and is set aside as" in cli(*words).err
    aside = [path for path in home.iterdir() if ".corrupt-" in path.name]
    assert [path.read_bytes() for path in aside] == [DAMAGE]


@pytest.mark.usefixtures("engine")
def test_forgetting_all_results_takes_a_second_word_in_scan_too(cli: Callable[..., Ran], home: Path) -> None:
    cli("scan", "--quiet").ok()
    cli("scan", "--reset").failed(2, "--yes")
    cli("scan", "--reset", "--no-update").ok()  # forgets nothing
    cli("scan", "--reset", "--yes").ok()


@pytest.mark.needs_posix("Windows has no pseudo-terminals of this kind")
@pytest.mark.usefixtures("engine")
def test_names_in_csv_cannot_drive_a_terminal(cli: Callable[..., Ran], home: Path) -> None:
    import pty

    cli("scan", "--quiet").ok()
    registry = home / "lmstrix.json"
    registry.write_text(registry.read_text().replace('"scripted"', '"scr\\u001b[31mipted"'))
    assert "scr\x1b[31mipted" in cli("list", "--show", "csv").ok().out  # a program reads it exactly
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        code, _, err = finish(start("list", "--show", "csv", stdout=theirs))
        os.close(theirs)
        shown = screen.read(100_000)
    assert (code, err) == (0, "")
    assert b"scr?[31mipted" in shown
    assert b"\x1b" not in shown
