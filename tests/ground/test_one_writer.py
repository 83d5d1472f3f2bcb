"""Files that are read, changed and written back lose nothing to a second writer."""

from __future__ import annotations

import errno
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.answers import state_file
from lmstrix.core.answers.default_model import DefaultModel
from lmstrix.core.answers.last_used import LastUsed
from lmstrix.core.answers.question_history import KEPT, QuestionHistory
from lmstrix.core.registry.places import Place
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.settings import load_settings
from lmstrix.ground.trust import TrustedFolders
from lmstrix.service.configuring import set_value, unset_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

WRITERS = 8


def at_once(step: Callable[[int], object]) -> None:
    """Take a step in so many threads that begin together."""
    start = threading.Barrier(WRITERS)

    def one(number: int) -> None:
        start.wait(30)
        step(number)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(one, range(WRITERS)))


def test_servers_of_several_writers_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    DefaultModel(file).write("tiny")
    at_once(lambda n: LastUsed(file).write_place(f"far:{n}", Place(engine="embedded", host=f"h{n}", is_here=False)))
    assert {n for n in range(WRITERS) if LastUsed(file).place(f"far:{n}") is not None} == set(range(WRITERS))
    assert DefaultModel(file).read() == "tiny"


def test_a_default_model_chosen_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state.json"
    read, choosing = state_file.read_state, [True]

    def read_while_another_chooses(path: Path) -> dict[str, Any]:
        found = read(path)
        if choosing:  # after the first look at the file, another process writes it
            choosing.clear()
            DefaultModel(file).write("chosen")
        return found

    monkeypatch.setattr(state_file, "read_state", read_while_another_chooses)
    LastUsed(file).write("tiny")
    assert (DefaultModel(file).read(), LastUsed(file).read()) == ("chosen", "tiny")


def test_folders_trusted_at_once_are_all_trusted(tmp_path: Path) -> None:
    at_once(lambda n: TrustedFolders(tmp_path / "own").add(tmp_path / f"project{n}", b"x"))
    assert len(TrustedFolders(tmp_path / "own").folders()) == WRITERS


def test_settings_set_at_once_are_all_set(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    at_once(lambda n: set_value(file, f"aliases.a{n}", "list", check=lambda _: ()))
    found: Mapping[str, str] = load_settings(tmp_path, environ={}).settings.command_aliases
    assert sorted(found) == [f"a{n}" for n in range(WRITERS)]


def test_a_question_asked_while_the_history_is_cut_is_kept(tmp_path: Path) -> None:
    history = QuestionHistory(tmp_path / "questions.jsonl")
    history.file.write_text('"old"\n' * (2 * KEPT + 1))

    def step(number: int) -> None:
        history.add(f"new {number}")
        history.read()

    at_once(step)
    assert {f"new {n}" for n in range(WRITERS)} <= set(history.read())


@pytest.mark.parametrize("refusal", [errno.ENOSPC, errno.EROFS])
def test_a_change_that_the_system_refuses_is_one_line_and_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    file = tmp_path / "config.toml"
    set_value(file, "server.retries", "1", check=lambda _: ())
    before = file.read_text()

    def refuse(*_: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr("lmstrix.ground.files.replace_file", refuse)
    told = f"cannot be written ({os.strerror(refusal)}); it is unchanged"
    with pytest.raises(LMStrixError, match=re.escape(f"config.toml {told}")):
        set_value(file, "server.retries", "2", check=lambda _: ())
    with pytest.raises(LMStrixError, match=re.escape(told)):
        unset_value(file, "server.retries")
    with pytest.raises(LMStrixError, match=re.escape(told)):
        TrustedFolders(tmp_path / "own").add(tmp_path, b"x")
    assert file.read_text() == before
    assert not list(tmp_path.rglob("*.tmp"))
