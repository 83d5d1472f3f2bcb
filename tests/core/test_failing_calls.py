"""Every call that writes, syncs or renames a file of ours is made to fail once: nothing is lost or untrue."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "support" / "failing_calls.c"
COMPILER = shutil.which("cc")
pytestmark = [
    pytest.mark.needs_linux("a call is made to fail by a preloaded library"),
    pytest.mark.skipif(COMPILER is None, reason="the library needs cc"),
]

PRELUDE = """
import ctypes, errno, pathlib, shutil, sys
calls = ctypes.CDLL(sys.argv[1])
folder = pathlib.Path(sys.argv[2])
error = int(sys.argv[3])

def each_call(prepare, act, check):
    number = 0
    while True:
        number += 1
        home = folder / str(number)
        state = prepare(home)
        calls.fail_call(number, error)
        try:
            outcome = act(home, state)
        finally:
            failed = calls.fail_call(0, 0)
        check(home, state, outcome, number)
        if not failed:
            break
        shutil.rmtree(home)
    print(number - 1)
"""

REGISTRY = """
from lmstrix.core.registry.store import RegistryStore
from lmstrix.ground.errors import RegistryError

def change(n):
    return lambda registry: registry.models.update({"model": {"n": n, "padding": "x" * 20_000}})

def prepare(home):
    store = RegistryStore(home / "lmstrix.json")
    store.update(change(1))
    store.update(change(2))
    return store

def act(home, store):
    try:
        store.update(change(3))
    except RegistryError as exc:
        assert "it is unchanged" in str(exc), exc
        return 2
    return 3

def check(home, store, outcome, number):
    # What the caller was told is what the file says, and nothing lies about that could be taken for it.
    assert store.load().get("model").raw["n"] == outcome, (number, outcome)
    left = sorted(path.name for path in home.iterdir() if path.suffix == ".tmp" or path.name.endswith("backup-new"))
    assert not left, (number, left)
    assert store.newest_good_backup() is not None, number
    store.update(change(4))
    assert store.load().get("model").raw["n"] == 4

each_call(prepare, act, check)
"""

JOURNAL = """
from lmstrix.core.history import History
from lmstrix.ground.errors import HistoryError

def intend(history, run_id, length):
    return history.journal.intend(run_id, "model", "default", kind="load", context_length=length)

def prepare(home):
    history = History(home / "lmstrix.db")
    run_id = history.journal.begin_run("test")
    history.journal.settle(intend(history, run_id, 1024), "ok", proves="good")
    return history, run_id

def act(home, state):
    history, run_id = state
    told = {1024}
    for length in (2048, 4096):
        try:
            intend(history, run_id, length)
        except HistoryError:
            continue
        told.add(length)
    return told

def check(home, state, outcome, number):
    history, run_id = state
    intend(history, run_id, 8192)  # the connection is not broken by what failed
    history.close()
    with History(home / "lmstrix.db") as again:
        assert again.set_aside is None, number
        lengths = {intent.context_length for intent in again.journal.intents(model_path="model")}
    # What was acknowledged is there; what was refused may be there as well, never the other way round.
    assert outcome | {8192} <= lengths <= {1024, 2048, 4096, 8192}, (number, outcome, lengths)

each_call(prepare, act, check)
"""

OPENING = """
from lmstrix.core.history import History
from lmstrix.ground.errors import HistoryError

def act(home, state):
    try:
        History(home / "lmstrix.db").close()
    except HistoryError:
        pass

def check(home, state, outcome, number):
    with History(home / "lmstrix.db") as history:
        assert history.set_aside is None, number
        assert history.journal.begin_run("test")

each_call(lambda home: None, act, check)
"""


DURABLE = """
from lmstrix.core.history import History
from lmstrix.core.registry.store import RegistryStore

store = RegistryStore(folder / "lmstrix.json")
calls.synced_since()
store.update(lambda registry: registry.models.update({"model": {}}))
assert calls.synced_since() >= 2, "the file, and the folder that names it"

history = History(folder / "lmstrix.db")
run_id = history.journal.begin_run("test")
calls.synced_since()
attempt = history.journal.intend(run_id, "model", "default", kind="load", context_length=1024)
assert calls.synced_since() >= 1, "an attempt, before it may take the machine down"
history.journal.settle(attempt, "ok", proves="good")
assert calls.synced_since() >= 1, "and how it ended"
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a call fail."""
    built = tmp_path_factory.mktemp("failing-calls") / "failing_calls.so"
    subprocess.run([COMPILER or "cc", "-shared", "-fPIC", "-O1", "-o", built, SOURCE, "-ldl"], check=True)
    return built


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param(REGISTRY, errno.EIO, id="registry-EIO"),
        pytest.param(REGISTRY, errno.ENOSPC, id="registry-ENOSPC"),
        pytest.param(JOURNAL, errno.EIO, id="journal-EIO"),
        pytest.param(JOURNAL, errno.ENOSPC, id="journal-ENOSPC"),
        pytest.param(OPENING, errno.EIO, id="opening"),
    ],
)
def test_each_call_may_fail(script: str, error: int, library: Path, tmp_path: Path) -> None:
    assert int(_run(PRELUDE + script, library, tmp_path, error)) >= 3  # so many calls there were to fail


def test_what_must_outlast_a_power_cut_is_on_the_disk(library: Path, tmp_path: Path) -> None:
    _run(PRELUDE + DURABLE, library, tmp_path, 0)


def _run(code: str, library: Path, folder: Path, error: int) -> str:
    run = subprocess.run(
        [sys.executable, "-P", "-B", "-c", code, library, folder, str(error)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
