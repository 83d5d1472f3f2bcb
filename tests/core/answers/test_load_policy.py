"""Which context is loaded, and when a loaded instance serves: tables."""

from __future__ import annotations

import pytest

from lmstrix.core.answers.load_policy import Load, Reuse, choose_context, decide, output_limit
from lmstrix.ground.errors import ContextOverflowError
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.types import LoadedModel


def loaded(instance_id: str, context_length: int, model_key: str = "m", queued: int = 0) -> LoadedModel:
    return LoadedModel(
        instance_id=instance_id,
        instance_reference=f"r-{instance_id}",
        model_key=model_key,
        kind="llm",
        path="p",
        context_length=context_length,
        max_context_length=32768,
        queued=queued,
    )


@pytest.mark.parametrize(
    ("asked", "tested", "needed", "expected", "source"),
    [
        (None, 9000, 0, 9000, "tested"),
        (None, None, 0, 4096, "untested"),
        (None, None, 6000, 6144, "untested"),
        (None, None, 90000, 32768, "untested"),
        (0, 9000, 0, None, "server default"),
        (2048, 9000, 0, 2048, "asked"),
        (0.5, 9000, 0, 4500, "asked"),
        (0.5, None, 0, 16384, "asked"),
    ],
)
def test_the_context_chosen(
    asked: float | None, tested: int | None, needed: int, expected: int | None, source: str
) -> None:
    choice = choose_context(asked, declared=32768, tested=tested, needed_tokens=needed)
    assert (choice.context_length, choice.source) == (expected, source)


@pytest.mark.parametrize(
    ("needed", "expected", "source"),
    [(0, 2048, "tested so far"), (2048, 2048, "tested so far"), (9000, 9216, "untested")],
)
def test_a_length_that_is_no_limit_serves_what_it_holds(needed: int, expected: int, source: str) -> None:
    choice = choose_context(None, declared=32768, tested=2048, tested_is_limit=False, needed_tokens=needed)
    assert (choice.context_length, choice.source) == (expected, source)


def test_more_than_declared_is_refused() -> None:
    with pytest.raises(ContextOverflowError, match="declares 32,768"):
        choose_context(40000, declared=32768, tested=None)


@pytest.mark.parametrize(
    ("wanted", "instances", "reused"),
    [
        (LoadConfig(context_length=4096), [], None),
        (LoadConfig(context_length=4096), [loaded("a", 2048)], None),
        (LoadConfig(context_length=4096), [loaded("a", 4096)], "a"),
        (LoadConfig(context_length=4096), [loaded("a", 16384), loaded("b", 8192)], "b"),
        (LoadConfig(context_length=4096), [loaded("a", 8192, model_key="other")], None),
        (LoadConfig(context_length=4096, k_cache_type="q8_0"), [loaded("a", 8192)], None),
        (LoadConfig(context_length=4096), [loaded("lmstrix-test-1-1", 8192)], None),
        (LoadConfig(context_length=None), [loaded("a", 2048)], "a"),
    ],
)
def test_a_loaded_instance_serves_only_if_its_own_context_does(
    wanted: LoadConfig, instances: list[LoadedModel], reused: str | None
) -> None:
    decision = decide(wanted, instances, model_key="m", own_prefix="lmstrix-infer-")
    assert (decision.instance.instance_id if isinstance(decision, Reuse) else None) == reused


def test_reload_loads_and_replaces_only_ours() -> None:
    instances = [loaded("user", 8192), loaded("lmstrix-infer-1-1", 8192)]
    decision = decide(
        LoadConfig(context_length=4096), instances, model_key="m", own_prefix="lmstrix-infer-", reload=True
    )
    assert isinstance(decision, Load)
    assert [instance.instance_id for instance in decision.replaces] == ["lmstrix-infer-1-1"]


@pytest.mark.parametrize(("asked", "limit"), [(None, 900), (100, 100), (0.5, 500)])
def test_the_output_limit(asked: float | None, limit: int) -> None:
    assert output_limit(asked, context_length=1000, prompt_tokens=100) == limit


@pytest.mark.parametrize(("asked", "prompt"), [(None, 1000), (None, 5000), (950, 100), (0.95, 100)])
def test_what_cannot_fit_is_refused_with_three_ways_out(asked: float | None, prompt: int) -> None:
    with pytest.raises(ContextOverflowError) as caught:
        output_limit(asked, context_length=1000, prompt_tokens=prompt)
    for way in ("`context_length`", "`max_tokens`", "shorten"):
        assert way in str(caught.value)
    assert (caught.value.prompt_tokens, caught.value.context_length) == (prompt, 1000)


SPECIAL = LoadConfig(context_length=2048, threads=2)


@pytest.mark.parametrize(
    ("known", "serves"),
    [
        ({}, False),
        ({"lmstrix-infer-1": SPECIAL}, True),
        ({"lmstrix-infer-1": LoadConfig(context_length=4096, threads=2)}, True),
        ({"lmstrix-infer-1": LoadConfig(context_length=4096, threads=3)}, False),
        ({"another": SPECIAL}, False),
    ],
)
def test_an_instance_known_to_be_loaded_so_serves(known: dict[str, LoadConfig], serves: bool) -> None:
    instances = [loaded("lmstrix-infer-1", 4096)]
    decision = decide(SPECIAL, instances, model_key="m", own_prefix="lmstrix-infer-", loaded_as=known)
    assert isinstance(decision, Reuse) is serves
