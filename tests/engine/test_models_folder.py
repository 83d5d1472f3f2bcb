"""An engine over a models folder that is full of traps, and over files that change under it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import httpx
import pytest

from lmstrix.engine import EmbeddedEngine
from tests.engine.pools import put
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs_posix("links, pipes and cut files are POSIX")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    put(folder, scripted_model())
    return folder


@pytest.fixture
def client(models: Path) -> Iterator[httpx.Client]:
    with EmbeddedEngine(models) as engine, httpx.Client(base_url=f"http://{engine.address}", timeout=60) as client:
        yield client


def listed(client: httpx.Client) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").raise_for_status().json()["data"]]


def completed(client: httpx.Client, model: str) -> int:
    return client.post("/v1/completions", json={"model": model, "prompt": "2+3=", "max_tokens": 4}).status_code


def test_traps_that_appear_while_it_runs_hide_no_model(models: Path, client: httpx.Client) -> None:
    assert listed(client) == ["scripted"]
    folder = models / "acme" / "traps"
    folder.mkdir()
    (folder / "self.gguf").symlink_to("self.gguf")
    (folder / "self").symlink_to("self")
    (folder / "up").symlink_to(models)
    os.mkfifo(folder / "pipe.gguf")
    (folder / "device.gguf").symlink_to("/dev/zero")
    (folder / "cut.gguf").write_bytes(scripted_model().read_bytes()[:500])
    (folder / os.fsdecode(b"bytes-\xff.gguf")).write_bytes(b"GGUF")
    for number in range(1000):
        (folder / f"{number}.gguf").write_bytes(b"GGUF")
    assert listed(client) == ["scripted"]
    assert completed(client, "scripted") == 200


def test_a_model_whose_file_is_cut_takes_only_its_own_process_down(models: Path, client: httpx.Client) -> None:
    file = put(models, tiny_model("llama", context_length=2048), "acme/victim-GGUF/victim-f16.gguf")
    assert completed(client, "scripted") == 200
    assert completed(client, "victim") == 200
    # llama.cpp maps the file and meets its end in the middle of the next answer.
    os.truncate(file, 4096)
    assert completed(client, "victim") >= 400
    assert completed(client, "scripted") == 200
    file.unlink()
    shutil.copy(tiny_model("llama", context_length=2048), file)
    assert completed(client, "victim") == 200
