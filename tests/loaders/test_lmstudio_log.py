"""What LM Studio logs while something is done: what is added, in old files and in new ones, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.loaders.lmstudio_log import LogEnd

if TYPE_CHECKING:
    from pathlib import Path


def test_only_what_is_added_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "server-logs" / "2026-09"
    folder.mkdir(parents=True)
    old = folder / "2026-09-30.1.log"
    old.write_text("what was said before\n", encoding="utf-8")
    end = LogEnd(tmp_path)
    assert end.added() == ""
    with old.open("a", encoding="utf-8") as file:
        file.write("now\n")
    later = tmp_path / "server-logs" / "2026-10"
    later.mkdir()
    (later / "2026-10-01.1.log").write_bytes(b"and \xff here\n")
    (later / "notes.txt").write_text("no log", encoding="utf-8")
    assert end.added() == "now\nand \ufffd here\n"


def test_no_log_says_nothing(tmp_path: Path) -> None:
    end = LogEnd(tmp_path / "nowhere")
    assert end.added() == ""
    (tmp_path / "server-logs" / "2026-09").mkdir(parents=True)
    end = LogEnd(tmp_path)
    (tmp_path / "server-logs" / "2026-09" / "x.log").mkdir()  # what cannot be read as a file
    assert end.added() == ""
