"""What is kept between runs: the model used last, and where each choice of server led to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.answers.last_used import LastUsed
from lmstrix.core.registry.places import Place, place_here

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

BOX, FAR = place_here("lmstudio"), Place(engine="embedded", host="far", is_here=False)


def test_models_and_servers_are_kept_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "state" / "state.json"
    kept = LastUsed(file)
    assert (kept.read(), kept.place("auto")) == (None, None)
    kept.write_place("auto", BOX)
    kept.write_place("far:1234", FAR)
    kept.write("tiny")
    assert (kept.read(), kept.place("auto"), kept.place("far:1234"), kept.place("other")) == ("tiny", BOX, FAR, None)
    before = file.stat().st_mtime_ns, file.stat().st_ino
    kept.write_place("auto", BOX)
    kept.write("tiny")
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before
    kept.write_place("auto", FAR)
    assert kept.place("auto") == FAR


def test_this_machine_is_the_same_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = LastUsed(tmp_path / "state.json")
    kept.write_place("auto", BOX)
    monkeypatch.setattr("platform.node", lambda: "renamed.example.org")
    assert kept.place("auto") == Place(engine="lmstudio", host="renamed")


def test_only_the_latest_servers_are_kept(tmp_path: Path) -> None:
    kept = LastUsed(tmp_path / "state.json")
    for port in range(40):
        kept.write_place(f"127.0.0.1:{port}", BOX)
    assert kept.place("127.0.0.1:39") == BOX
    assert kept.place("127.0.0.1:0") is None


def test_a_damaged_file_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    for content in ("{", "[]", '{"last_used_model": 5, "servers": [1]}', '{"servers": {"auto": {"engine": 1}}}'):
        file.write_text(content)
        kept = LastUsed(file)
        assert (kept.read(), kept.place("auto")) == (None, None)
        kept.write_place("auto", BOX)
        assert kept.place("auto") == BOX


def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    for text in ("", "[]", "{", '{"a":' * 100_000):
        file.write_text(text)
        assert LastUsed(file).read() is None
    LastUsed(file).write("tiny")
    assert LastUsed(file).read() == "tiny"
