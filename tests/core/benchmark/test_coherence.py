"""Answers of broken models are marked, and those of working ones are not, in any language."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from lmstrix.core.benchmark.coherence import coherence_mark, with_difference_marks
from lmstrix.core.benchmark.records import RequestFigures, RunRecord

STORIES = (
    "Once upon a time a lighthouse keeper found a bottle on the shore. He opened it and read the letter by the lamp.",
    "The old baker woke before dawn, as always, and set the dough to rise. Outside, the first snow of the year fell.",
    "Mira had never seen the sea. When the train came out of the tunnel she pressed her face against the window pane.",
)
CHINESE = (
    "从前有一位老渔夫住在海边的小村庄里 他每天清晨都会划着小船出海打鱼 日子虽然清贫却也十分平静安宁快乐.",
    "很久以前 山里住着一个年轻的木匠 他用双手做出许多精美的家具 村里的人们都很喜欢他 他每天都很快乐.",
    "小女孩第一次看见大海的时候 她站在沙滩上很久没有说话 海风吹着她的头发 她觉得自己像一只小小的鸟.",
)


def figures(answer: str, *, tokens: int = 64, reasoning: str = "") -> RequestFigures:
    return RequestFigures(requested_tokens=64, completion_tokens=tokens, answer=answer, reasoning=reasoning)


def run(answer: str) -> RunRecord:
    return RunRecord(number=1, measured_at=datetime.now(UTC), requests=(figures(answer),), span_s=1.0)


@pytest.mark.parametrize(
    ("answer", "tokens", "kind"),
    [
        ("", 64, "empty answer"),
        (" \n\n", 64, "empty answer"),
        ("!" * 64, 64, "one token repeated"),
        ("Once upon a time" + " GG" * 60, 64, "one token repeated"),
        (" the" * 40, 40, "one token repeated"),
        ("-" * 12, 12, None),  # a short answer may be a line
        ("no, no, never again, no, no, never again, " * 4, 48, None),  # a loop of words is what small models do
        (STORIES[0], 30, None),
        (CHINESE[0], 40, None),
    ],
)
def test_one_answer(answer: str, tokens: int, kind: str | None) -> None:
    mark = coherence_mark(figures(answer, tokens=tokens))
    assert (mark.kind if mark is not None else None) == kind


def test_thoughts_are_text_and_failures_are_told_elsewhere() -> None:
    assert coherence_mark(figures("", reasoning=STORIES[0])) is None
    failed = RequestFigures(requested_tokens=64, completion_tokens=64, failure="gone")
    assert coherence_mark(failed) is None


@pytest.mark.parametrize("stories", [STORIES, CHINESE])
def test_answers_of_a_working_model_may_differ(stories: tuple[str, ...]) -> None:
    runs = [run(story) for story in stories]
    assert with_difference_marks(runs) == runs


def test_the_answer_unlike_all_others_is_marked() -> None:
    runs = [run(story) for story in (*STORIES, CHINESE[0])]
    marks = [[mark.kind for mark in each.requests[0].marks] for each in with_difference_marks(runs)]
    assert marks == [[], [], [], ["answers differ"]]
    # Two say nothing of which is the odd one, and marks go when later runs show that.
    assert with_difference_marks(runs[2:]) == runs[2:]
    marked = with_difference_marks(runs)[3]
    assert with_difference_marks([marked, *[run(story) for story in CHINESE]])[0] == runs[3]


def test_noise_is_marked_in_every_run() -> None:
    rng = random.Random(7)
    noise = ["".join(chr(rng.randrange(0x21, 0x2FFF)) for _ in range(200)) for _ in range(4)]
    marked = with_difference_marks([run(text) for text in noise])
    assert all(each.requests[0].marks for each in marked)
