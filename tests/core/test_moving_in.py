"""What earlier versions kept in the home moves into our own folder, once; what is LM Studio's stays as it is."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from lmstrix.core import moving_in
from lmstrix.core.moving_in import RECORD, move_in
from lmstrix.ground.paths import engine_files, own_folder
from tests.support.earlier_home import ANSWER, CONFIG, LOG, REPORT, leave, lm_studio_home, texts, write

REPORTS = f"reports/{REPORT}"


def moved(home: Path) -> list[str]:
    """Move; what was told."""
    told: list[str] = []
    move_in(home, told.append)
    return told


def held(folder: Path) -> dict[str, str]:
    """Every file below a folder, but what the move writes there itself."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}
    return {place: text for place, text in found.items() if place not in (RECORD, moving_in._LOCK)}


def traces(home: Path) -> dict[str, tuple[int, int, int]]:
    """Everything in a home, with what a change or another's permissions would change."""
    stats = {path: path.stat() for path in (home, *home.rglob("*"))}
    return {str(path): (found.st_mtime_ns, found.st_mode, found.st_size) for path, found in stats.items()}


def test_everything_of_ours_moves_once(home: Path) -> None:
    leave(home)
    write(home / "lmstrix.json", "{}")
    assert moved(home) == [
        "moved config.toml, state.json, trusted_folders.json, questions.jsonl, 2 conversations, 1 report, "
        f"1 cached answer and 1 engine log from {home} to {own_folder(home)}"
    ]
    assert held(own_folder(home)) == texts()
    # LM Studio may have made the folder of conversations, so that one stays.
    assert sorted(path.name for path in home.iterdir()) == ["conversations", "lmstrix", "lmstrix.json"]
    assert not any((home / "conversations").iterdir())
    before = traces(home)
    write(home / "state.json", '{"last_used_model": "of an earlier version that was used again"}')
    assert moved(home) == []
    assert (home / "state.json").exists()
    (home / "state.json").unlink()
    assert traces(home).keys() == before.keys()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.needs_posix("links and permission bits")
def test_what_was_moved_is_private(home: Path) -> None:
    leave(home)
    for path in home.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    moved(home)
    own = own_folder(home)
    ours = [own, *(own / place for place in texts() if not place.startswith("reports/")), own / REPORTS, own / RECORD]
    assert [path for path in ours if path.stat().st_mode & 0o077] == []


def test_lm_studios_files_stay_untouched(home: Path) -> None:
    lm_studio_home(home)
    before = traces(home)
    assert moved(home) == []
    assert traces(home) == before  # not even a folder of ours is made
    own_folder(home).mkdir()
    before = traces(home)
    del before[str(home)], before[str(own_folder(home))]
    assert moved(home) == []
    assert traces(home).items() >= before.items()
    assert [path.name for path in own_folder(home).iterdir()] == [RECORD]


def test_ours_are_told_from_lm_studios_in_one_folder(home: Path) -> None:
    studio = lm_studio_home(home)
    ours = {place: text for place, text in texts().items() if place not in studio}
    for place, text in ours.items():
        write(home / place, text)
    chats = {
        path: path.stat() for path in (home / "conversations").rglob("*.json") if str(path.relative_to(home)) in studio
    }
    assert len(moved(home)) == 1
    assert held(own_folder(home)) == ours
    assert {place: text for place, text in held(home).items() if not place.startswith("lmstrix/")} == studio
    assert {path: path.stat().st_mtime_ns for path in chats} == {path: was.st_mtime_ns for path, was in chats.items()}


def test_lm_studios_chats_are_not_even_opened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm_studio_home(home)
    write(home / "conversations" / "infer.json", texts()["conversations/infer.json"])
    opened: list[str] = []
    really_open = Path.open

    def noted(self: Path, *words: object, **named: object) -> object:
        opened.append(self.name)
        return really_open(self, *words, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", noted)
    assert moved(home) == [f"moved 1 conversation from {home} to {own_folder(home)}"]
    assert "infer.json" in opened
    assert [name for name in opened if name.endswith(".conversation.json")] == []


@pytest.mark.parametrize("after", range(6))
def test_a_run_that_is_killed_is_gone_on_with(home: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    leave(home)
    renamed: list[Path] = []
    really_rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if len(renamed) == after:
            raise KeyboardInterrupt
        renamed.append(self)
        return really_rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            moved(home)
    assert not (own_folder(home) / RECORD).exists()
    assert len(moved(home)) == 1
    assert held(own_folder(home)) == texts()
    assert (own_folder(home) / RECORD).exists()


def test_two_at_once_move_each_file_once(home: Path) -> None:
    leave(home)
    for number in range(200):
        write(home / "conversations" / f"c{number}.json", texts()["conversations/infer.json"])
    told: list[str] = []
    threads = [threading.Thread(target=move_in, args=(home, told.append)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(told) == 1
    assert "202 conversations" in told[0]
    assert len(list((own_folder(home) / "conversations").iterdir())) == 202


def test_the_newer_file_wins_and_the_old_one_is_told_once(home: Path) -> None:
    leave(home)
    write(own_folder(home) / "config.json", '{"timeout_s": 5}')
    write(own_folder(home) / "conversations" / "infer.json", "newer")
    (told,) = moved(home)
    assert told.endswith(f"; left config.toml and 1 conversation in {home}, as {own_folder(home)} has newer ones")
    # The old config.toml would have gone before the new config.json.
    assert (home / "config.toml").read_text() == CONFIG
    assert not (own_folder(home) / "config.toml").exists()
    assert (own_folder(home) / "conversations" / "infer.json").read_text() == "newer"
    assert (home / "conversations" / "infer.json").exists()
    assert moved(home) == []


def test_a_home_that_cannot_be_written_is_told_and_left(home: Path) -> None:
    leave(home)
    own_folder(home).write_text("in the way")  # what keeps even root from making the folder
    (told,) = moved(home)
    assert "2 conversations" in told
    assert f"cannot be moved from {home}" in told
    assert "until you move them" in told
    assert (home / "config.toml").read_text() == CONFIG


def test_a_file_that_is_held_is_told_and_moved_the_next_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(home)
    really_rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if self.name == "state.json":
            raise PermissionError(13, "The process cannot access the file")
        return really_rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refusing)
        done, refused = moved(home)
    assert "state.json" not in done
    assert refused.startswith("state.json of an earlier version cannot be moved")
    assert "The process cannot access the file" in refused
    assert moved(home) == [f"moved state.json from {home} to {own_folder(home)}"]
    assert held(own_folder(home)) == texts()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.needs_posix("links and permission bits")
def test_a_link_moves_where_it_still_leads_to_its_file(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    write(tmp_path / "dotfiles" / "config.toml", CONFIG)
    (home / "config.toml").symlink_to(os.path.relpath(tmp_path / "dotfiles" / "config.toml", home))
    (told,) = moved(home)
    assert told.startswith("config.toml of an earlier version cannot be moved")
    (home / "config.toml").unlink()
    (home / "config.toml").symlink_to(tmp_path / "dotfiles" / "config.toml")
    mode = (tmp_path / "dotfiles" / "config.toml").stat().st_mode
    assert len(moved(home)) == 1
    assert (own_folder(home) / "config.toml").read_text() == CONFIG
    assert (tmp_path / "dotfiles" / "config.toml").stat().st_mode == mode


def test_a_running_engine_of_an_earlier_version_keeps_its_files(home: Path) -> None:
    leave(home)
    state_file = engine_files(home)[1]
    with FileLock(home / "engine.lock"):
        assert len(moved(home)) == 1
        assert (own_folder(home) / "config.toml").exists()
        assert state_file.exists()
        assert (home / "logs" / "engine.log").read_text() == LOG
        assert moved(home) == []
    assert moved(home) == [f"moved 1 engine log from {home} to {own_folder(home)}"]
    assert not state_file.exists()
    assert not (home / "engine.lock").exists()
    assert (own_folder(home) / RECORD).exists()


@pytest.mark.parametrize(
    "text",
    ["", "# nothing set\n", "server = [\n", "[server]\nport = 1\n", 'server = "x"\ntheme = "dark"\n', "profiles = 1\n"],
)
def test_a_config_of_another_program_stays(home: Path, text: str) -> None:
    write(home / "config.toml", text)
    assert moved(home) == []
    assert (home / "config.toml").read_text() == text


def test_a_home_that_is_not_there_is_not_made(home: Path) -> None:
    assert moved(home) == []
    assert not home.exists()


def test_odd_things_of_those_names_are_no_obstacle(home: Path) -> None:
    for place in ("config.toml/x", "state.json/x", "conversations/infer.json/x", f"cache/answers/{ANSWER}/x"):
        write(home / place, "")
    write(home / "reports", "a file")
    assert moved(home) == []
