"""`get`: LM Studio downloads, by the shapes of its documentation; the embedded engine says what to do instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstrix.reports.downloads import DownloadLine
from lmstrix.service import getting
from tests.support.faulty_server import FaultyModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix import EmbeddedEngine
    from lmstrix.ground.downloads import Download
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

SHAPES = json.loads((Path(__file__).parent.parent / "data" / "lmstudio_downloads.json").read_text("utf-8"))
START = "/api/v1/models/download"
STATUS = f"{START}/status/job_493c7c9ded"
MODEL = "ibm/granite-4-micro"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getting, "_POLL_S", 0.01)


def replies(*names: str) -> list[tuple[int, str]]:
    return [(200, json.dumps(SHAPES[name])) for name in names]


def test_it_is_followed_to_its_end_and_taken_in(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    faulty.replies = {START: replies("started"), STATUS: replies("started", "paused", "completed")}
    cli("scan").ok()
    faulty.models[MODEL] = FaultyModel(key=MODEL)
    ran = cli("get", MODEL).ok()
    assert faulty.posted == [(START, {"model": MODEL})]
    assert ran.out.splitlines()[0] == f"{MODEL} is there 2.12 GiB"
    assert ran.out.splitlines()[1].startswith("new: ")
    assert "LM Studio downloads 2.12 GiB (job job_493c7c9ded)" in ran.err
    assert "the download is paused" in ran.err
    assert MODEL in cli("list", "--show", "id").ok().out


def test_json_says_what_the_server_told(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    faulty.replies = {START: replies("started"), STATUS: replies("completed")}
    told = cli("get", MODEL, "--json").ok().json
    assert (told["schema"], told["status"], told["job_id"]) == ("lmstrix.get/1", "completed", "job_493c7c9ded")
    assert told["downloaded_bytes"] == told["total_bytes"] == 2279145003


def test_what_is_there_already_is_said_to_be(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    faulty.replies = {START: replies("already_downloaded")}
    assert cli("get", MODEL).ok().out.splitlines()[0] == f"{MODEL} was there already"


def test_a_page_of_hugging_face_may_be_asked_for_a_quantization(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    faulty.replies = {START: replies("already_downloaded")}
    page = "https://huggingface.co/lmstudio-community/gpt-oss-20b-GGUF"
    cli("get", page, "--quant", "MXFP4").ok()
    assert faulty.posted == [(START, {"model": page, "quantization": "MXFP4"})]
    cli("get", MODEL, "--quant", "Q4_K_M").failed(2, "--quant", "huggingface.co")
    cli("get").failed(2, "which model?", "--job")
    cli("get", MODEL, "--job", "job_1").failed(2, "which model?")


def test_a_download_that_was_left_is_followed_again(
    cli: Callable[..., Ran], faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty.replies = {START: replies("started"), STATUS: replies("started")}
    show = DownloadLine.show

    def interrupted(line: DownloadLine, download: Download) -> None:
        show(line, download)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(DownloadLine, "show", interrupted)
        ran = cli("get", MODEL)
    assert ran.code == 130
    assert "LM Studio goes on downloading; lmstrix get --job job_493c7c9ded follows it" in ran.err
    faulty.replies[STATUS] = replies("completed")
    assert "is there" in cli("get", "--job", "job_493c7c9ded").ok().out
    assert len(faulty.posted) == 1


@pytest.mark.parametrize(
    ("started", "status", "code", "parts"),
    [
        ((200, '{"error":"Unexpected endpoint or method. (POST /x)"}'), None, 1, ("too old", "lms get")),
        ((404, '{"error":{"type":"not_found","message":"no such model"}}'), None, 3, ("no such model", MODEL)),
        ((401, "{}"), None, 1, ("API token", "LM_API_TOKEN")),
        ((200, "<html>"), None, 3, ("not JSON",)),
        (None, (200, json.dumps(SHAPES["failed"])), 1, ("failed to download", "Downloads window")),
        (None, (200, "[]"), 3, ("job_493c7c9ded",)),
    ],
)
def test_what_fails_is_told_in_one_line(
    cli: Callable[..., Ran],
    faulty: FaultyServer,
    started: tuple[int, str] | None,
    status: tuple[int, str] | None,
    code: int,
    parts: tuple[str, ...],
) -> None:
    faulty.replies = {START: [started] if started else replies("started"), STATUS: [status] if status else []}
    cli("get", MODEL, "--quiet").failed(code, *parts)


def test_the_embedded_engine_says_what_to_do_instead(
    cli: Callable[..., Ran], engine: EmbeddedEngine, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ("downloads no models", str(models_dir), "lmstrix scan", "lmstrix registry add FILE")
    cli("get", MODEL).failed(1, *wanted)
    monkeypatch.setenv("LMSTRIX_SERVER", "embedded")
    cli("get", MODEL).failed(1, *wanted)
