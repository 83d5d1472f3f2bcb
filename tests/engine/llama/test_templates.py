"""Chat templates that go on and on: those of requests, and those of models."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama import templates
from lmstrix.engine.llama.templates import TemplateLimits, rendered
from lmstrix.engine.records import LoadSettings
from tests.engine.pools import SCRIPTED, asking, collect, put, running_pool, scripted_models, text_of, user
from tests.support.tiny_gguf import TinyShape, write_tiny

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from lmstrix.engine.pool import InstancePool

pytestmark = pytest.mark.slow

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
DOUBLING = (
    "{% set ns = namespace(x='abcdefgh') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}"
)
ON_A_WORD = "{% if 'boom' in messages[-1].content %}HOSTILE{% endif %}{{ messages[-1].content }}"


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[InstancePool]:
    async with running_pool(scripted_models(tmp_path / "models")) as pool:
        yield pool


class TestOfRequests:
    async def test_it_is_rendered(self) -> None:
        text = await rendered("{% for m in messages %}<{{ m.role }}>{% endfor %}", {"messages": [{"role": "user"}] * 3})
        assert text == "<user><user><user>"

    @pytest.mark.parametrize(
        ("template", "why"),
        [
            (LOOP, "fuel"),
            (DOUBLING, "more than 512 MiB, which is the limit"),
            ("{{ 'abcdefgh' * 1000000000 }}", "too large"),
            ("{% for a in range(99999) %}{{ x }}{% endfor %}", "more than 512 MiB"),
            ("{% if %}", "syntax error"),
        ],
    )
    async def test_without_end_it_is_refused(self, template: str, why: str) -> None:
        with pytest.raises(EngineFault, match="jinja") as caught:
            await rendered(template, {"x": "y" * 100_000})
        assert caught.value.kind == "invalid"
        assert why in (caught.value.cause or "")

    async def test_others_are_answered_meanwhile(self, pool: InstancePool) -> None:
        instance = await pool.load(SCRIPTED, LoadSettings(context_length=512), kind="llm")
        hostile = [
            asyncio.create_task(instance.model.apply_template([user("hi")], prompt_template=template))
            for template in (LOOP, DOUBLING) * 2
        ]
        assert text_of(await collect(instance.predict(asking("2+3=")))) == "5"
        failures = await asyncio.gather(*hostile, return_exceptions=True)
        assert all(isinstance(failure, EngineFault) for failure in failures)
        assert text_of(await collect(instance.predict(asking("2+3=")))) == "5"


class TestOfModels:
    """llama.cpp renders these in the model's process, which is ended; other models do not notice."""

    @pytest.fixture(
        params=[
            (LOOP, TemplateLimits(own_s=2), "did not end within 2 s"),
            (DOUBLING, TemplateLimits(own_growth_bytes=32 * 2**20, poll_s=0.02), "took more than 32 MiB"),
        ],
        ids=["loop", "doubling"],
    )
    def case(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
        """A hostile template, and what is said of it under limits that a test can wait for."""
        hostile, limits, why = request.param
        monkeypatch.setattr(templates, "LIMITS", limits)
        return hostile, why

    async def test_one_that_is_hostile_at_once_does_not_load(
        self, tmp_path: Path, pool: InstancePool, case: tuple[str, str]
    ) -> None:
        hostile, why = case
        add_model(pool, tmp_path, hostile)
        with pytest.raises(EngineFault, match=f"chat template of .*{why}") as caught:
            await pool.load("hostile", LoadSettings(), kind="llm")
        assert caught.value.kind == "load_failed"
        assert pool.list_loaded() == []

    async def test_one_that_waits_for_a_word_is_ended(
        self, tmp_path: Path, pool: InstancePool, case: tuple[str, str]
    ) -> None:
        hostile, why = case
        add_model(pool, tmp_path, ON_A_WORD.replace("HOSTILE", hostile))
        other = await pool.load(SCRIPTED, LoadSettings(context_length=512), kind="llm")
        instance = await pool.load("hostile", LoadSettings(), kind="llm")
        assert await instance.model.apply_template([user("calm")]) == "calm"
        with pytest.raises(EngineFault, match=f"chat template of hostile {why}, so the model was ended") as caught:
            await collect(instance.predict(asking("boom")))
        assert caught.value.kind == "crashed"
        async with asyncio.timeout(30):
            while instance in pool.list_loaded():
                await asyncio.sleep(0.01)
        assert text_of(await collect(other.predict(asking("2+3=")))) == "5"


def add_model(pool: InstancePool, folder: Path, template: str) -> None:
    """A tiny model with this chat template, found by the pool."""
    file = folder / "hostile.gguf"
    write_tiny(file, "llama", TinyShape(n_layers=1), chat_template=template)
    put(folder / "models", file, "acme/hostile-GGUF/hostile-f16.gguf")
    pool.catalog.rescan()
