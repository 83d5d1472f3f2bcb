"""Images and texts from stdin and from web addresses."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder
from tests.support.pictures import BLUE, RED, jpeg, png
from tests.support.tiny_gguf_vision import COLOUR_QUESTION, SEEING, SIGHTS
from tests.support.web import Page, Web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ran


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        server.pages["/red"] = Page(body=png(RED), headers={"Content-Type": "text/plain"})
        server.pages["/notes.txt"] = Page(body="Grüße".encode())
        server.pages["/page.pdf"] = Page(body=b"%PDF-1.7")
        yield server


@pytest.fixture
def images(home: Path) -> Callable[[], list[str]]:
    """The names of the images that are kept."""
    folder = own_folder(home) / "attachments"
    return lambda: sorted(file.name for file in folder.iterdir()) if folder.exists() else []


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from lmstrix import EmbeddedEngine
    from tests.support.tiny_gguf_vision import put_seeing_and_blind

    with EmbeddedEngine(put_seeing_and_blind(tmp_path_factory.mktemp("models")), memory_limit=2**30) as engine:
        yield engine.address


def test_texts_from_stdin_and_the_web(cli: Callable[..., Ran], web: Web) -> None:
    notes = f"{web.address}/notes.txt"
    words = ("infer", "Sum up:", "--dry-run")
    assert cli(*words, "--text-file", "-", stdin=b"T").ok().out == "Sum up:\n\nT"
    assert cli(*words, "--context-file", "-", stdin=b"T").ok().out == "T\n\nSum up:"
    assert cli(*words, "--text-file", notes).ok().out == "Sum up:\n\nGrüße"
    found = cli(*words, "-f", notes, "-f", notes, "--text-file", "-", stdin=b"T").ok()
    assert found.out == "Grüße\n\nGrüße\n\nSum up:\n\nT"
    assert len(web.asked) == 2, "an address is asked once for a command"


def test_no_address_is_fetched_because_it_stands_in_a_prompt(cli: Callable[..., Ran], web: Web) -> None:
    notes = f"{web.address}/notes.txt"
    assert cli("infer", notes, "--text", notes, "--dry-run", stdin=notes.encode()).code == 2
    assert cli("infer", notes, "--text", notes, "--dry-run").ok().out == f"{notes}\n\n{notes}"
    assert web.asked == []


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--image", "-", "--stdin"], 2, "stdin can be read once, and --image - and --stdin want it"),
        (["--image", "-", "-f", "-"], 2, "--image - and --context-file - want it"),
        (["--text-file", "-", "--no-stdin"], 2, "give --text-file - or --no-stdin, not both"),
        (["--image", "-"], 2, "stdin is no image; give a PNG or JPEG"),
        (["--image", "WEB/notes.txt"], 2, "/notes.txt is no image; give a PNG or JPEG"),
        (["--image", "WEB/gone"], 1, "/gone answers 404 Not Found; check the address"),
        (["--text-file", "WEB/page.pdf"], 1, "/page.pdf is a PDF, not UTF-8 text"),
        (["--text-file", "http://"], 2, "is no http or https address"),
    ],
)
def test_what_is_wrong_is_one_line(
    cli: Callable[..., Ran], web: Web, images: Callable[[], list[str]], words: list[str], code: int, told: str
) -> None:
    given = [word.replace("WEB", web.address) for word in words]
    cli("infer", "hi", "-m", "any", *given, stdin=b"no picture").failed(code, told)
    assert images() == []


def test_the_model_sees_images_from_stdin_and_the_web(
    cli: Callable[..., Ran], web: Web, seeing: str, images: Callable[[], list[str]], home: Path
) -> None:
    ask = ("infer", COLOUR_QUESTION, "-m", SEEING, "--server", seeing, "--quiet")
    assert cli(*ask, "--image", "-", stdin=jpeg(BLUE)).ok().out == f"{SIGHTS['blue']}\n"
    assert cli(*ask, "--image", f"{web.address}/red").ok().out == f"{SIGHTS['red']}\n"
    assert [name.rpartition(".")[2] for name in images()] in (["jpeg", "png"], ["png", "jpeg"])

    # The conversation shows it again, though its source may be gone.
    web.pages.clear()
    assert cli("infer", "And again?", "-c", "-m", SEEING, "--server", seeing, "--quiet").ok()

    # An image goes with its conversation, unless another one shows it too.
    last = own_folder(home) / "conversations" / "infer.json"
    other = last.with_name("other.json")
    other.write_bytes(last.read_bytes())
    kept = images()
    cli("conversations", "delete", "other", "--yes").ok()
    assert images() == kept
    cli("conversations", "delete", "infer", "--yes").ok()
    assert len(images()) == 1

    # What no conversation shows any more goes with the next one, when no command can be using it.
    folder = own_folder(home) / "attachments"
    before = time.time() - 2 * 24 * 3600
    for file in folder.iterdir():
        os.utime(file, (before, before))
    cli(*ask, "--image", "-", stdin=jpeg(RED)).ok()
    assert [name.rpartition(".")[2] for name in images()] == ["jpeg"]


@pytest.mark.parametrize("word", ["--no-log", "-n"])
def test_nothing_stays_where_nothing_may(
    cli: Callable[..., Ran],
    seeing: str,
    images: Callable[[], list[str]],
    tmp_path: Path,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ask = ("infer", COLOUR_QUESTION, "-m", SEEING, "--server", seeing, "--quiet", "--image", "-")
    assert cli(*ask, word, stdin=png(RED)).ok().out == f"{SIGHTS['red']}\n"
    assert images() == []
    assert [path for path in tmp_path.rglob("*") if path.suffix == ".png"] == []


def test_files_and_folders_may_be_named_from_the_home_directory(
    cli: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell leaves the ~ of --image=~/x.png as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for words, named in (
        (["infer", "look", "--dry-run", "--image=~/none.png"], f"no image at {tmp_path / 'none.png'}"),
        (["scan", "--models-dir=~/none"], f"{tmp_path / 'none'} is not a directory"),
    ):
        assert named in cli(*words).err
