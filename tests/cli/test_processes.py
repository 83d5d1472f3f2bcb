"""What only a process of its own shows: closed pipes, poor terminals, full disks, engines that die, writers at once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.store import RegistryStore
from lmstrix.engine import EmbeddedEngine
from tests.cli.conftest import SCRIPTED, TINY
from tests.cli.processes import finish, start
from tests.support.faulty_server import FaultyModel, FaultyServer
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ran

pytestmark = [pytest.mark.slow, pytest.mark.needs_posix("POSIX signals, limits and terminals")]


def fill(home: Path, count: int) -> None:
    """A registry of many models."""
    facts = [
        ModelFacts(path=f"p/model-{n}/m.gguf", model_key=f"model-{n}", size_bytes=n, max_context_length=4096)
        for n in range(count)
    ]
    RegistryStore(home / "lmstrix.json").update(lambda registry: registry.merge_scan(facts))


def test_a_reader_that_has_seen_enough(home: Path) -> None:
    fill(home, 2000)
    for words in (["list"], ["list", "--json"], ["list", "--show", "csv"]):
        process = start(*words)
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()
    for words in (["--help"], ["--version"]):
        read_end, write_end = os.pipe()
        os.close(read_end)
        assert finish(start(*words, stdout=write_end)) == (0, "", "")
        os.close(write_end)


@pytest.mark.needs_linux("a device that is always full")
def test_an_output_that_takes_nothing(home: Path) -> None:
    fill(home, 3)
    for words in (["--version"], ["--help"], ["list"], ["list", "--json"]):
        with Path("/dev/full").open("wb") as full:
            code, _, err = finish(start(*words, stdout=full))
        assert (code, err) == (1, "lmstrix: the output cannot be written: No space left on device\n")


def test_an_ascii_terminal_of_forty_columns(cli: Callable[..., Ran], faulty: FaultyServer, home: Path) -> None:
    faulty.models["übergroß/漢字-instruct"] = FaultyModel(key="übergroß/漢字-instruct", answer="Größe: 5 — 漢字 ✓")
    cli("scan", "--quiet").ok()
    cli("test", "--all", "--fast", "--quiet").ok()
    poor: dict[str, Any] = {"environment": {"COLUMNS": "40", "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}}
    cli("infer", "hi", "-m", "acme/tiny", "--quiet").ok()
    for words in (["list"], ["ps"], ["test", "acme/tiny", "--fast", "--force"]):
        code, out, err = finish(start(*words, **poor))
        assert code == 0, err
        assert out.isascii()
        assert err.isascii()
        assert all(len(line) <= 40 for line in out.splitlines()), out
    code, out, err = finish(start("infer", "hi", "-m", "übergroß/漢字-instruct", "--stream", **poor))
    assert (code, out.rstrip("\n")) == (0, "Gr??e: 5 ? ?? ?"), err
    code, out, _ = finish(start("list", "--json", **poor))
    assert "übergroß/漢字-instruct" in {model["model_key"] for model in json.loads(out)["models"]}


def test_a_terminal_is_not_driven_by_what_a_model_says(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    faulty.models["acme/tiny"].answer = "\x1b]0;owned\x07 \x1b[2Jtext\x00"
    cli("scan", "--quiet").ok()
    for words in (["--stream"], []):
        leader, follower = os.openpty()
        process = start("infer", "hi", "-m", "acme/tiny", *words, "--quiet", stdout=follower)
        assert finish(process)[0] == 0
        os.close(follower)
        shown = os.read(leader, 4096)
        os.close(leader)
        assert shown == b"?]0;owned? ?[2Jtext?\r\n"
    code, out, _ = finish(start("infer", "hi", "-m", "acme/tiny", "--quiet"))
    assert (code, out) == (0, faulty.models["acme/tiny"].answer + "\n")  # a file gets what was said


def test_colour_only_where_it_is_wanted(home: Path) -> None:
    fill(home, 3)

    def shown(*words: str, **environment: str) -> bytes:
        leader, follower = os.openpty()
        assert finish(start("list", *words, stdout=follower, environment=environment))[0] == 0
        os.close(follower)
        found = os.read(leader, 4096)
        os.close(leader)
        return found

    assert b"\x1b[1m" in shown()
    assert b"\x1b" not in shown(NO_COLOR="1")
    assert b"\x1b" not in shown("--no-color")
    assert "\x1b" not in finish(start("list"))[1]


def test_a_full_disk_leaves_the_registry_whole(cli: Callable[..., Ran], faulty: FaultyServer, home: Path) -> None:
    fill(home, 20)
    before = (home / "lmstrix.json").read_bytes()

    def little_room() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    code, out, err = finish(start("scan", preexec_fn=little_room))
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("lmstrix: ")
    assert "lmstrix.json" in err
    assert (home / "lmstrix.json").read_bytes() == before
    code, _, err = finish(start("test", "model-1", "--fast", "--quiet", preexec_fn=little_room))
    assert (code, len(err.splitlines())) == (1, 1), err
    assert faulty.instances == {}
    assert (home / "lmstrix.json").read_bytes() == before


def test_an_answer_counts_even_where_it_cannot_be_logged(
    cli: Callable[..., Ran], faulty: FaultyServer, home: Path
) -> None:
    cli("scan", "--quiet").ok()
    (home / "lmstrix.db").mkdir()
    ran = cli("infer", "hi", "-m", "acme/tiny").ok()
    assert ran.out == "The sum of two and three is five.\n"
    assert "not logged" in ran.err


def test_writers_at_once_lose_nothing(home: Path, cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    for key in ("a", "b", "c"):
        faulty.models[key] = FaultyModel(key=key, declared=2048)
    cli("scan", "--quiet").ok()
    cli("test", "--all", "--fast", "--quiet").ok()
    for process in [start("reset", key) for key in ("a", "b", "c")]:
        assert finish(process)[0] == 0
    statuses = {model["model_key"]: model["status"] for model in cli("list", "--json").ok().json["models"]}
    assert statuses == {"a": "untested", "b": "untested", "c": "untested", "acme/tiny": "completed"}


def test_kill_9_while_writing(home: Path, cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    fill(home, 500)
    for _ in range(4):
        faulty.models[f"new-{len(faulty.models)}"] = FaultyModel(key=f"new-{len(faulty.models)}")
        process = start("scan", "--quiet")
        while process.poll() is None and not any(home.glob(".lmstrix.json*")):
            time.sleep(0.001)
        process.kill()
        finish(process)
        assert len(cli("list", "--json").ok().json["models"]) >= 500


def test_an_engine_that_stops(cli: Callable[..., Ran], models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedEngine(models_dir) as engine:
        address = engine.address
        monkeypatch.setenv("LMSTRIX_SERVER", address)
        cli("scan", "--quiet").ok()
    cli("infer", "hi", "-m", SCRIPTED).failed(3, address, "refused")
    cli("test", TINY).failed(3, address, "refused")


def test_a_model_killed_while_it_answers(
    cli: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    (models / "acme/slow-GGUF").mkdir(parents=True)
    slow = scripted_model(context_length=65536, n_layers=4, feed_forward=4096)
    (models / "acme/slow-GGUF/slow-f16.gguf").symlink_to(slow)
    with EmbeddedEngine(models) as engine:
        monkeypatch.setenv("LMSTRIX_SERVER", engine.address)
        cli("scan", "--quiet").ok()
        process = start("infer", "Tell me a story", "-m", "slow", "--stream", "--quiet", "--in-ctx", "64k")
        assert process.stdout is not None
        assert process.stdout.read(10) == b"Once there"
        children = [child for child in psutil.Process().children() if child.pid != process.pid]
        for child in children:
            child.kill()
        code, _, err = finish(process)
        assert (code, len(err.splitlines())) == (1, 1), err
        assert "ended while predicting" in err
        cli("infer", "2+3=", "-m", "slow", "--quiet").ok()  # the engine itself lives


def test_without_a_home_nothing_but_doctor_is_needed(tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "no-such-home"), "LMSTRIX_SERVER": "embedded"}
    for words in (["doctor"], ["list"], ["--version"], ["engine", "status"]):
        process = start(*words, env=bare)
        code, out, err = finish(process)
        assert "Traceback" not in err
        assert code == 0, (out, err)
    assert not (tmp_path / "no-such-home").exists()
