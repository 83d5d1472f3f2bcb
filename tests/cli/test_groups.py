"""Models that share a tag are a group: commands that take several models take tag:NAME for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import lmstrix
from lmstrix.ground.errors import ModelNotFoundError
from tests.cli.conftest import EMBEDDING, SCRIPTED, TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran


@pytest.fixture
def group(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "--quiet").ok()
    for model in (TINY, SCRIPTED, EMBEDDING):
        cli("registry", "tag", model, "work").ok()


@pytest.mark.usefixtures("group")
def test_a_test_takes_those_that_are_due(cli: Callable[..., Ran]) -> None:
    def planned(*words: str) -> list[str]:
        models = cli("test", *words, "--dry-run", "--json").ok().json["models"]
        return sorted(model["model_key"] for model in models)

    assert planned("tag:work") == sorted([TINY, SCRIPTED])
    cli("registry", "untag", TINY, "work").ok()
    assert planned("tag:Work") == [SCRIPTED]
    report = cli("test", "tag:work", "--threshold", "512", "--fast", "--json").ok().json
    assert [model["model_key"] for model in report["models"] if not model.get("skipped")] == [SCRIPTED]
    cli("test", "tag:nothing", "--dry-run").failed(1, "no model has the tag 'nothing' (the tags that you gave: work)")
    cli("test", "tag:work", "--all").failed(2, "MODEL or --all")


@pytest.mark.usefixtures("group")
def test_a_group_is_no_single_model(cli: Callable[..., Ran]) -> None:
    cli("estimate", "tag:work").failed(1, "may mean 3 models", "take all of tag:work")
    cli("test", "work", "--dry-run").failed(1, "take all of tag:work")


@pytest.mark.usefixtures("group")
def test_a_batch_asks_all_that_answer(cli: Callable[..., Ran], tmp_path: Path) -> None:
    prompt = tmp_path / "sum.txt"
    prompt.write_text("2+3=", encoding="utf-8")
    words = ("batch", "--prompts", str(prompt), "--out", str(tmp_path / "out"), "--max-tokens", "2", "--json")
    items = cli(*words, "--models", "tag:work").ok().json["items"]
    assert sorted(item["model_key"] for item in items) == sorted([TINY, SCRIPTED])
    cli(*words, "--models", EMBEDDING).failed(2, "is an embedding model")


@pytest.mark.usefixtures("group")
def test_python_plans_a_group(home: Path, engine: EmbeddedEngine) -> None:
    with lmstrix.LMStrix(home=home, server=engine.address) as lms:
        assert sorted(plan.record.model_key for plan in lms.plan_tests(tag="work")) == sorted([TINY, SCRIPTED])
        with pytest.raises(ModelNotFoundError, match="no model has the tag 'nothing'"):
            lms.test_all(tag="nothing")
