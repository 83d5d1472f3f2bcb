"""Templates in the Python API: prompts filled with variables, and prompts of a file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lmstrix import AsyncLMStrix, EmbeddedEngine, LMStrix, PromptError, SettingsError, UsageError
from tests.support.model_files import put_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    target = put_model(tmp_path_factory.mktemp("template-models"), "scripted", scripted_model())
    with EmbeddedEngine(target.parents[2]) as running:
        yield running


def test_a_prompt_with_variables(engine: EmbeddedEngine) -> None:
    terms = [{"n": 2}, {"n": 3}]
    sum_of = "{% for term in terms %}{{ term.n }}{% if not loop.last %}+{% endif %}{% endfor %}="
    with LMStrix(server=engine.address) as lms:
        assert lms.infer(sum_of, "scripted", variables={"terms": terms}).text == "5"
        assert "".join(lms.stream("{{a}}+{{b}}=", "scripted", variables={"a": 2, "b": 3})) == "5"
        with pytest.raises(PromptError, match="needs b"):
            lms.infer("{{a}}+{{b}}=", "scripted", variables={"a": 2})
        with pytest.raises(UsageError, match="does not ask for c"):
            lms.infer("{{a}}+3=", "scripted", variables={"a": 2, "c": 3})


def test_a_prompt_of_a_file(engine: EmbeddedEngine, tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[sum]\nprompt = "{{a}}+3="\nsystem_prompt = "Be brief."\n')

    async def ask() -> str:
        async with AsyncLMStrix(server=engine.address) as lms:
            return (await lms.infer("sum", "scripted", prompt_file=file, variables={"a": 2})).text

    assert asyncio.run(ask()) == "5"
    with LMStrix(server=engine.address) as lms:
        assert lms.infer(model="scripted", prompt_file=str(file), variables={"a": 2}).text == "5"
        with pytest.raises(PromptError, match="no prompt 'sun': did you mean sum"):
            lms.infer("sun", "scripted", prompt_file=file)


def test_a_folder_that_is_not_trusted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lmstrix.toml").write_text('server = "http://far.example"\n')
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    LMStrix(notify=said.append).close()
    assert "server left out" in said[0]
    with pytest.warns(UserWarning, match="lmstrix trust"):
        LMStrix().close()
    (tmp_path / ".lmstrix.toml").write_text("timeout_s = [\n")
    with pytest.raises(SettingsError):
        LMStrix()
