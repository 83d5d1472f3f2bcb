"""An answer that is there is shown, whatever goes wrong afterwards; one that is not whole is told with the cause."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.types import Finished, GenerationResult, GenerationStats, TextDelta
from lmstrix.reports.answers import show_answer, show_stream
from lmstrix.reports.console import Console
from tests.cli.conftest import SCRIPTED
from tests.cli.processes import finish, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lmstrix import EmbeddedEngine
    from lmstrix.ground.types import StreamEvent
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

MODEL = "acme/tiny"
ANSWER = "The sum of two and three is five."


def tree(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def scanned(cli: Callable[..., Ran], faulty: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write to; the server has been scanned."""
    cli("scan", "--quiet").ok()
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.chdir(folder)
    faulty.seen.clear()
    return folder


@pytest.mark.parametrize(
    ("name", "part"), [("sub", "is a folder"), ("none/a.txt", "no folder"), ("x" * 300, "cannot be written")]
)
def test_a_file_that_cannot_be_written_is_told_before_the_model_is_asked(
    cli: Callable[..., Ran], faulty: FaultyServer, scanned: Path, name: str, part: str
) -> None:
    (scanned / "sub").mkdir()
    cli("infer", "hi", "-m", MODEL, "--save-response", name).failed(2, "--save-response", part)
    assert not faulty.seen
    assert tree(scanned) == ["sub"]


@pytest.mark.needs_posix("permission bits")
def test_permissions_are_found_before_the_model_is_asked(
    cli: Callable[..., Ran], faulty: FaultyServer, scanned: Path
) -> None:
    if os.geteuid() == 0:
        pytest.skip("permissions bind everybody but root")
    (scanned / "kept.txt").write_text("mine", encoding="utf-8")
    (scanned / "kept.txt").chmod(stat.S_IRUSR)
    cli("infer", "hi", "-m", MODEL, "--save-response", "kept.txt").failed(2, "permission denied")
    assert not faulty.seen


def test_the_check_leaves_what_is_there(cli: Callable[..., Ran], faulty: FaultyServer, scanned: Path) -> None:
    (scanned / "a.txt").write_text("earlier", encoding="utf-8")
    faulty.faults.predict = "crash after 2 words"
    assert cli("infer", "hi", "-m", MODEL, "--save-response", "a.txt", "--quiet").code == 1
    assert (scanned / "a.txt").read_text(encoding="utf-8") == "earlier"
    assert tree(scanned) == ["a.txt"]


def test_an_answer_that_cannot_be_saved_is_shown_and_fails(
    cli: Callable[..., Ran], faulty: FaultyServer, scanned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lmstrix.service.output_file.write_whole", full)
    for words, shown in (((), ANSWER), (("--stream",), ANSWER), (("--json",), ANSWER)):
        ran = cli("infer", "hi", "-m", MODEL, "--save-response", "a.txt", "--quiet", *words)
        assert ran.code == 1
        assert shown in ran.out
        assert ran.lines == ["lmstrix: a.txt cannot be written: No space left on device"]


def test_an_answer_of_another_shape_is_shown_and_fails(
    cli: Callable[..., Ran], faulty: FaultyServer, scanned: Path
) -> None:
    (scanned / "list.json").write_text(json.dumps({"type": "array"}), encoding="utf-8")
    (scanned / "good.json").write_text("[]", encoding="utf-8")
    words = ("infer", "hi", "-m", MODEL, "--schema", "list.json", "--save-response", "good.json", "--quiet")
    ran = cli(*words)
    assert (ran.code, ran.out, len(ran.lines)) == (1, ANSWER + "\n", 1)
    assert "is no JSON" in ran.err
    assert (scanned / "good.json").read_text(encoding="utf-8") == "[]"
    assert cli(*words, "--json").json["text"] == ANSWER


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_links_and_pipes_are_written_through(cli: Callable[..., Ran], faulty: FaultyServer, scanned: Path) -> None:
    (scanned / "real.txt").write_text("earlier", encoding="utf-8")
    (scanned / "link.txt").symlink_to("real.txt")
    cli("infer", "hi", "-m", MODEL, "--save-response", "link.txt", "--quiet").ok()
    assert (scanned / "link.txt").is_symlink()
    assert (scanned / "real.txt").read_text(encoding="utf-8") == ANSWER
    cli("infer", "hi", "-m", MODEL, "--save-response", os.devnull, "--quiet").ok()
    assert not os.path.isfile(os.devnull)  # noqa: PTH113 - a device by its name


@pytest.mark.needs_linux("a device that is always full")
def test_a_full_stdout_does_not_keep_the_answer_from_its_file(faulty: FaultyServer, scanned: Path) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        running = start("infer", "hi", "-m", MODEL, "--save-response", "a.txt", "--quiet", stdout=full)
        code, _, err = finish(running)
    assert (code, "cannot be written" in err) == (1, True)
    assert (scanned / "a.txt").read_text(encoding="utf-8") == ANSWER


@pytest.mark.parametrize("words", [(), ("--stream",)])
def test_infer_tells_what_cut_the_answer_short(
    cli: Callable[..., Ran], faulty: FaultyServer, scanned: Path, words: tuple[str, ...]
) -> None:
    ask = ("infer", "hi", "-m", MODEL, "--reload", *words)
    assert "cut off" not in cli(*ask).ok().err
    assert "at 2 tokens, the most that --max-tokens allows" in cli(*ask, "--out-ctx", "2").ok().err
    # Sent with all that is left as its limit, the server says that this limit was reached; nobody asked for one.
    told = cli(*ask, "--in-ctx", "5").ok().err
    assert "the context of 5 tokens is full" in told
    assert "--max-tokens" not in told
    assert (
        cli("infer", "hi", "-m", MODEL, "--reload", "--in-ctx", "5", "--json").ok().json["truncated_by"]
        == "context full"
    )


def test_chat_and_batch_tell_it_too(cli: Callable[..., Ran], faulty: FaultyServer, scanned: Path) -> None:
    ran = cli("chat", "-m", MODEL, "--out-ctx", "3", stdin=b"hello\n").ok()
    assert "at 3 tokens, the most that --max-tokens allows" in ran.err
    (scanned / "p.txt").write_text("hello", encoding="utf-8")
    words = ("batch", "--prompts", "p.txt", "--models", MODEL, "--out", "answers", "--out-ctx", "3")
    assert "1 answered, 1 cut off by --max-tokens" in cli(*words).ok().out
    (item,) = cli(*words, "--no-skip-existing", "--json").ok().json["items"]
    assert item["truncated_by"] == "max tokens"


def test_the_speed_shown_is_the_servers_own(cli: Callable[..., Ran], faulty: FaultyServer, scanned: Path) -> None:
    assert "50.0 tokens/s (the server's own figure)" in cli("infer", "hi", "-m", MODEL, "--verbose").ok().err
    assert cli("infer", "hi", "-m", MODEL, "--json").ok().json["server_decode_tokens_per_second"] == 50.0
    assert "50.0 tokens/s" in cli("chat", "-m", MODEL, stdin=b"hello\n/stats\n").ok().err


@pytest.mark.parametrize("live", [True, False])
def test_an_answer_is_there_before_its_stream_is_left(capsys: pytest.CaptureFixture[str], live: bool) -> None:
    """Leaving a stream may unload a model, which takes long enough to be interrupted."""
    result = GenerationResult(
        text=ANSWER, stats=GenerationStats(stop_reason="eosFound"), model_key="m", instance_id="i"
    )
    console = Console()

    def events() -> Iterator[StreamEvent]:
        try:
            yield TextDelta(text=ANSWER)
            yield Finished(result=result)
        finally:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show_stream(console, events(), live=live, ended=lambda found: show_answer(console, found, streamed=live))
    assert capsys.readouterr().out == ANSWER + "\n"


@pytest.mark.slow
def test_what_the_context_cut_short_is_not_cached(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    words = ("infer", "a story", "-m", SCRIPTED, "--cache", "--quiet", "--json", "--in-ctx")
    cut = cli(*words, "256").ok().json
    assert cut["truncated_by"] == "context full"
    assert cli(*words, "1024").ok().json["completion_tokens"] > cut["completion_tokens"]
