"""Prompts: never the same twice from the first character on, and of the length in tokens that was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstrix.core.benchmark.prompts import TASKS, PromptWriter, nonce
from lmstrix.core.benchmark.records import BenchRequest


def test_nonces_differ_from_the_start() -> None:
    nonces = {nonce() for _ in range(500)}
    assert len(nonces) == 500
    assert len({text[0] for text in nonces}) > 20
    assert len({text[:6] for text in nonces}) > 490


@pytest.mark.parametrize("task", ["story", "html", "code", "summary", "qa"])
def test_the_task_stands_at_the_end(task: str) -> None:
    request = BenchRequest(task=task)  # type: ignore[arg-type]
    assert PromptWriter.of(request, filled=False).bare().endswith(TASKS[task])
    writer = PromptWriter.of(request, filled=True)
    assert writer.filled(500).endswith(writer.task)


def test_a_prompt_of_ones_own_is_taken_as_it_is() -> None:
    words = "Say {this} back: <b>"
    assert PromptWriter.of(BenchRequest(prompt=words), filled=True).filled(300).endswith(f"\n\n{words}")


def test_the_text_is_the_same_words_in_another_order() -> None:
    writer = PromptWriter.of(BenchRequest(), filled=True)
    first, second = (writer.of_chars(3000).split("\n", 1)[1] for _ in range(2))
    assert first != second
    assert sorted(first.split()) == sorted(second.split())
    assert first[:200] != second[:200]


@settings(max_examples=40)
@given(st.floats(1.0, 7.0), st.integers(0, 40), st.integers(400, 20_000))
def test_two_counts_are_enough_to_hit_a_length(chars_per_token: float, overhead: int, wanted: int) -> None:
    def count(prompt: str) -> int:
        return round(len(prompt) / chars_per_token) + overhead

    writer = PromptWriter.of(BenchRequest(), filled=True)
    for chars in (1000, max(2000, wanted * 4)):
        prompt = writer.of_chars(chars)
        writer.learn(prompt, count(prompt))
    assert count(writer.filled(wanted)) == pytest.approx(wanted, rel=0.03, abs=8)


def test_too_short_a_length_leaves_the_task() -> None:
    writer = PromptWriter.of(BenchRequest(), filled=True)
    assert writer.filled(1).endswith(writer.task)
