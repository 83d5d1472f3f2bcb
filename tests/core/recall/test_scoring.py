"""Answers read into codes, in whatever form models write them, and what the scores say about a length."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.core.recall.haystack import Haystack, Needle, write_haystack
from lmstrix.core.recall.scoring import (
    Beginning,
    Delivery,
    Score,
    join_scores,
    judge,
    score_answer,
)
from lmstrix.core.recall.tasks import Question, ask, first_question, follow_up_question, per_key

if TYPE_CHECKING:
    from collections.abc import Callable

HAYSTACK = write_haystack(seed=11, base_chars=5000, chars=9000)
FIRST = first_question(HAYSTACK)
SECOND: Question = follow_up_question(HAYSTACK) or FIRST
BY_DEPTH = sorted(FIRST.needles, key=lambda needle: needle.start)
WHOLE = Delivery(sent_tokens=2000, prompt_tokens=2000, stop_reason="eosFound")


def score(answer: str, question: Question = FIRST, haystack: Haystack = HAYSTACK) -> Score:
    return score_answer(answer, question, haystack)


def lines(needles: tuple[Needle, ...] | list[Needle], form: str = "{key} is {code}") -> str:
    return "\n".join(form.format(key=item.key, code=item.code, n=n) for n, item in enumerate(needles, 1))


def spaced(code: str, separator: str) -> str:
    return f"{code[:3]}{separator}{code[3:]}"


WORDINGS: dict[str, Callable[[tuple[Needle, ...]], str]] = {
    "needle wording": lambda needles: lines(needles, "The access code of {key} is {code}."),
    "numbered": lambda needles: lines(needles, "{n}. {key} is {code}"),
    "bare": lambda needles: lines(needles, "{key} {code}"),
    "colon": lambda needles: lines(needles, "- {key}: {code}"),
    "dash": lambda needles: lines(needles, "* {key} \u2014 {code}"),
    "bold": lambda needles: lines(needles, "{n}. **{key}** is **{code}**"),
    "code spans": lambda needles: lines(needles, "`{key}`: `{code}`"),
    "table": lambda needles: "| key | code |\n|---|---|\n" + lines(needles, "| {key} | {code} |"),
    "one sentence": lambda needles: "The codes: " + ", ".join(f"{item.key} is {item.code}" for item in needles) + ".",
    "json": lambda needles: json.dumps({item.key: item.code for item in needles}),
    "json numbers": lambda needles: json.dumps({item.key: int(item.code) for item in needles}, indent=2),
    "json records": lambda needles: json.dumps([{"key": item.key, "code": item.code} for item in needles]),
    "fenced json": lambda needles: "```json\n" + json.dumps({item.key: item.code for item in needles}) + "\n```",
    "snake case": lambda needles: lines(needles, "{key}={code}").replace(" ", "_"),
    "hyphens": lambda needles: "\n".join(f"{item.key.replace(' ', '-')}: {item.code}" for item in needles),
    "title case": lambda needles: "\n".join(f"{item.key.title()}: {item.code}" for item in needles),
    "grouped by a space": lambda needles: "\n".join(f"{item.key}: {spaced(item.code, ' ')}" for item in needles),
    "grouped by a comma": lambda needles: "\n".join(f"{item.key}: {spaced(item.code, ',')}" for item in needles),
    "grouped by a hyphen": lambda needles: "\n".join(f"{item.key}: {spaced(item.code, '-')}" for item in needles),
    "narrow space": lambda needles: "\n".join(f"{item.key}: {spaced(item.code, chr(0x202F))}" for item in needles),
    "digit by digit": lambda needles: "\n".join(f"{item.key}: {' '.join(item.code)}" for item in needles),
    "full width": lambda needles: "\n".join(
        f"{item.key}: {''.join(chr(0xFEE0 + ord(digit)) for digit in item.code)}" for item in needles
    ),
    "keys listed first": lambda needles: (
        "You ask for " + ", ".join(item.key for item in needles) + ".\n\n" + lines(needles)
    ),
    "said twice": lambda needles: lines(needles) + "\n\nTo sum up:\n" + lines(needles),
}


@pytest.mark.parametrize("wording", WORDINGS)
def test_every_sensible_wording_of_the_right_answer_counts(wording: str) -> None:
    result = score(WORDINGS[wording](FIRST.needles))
    assert (result.hits, result.asked, result.swaps) == (8, 8, 0)
    assert result.first_found
    assert not result.recited


@pytest.mark.slow
@pytest.mark.parametrize("wording", WORDINGS)
@given(known=st.sets(st.integers(0, 7)))
def test_exactly_the_codes_given_are_counted(wording: str, known: set[int]) -> None:
    needles = tuple(FIRST.needles[index] for index in sorted(known))
    result = score(WORDINGS[wording](needles))
    assert result.hits == len(known)
    assert {reading.needle for reading in result.readings if reading.outcome == "hit"} == set(needles)
    assert {reading.outcome for reading in result.readings if reading.needle not in needles} <= {"missing"}


@given(st.permutations(range(8)))
def test_codes_on_the_wrong_keys_are_swaps(order: list[int]) -> None:
    codes = [FIRST.needles[index].code for index in order]
    answer = "\n".join(f"{item.key} is {code}" for item, code in zip(FIRST.needles, codes, strict=True))
    fixed = sum(index == place for place, index in enumerate(order))
    result = score(answer)
    assert (result.hits, result.swaps) == (fixed, 8 - fixed)


@given(st.lists(st.integers(0, 999_999), min_size=8, max_size=8))
def test_invented_codes_do_not_count(codes: list[int]) -> None:
    planted = {needle.code for needle in HAYSTACK.needles}
    invented = [f"{number:06d}" for number in codes]
    answer = "\n".join(f"{item.key}: {code}" for item, code in zip(FIRST.needles, invented, strict=True))
    result = score(answer)
    if not planted & set(invented):
        assert (result.hits, result.swaps) == (0, 0)
        assert {reading.outcome for reading in result.readings} == {"wrong"}


@given(st.text(max_size=400))
def test_text_without_the_codes_never_scores(text: str) -> None:
    if not any(needle.code in text for needle in FIRST.needles):
        assert score(text).hits == 0


@pytest.mark.parametrize("code", ["12345", "1234567", "12 34 5", "123456789012", "1.2"])
def test_only_six_digits_are_a_code(code: str) -> None:
    reading = score(f"{BY_DEPTH[0].key} is {code}").readings[0]
    assert (reading.claimed, reading.outcome) == (None, "missing")


def test_a_near_miss_is_wrong() -> None:
    needle = BY_DEPTH[2]
    changed = needle.code[:5] + str((int(needle.code[5]) + 1) % 10)
    reading = score(f"{needle.key} is {changed}").readings[2]
    assert (reading.claimed, reading.outcome) == (changed, "wrong")


def test_two_codes_for_one_key_are_no_answer() -> None:
    needle = BY_DEPTH[1]
    result = score(f"{needle.key} is {needle.code} or {BY_DEPTH[4].code}")
    assert result.hits == 0
    assert result.readings[1].outcome == "wrong"


def test_listing_all_codes_after_each_key_earns_nothing() -> None:
    everything = ", ".join(needle.code for needle in HAYSTACK.needles)
    assert score("\n".join(f"{needle.key}: {everything}" for needle in FIRST.needles)).hits == 0
    assert score(everything).hits == 0
    assert score(", ".join(needle.key for needle in FIRST.needles) + ": " + everything).hits == 0


def test_reciting_the_notes_is_no_answer() -> None:
    result = score(HAYSTACK.text)
    assert result.recited
    assert (result.hits, result.first_found) == (0, False)
    assert judge(result, WHOLE).kind == "lost"


def test_reciting_all_needles_is_no_answer() -> None:
    assert score(lines(list(HAYSTACK.needles))).recited


def test_reciting_short_notes_in_which_every_key_is_asked_is_no_answer() -> None:
    short = write_haystack(seed=3, base_chars=900, chars=900)
    question = first_question(short)
    assert len(short.needles) == len(question.needles)
    assert score(short.text, question, short).recited
    assert not score(lines(question.needles), question, short).recited


def test_one_neighbour_mentioned_is_still_an_answer() -> None:
    answer = lines(FIRST.needles) + f"\n({SECOND.needles[0].key} is {SECOND.needles[0].code}, which was not asked.)"
    assert score(answer).hits == 8


def test_answers_one_key_at_a_time_join_to_the_same_score() -> None:
    singles = [score(f"1. {single.needles[0].key} is {single.needles[0].code}", single) for single in per_key(FIRST)]
    assert join_scores(singles) == score(lines(FIRST.needles))


@pytest.mark.slow
def test_reading_a_long_text_with_hundreds_of_keys() -> None:
    haystack = write_haystack(seed=8, base_chars=2000, chars=8_000_000)
    assert len({needle.key for needle in haystack.needles}) == len(haystack.needles) > 140
    question = first_question(haystack)
    assert score(lines(question.needles), question, haystack).hits == 8


# ---------------------------------------------------------------------------------------------- judging


def part(question: Question, hits: int, *, first: bool = True) -> Score:
    """The score of an answer with `hits` right codes, the one nearest to the beginning among them or not."""
    needles = sorted(question.needles, key=lambda needle: needle.start)
    known = needles[:hits] if first else needles[1 : hits + 1]
    return score(lines(known) or "I do not know.", question)


@pytest.mark.parametrize(
    ("hits", "kind"), [(8, "recalled"), (7, "recalled"), (6, "undecided"), (5, "undecided"), (4, "lost"), (0, "lost")]
)
def test_clear_cases_are_decided_by_the_first_question(hits: int, kind: str) -> None:
    verdict = judge(part(FIRST, hits), WHOLE)
    assert (verdict.kind, verdict.hits, verdict.asked) == (kind, hits, 8)
    assert verdict.valid
    assert verdict.decided == (kind != "undecided")


@pytest.mark.parametrize(
    ("hits", "more", "kind"), [(6, 7, "recalled"), (6, 6, "lost"), (5, 8, "recalled"), (5, 7, "lost")]
)
def test_close_cases_need_thirteen_of_sixteen(hits: int, more: int, kind: str) -> None:
    verdict = judge(part(FIRST, hits), WHOLE, follow_up=part(SECOND, more))
    assert (verdict.kind, verdict.hits, verdict.asked) == (kind, hits + more, 16)


def test_a_close_case_that_cannot_be_asked_more_is_lost() -> None:
    assert judge(part(FIRST, 6), WHOLE, follow_up_possible=False).kind == "lost"


@pytest.mark.parametrize(
    ("hits", "baseline_ratio", "kind"),
    [
        (7, 1.0, "recalled"),
        (6, 0.875, "recalled"),
        (5, 0.875, "undecided"),
        (3, 0.875, "lost"),
        (6, 0.8125, "recalled"),
    ],
)
def test_thresholds_are_relative_to_the_baseline(hits: int, baseline_ratio: float, kind: str) -> None:
    assert judge(part(FIRST, hits), WHOLE, baseline_ratio=baseline_ratio).kind == kind


def test_a_lost_beginning_is_asked_for_again_alone() -> None:
    scored = part(FIRST, 7, first=False)
    assert scored.hits == 7
    assert judge(scored, WHOLE).kind == "head_unclear"
    head = ask((BY_DEPTH[0],), seed=0)
    found = score(f"1. {BY_DEPTH[0].key} is {BY_DEPTH[0].code}", head)
    assert judge(scored, WHOLE, head=found).kind == "recalled"
    verdict = judge(scored, WHOLE, head=score("1. I do not know", head))
    assert (verdict.kind, verdict.reason) == ("lost", "recall lost at the beginning (7 of 8)")
    assert verdict.valid


@pytest.mark.parametrize(
    ("hits", "alone_known", "without", "kind"),
    [
        (7, True, "1. I do not know", "truncated"),
        (4, True, "1. I do not know", "truncated"),
        (7, True, "1. It is 111111", "lost"),
        (7, False, "1. I do not know", "lost"),
        (4, False, "1. I do not know", "lost"),
    ],
)
def test_where_no_tokens_are_counted_the_beginning_itself_is_the_control(
    hits: int, alone_known: bool, without: str, kind: str
) -> None:
    scored, uncounted = part(FIRST, hits, first=False), replace(WHOLE, prompt_tokens=None)
    assert judge(scored, uncounted).kind == "head_unclear"
    head = ask((BY_DEPTH[0],), seed=0)
    whole = "1. I do not know"
    missed = score(whole, head)
    assert judge(scored, uncounted, head=missed).kind == "delivery_unclear"
    alone = score(f"1. {BY_DEPTH[0].key} is {BY_DEPTH[0].code}" if alone_known else whole, head)
    beginning = Beginning(whole=whole, alone=alone, without=without)
    assert judge(scored, uncounted, head=missed, beginning=beginning).kind == kind
    assert judge(scored, WHOLE, head=missed).kind == "lost"  # a count needs no control


@pytest.mark.parametrize(
    ("prompt_tokens", "stop_reason", "kind"),
    [
        (1961, "eosFound", "recalled"),
        (1959, "eosFound", "truncated"),
        (2041, "eosFound", "recalled"),
        (None, "eosFound", "recalled"),
        (2000, "contextLengthReached", "overflowed"),
        (2000, "maxPredictedTokensReached", "recalled"),
        (2000, None, "recalled"),
    ],
)
def test_an_answer_to_another_prompt_than_the_one_sent_is_no_evidence(
    prompt_tokens: int | None, stop_reason: str | None, kind: str
) -> None:
    delivery = Delivery(sent_tokens=2000, prompt_tokens=prompt_tokens, stop_reason=stop_reason)  # type: ignore[arg-type]
    verdict = judge(part(FIRST, 8), delivery)
    assert verdict.kind == kind
    assert verdict.valid == (kind == "recalled")


@pytest.mark.parametrize("answer", ["", " \n"])
def test_an_empty_answer_is_told_apart(answer: str) -> None:
    assert judge(score(answer), WHOLE).kind == "empty"


def pass_probability(recall: float) -> tuple[float, float]:
    """(P(recalled), needles asked on average) of a model that recalls each needle with probability `recall`."""

    def binomial(hits: int) -> float:
        return math.comb(8, hits) * recall**hits * (1 - recall) ** (8 - hits)

    passed, asked = 0.0, 8.0
    for hits in range(9):
        verdict = judge(part(FIRST, hits), WHOLE)
        if verdict.kind == "undecided":
            asked += 8 * binomial(hits)
            passed += binomial(hits) * sum(
                binomial(more)
                for more in range(9)
                if judge(part(FIRST, hits), WHOLE, follow_up=part(SECOND, more)).kind == "recalled"
            )
        passed += binomial(hits) * (verdict.kind == "recalled")
    return passed, asked


@pytest.mark.parametrize(
    ("recall", "expected"),
    [(0.99, 1.0), (0.95, 0.995), (0.90, 0.95), (0.85, 0.84), (0.80, 0.68), (0.70, 0.35), (0.60, 0.13), (0.50, 0.04)],
)
def test_operating_curve(recall: float, expected: float) -> None:
    passed, asked = pass_probability(recall)
    assert passed == pytest.approx(expected, abs=0.006)
    assert 8 <= asked <= 12.5
