"""The public names: all there, none costly, typed; and the Python API on the real engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import lmstrix
from lmstrix import AsyncLMStrix, EmbeddedEngine, LMStrix, ModelNotFoundError
from tests.support.model_files import put_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    folder = tmp_path_factory.mktemp("models")
    put_model(folder, "echo", scripted_model())
    with EmbeddedEngine(folder) as running:
        yield running


def test_every_public_name_is_there() -> None:
    for name in lmstrix.__all__:
        assert getattr(lmstrix, name) is not None
    assert set(lmstrix.__all__) <= set(dir(lmstrix))
    with pytest.raises(AttributeError, match="nonsense"):
        lmstrix.nonsense  # noqa: B018 - the access is the test


def test_importing_lmstrix_imports_no_sdk() -> None:
    code = "import sys, lmstrix; print([m for m in ('lmstudio', 'aiohttp', 'rich', 'asyncio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_readme_example(engine: EmbeddedEngine, home: Path) -> None:
    with LMStrix(server=engine.address) as lms:
        assert lms.scan().models == 1
        assert [model.model_key for model in lms.list_models()] == ["echo"]
        outcome = lms.test_model("echo", fast=True)
        assert outcome.result.tested_context_length == lms.list_models()[0].tested_context_length == 4096
        answer = lms.infer("2+3=", model="echo", ttl_s=0)
        assert answer.text == "5"
        assert answer["succeeded"] is True
        assert answer["response"] == "5"
        assert answer["tokens_used"] == answer.stats.total_tokens
        assert answer["inference_time"] == answer.stats.total_s
        assert "".join(lms.stream("2+3=", ttl_s=0)) == "5"
        assert lms.estimate("echo").fits
        assert lms.ps() == []
        loaded = lms.load("echo", 1024)
        assert loaded.context_length == 1024
        assert [model.instance_id for model in lms.ps()] == [loaded.instance_id]
        lms.unload()
        with pytest.raises(ModelNotFoundError, match="echo"):
            lms.infer("hi", model="ecko")
    assert (home / "lmstrix.json").exists()


async def test_many_answers_at_once(engine: EmbeddedEngine) -> None:
    async with AsyncLMStrix(server=engine.address) as lms:
        await lms.scan()
        await lms.load("echo", 2048)
        answers = await asyncio.gather(*(lms.infer("2+3=", model="echo") for _ in range(20)))
        assert {answer.text for answer in answers} == {"5"}
        assert "".join([piece async for piece in lms.stream("2+3=", model="echo")]) == "5"
        await lms.unload()
        assert await lms.ps() == []
