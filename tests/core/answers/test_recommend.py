"""Recommendations: what a wish rules out, and how the rest is ranked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.answers.recommend import Candidate, Wish, billions_of, recommend

if TYPE_CHECKING:
    from lmstrix.ground.choices import Preference

GIB = 2**30


def model(key: str, gib: float, *, params: str | None = None, **facts: object) -> Candidate:
    plain = Candidate(
        model_key=key,
        size_bytes=int(gib * GIB),
        memory_bytes=int((gib + 1) * GIB),
        params=params,
        bits=4,
        max_context_length=32768,
    )
    return replace(plain, **facts)  # type: ignore[arg-type]


SMALL = model("small-1b", 0.7, params="1B", tested_context_length=32768)
MIDDLE = model("middle-8b", 5, params="8B", tested_context_length=16384)
LARGE = model("large-70b", 40, params="70B", tested_context_length=8192)
CODER = model("qwen-coder-7b", 4.5, params="7B", tested_context_length=16384)
EMBED = model("embed", 0.1, kind="embedding")
FLEET = [SMALL, MIDDLE, LARGE, CODER, EMBED]


def best(*models: Candidate, **wish: object) -> str:
    return recommend(models or FLEET, Wish(**wish)).ranked[0].candidate.model_key  # type: ignore[arg-type]


def test_speed_picks_the_small_and_quality_the_large() -> None:
    assert best(prefer="speed") == "small-1b"
    assert best(prefer="quality") == "large-70b"


def test_code_picks_a_model_made_for_it() -> None:
    assert best(SMALL, MIDDLE, CODER, task="code") == "qwen-coder-7b"


def test_a_logged_speed_outweighs_the_size() -> None:
    slow = replace(SMALL, decode_tokens_per_second=2.0)
    fast = replace(MIDDLE, decode_tokens_per_second=90.0)
    advice = recommend([slow, fast], Wish(prefer="speed"))
    assert [item.candidate.model_key for item in advice.ranked] == ["middle-8b", "small-1b"]
    assert advice.ranked[0].speed_measured
    assert advice.ranked[0].decode_tokens_per_second == 90.0


@pytest.mark.parametrize(
    ("candidate", "wish", "why"),
    [
        (EMBED, Wish(), "embeddings only"),
        (SMALL, Wish(task="embedding"), "makes no embeddings"),
        (SMALL, Wish(task="vision"), "takes no images"),
        (SMALL, Wish(task="tools"), "not trained to call tools"),
        (LARGE, Wish(min_context_length=9000), "8,192 tokens of context (proven)"),
        (model("new", 1), Wish(min_context_length=99999), "32,768 tokens of context (declared)"),
        (LARGE, Wish(max_memory_bytes=8 * GIB), "more than 8.00 GiB"),
        (LARGE, Wish(budget_bytes=8 * GIB), "more than the 8.00 GiB that are there"),
        (model("broken", 1, test_failed=True), Wish(), "failed its context test"),
    ],
)
def test_what_cannot_serve_is_ruled_out_with_its_reason(candidate: Candidate, wish: Wish, why: str) -> None:
    advice = recommend([candidate], wish)
    assert advice.ranked == ()
    assert why in advice.obstacles


def test_what_is_loaded_needs_no_more_memory() -> None:
    advice = recommend([replace(LARGE, is_loaded=True)], Wish(budget_bytes=GIB), budget_source="this machine")
    (item,) = advice.ranked
    assert "loaded now" in item.reasons
    assert (advice.budget_bytes, advice.budget_source) == (GIB, "this machine")


def test_no_models_at_all() -> None:
    assert recommend([], Wish()).obstacles == "there are no models yet"


@pytest.mark.parametrize(
    ("text", "billions"),
    [("8B", 8.0), ("30B-A3B", 30.0), ("270M", 0.27), ("1.5b", 1.5), (None, None), ("big", None)],
)
def test_parameter_counts(text: str | None, billions: float | None) -> None:
    assert billions_of(text) == billions


candidates = st.lists(
    st.builds(
        Candidate,
        model_key=st.text(min_size=1, max_size=8),
        size_bytes=st.integers(0, 2**40),
        memory_bytes=st.integers(0, 2**41),
        bits=st.none() | st.integers(1, 32),
        params=st.sampled_from([None, "8B", "0.5B", "0B"]),
        tested_context_length=st.none() | st.integers(1, 2**20),
        max_context_length=st.none() | st.integers(1, 2**20),
        decode_tokens_per_second=st.none() | st.floats(0.01, 1e4),
    ),
    max_size=8,
)


@given(candidates, st.sampled_from(["speed", "balanced", "quality"]), st.integers(1, 2**41))
def test_every_model_is_ranked_or_ruled_out(models: list[Candidate], prefer: Preference, limit: int) -> None:
    advice = recommend(models, Wish(prefer=prefer, max_memory_bytes=limit))
    assert len(advice.ranked) + len(advice.ruled_out) == len(models)
    assert all(item.candidate.memory_bytes <= limit for item in advice.ranked)
    scores = [item.score for item in advice.ranked]
    assert scores == sorted(scores, reverse=True)
