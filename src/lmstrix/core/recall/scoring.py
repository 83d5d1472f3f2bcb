"""Which codes an answer names for which keys, and what that says about a length. Pure.

Reading. A code belongs to the key it follows: six digits after a key and before the next key, in any wording (JSON,
lists, prose, tables, other separators). Two different codes claimed for one key count as none, so listing everything
earns nothing; an answer that recites the notes instead of answering is refused whole.

Judging. Two stages on one prefill: 8 codes decide clear cases, 5 or 6 of 8 ask for 8 more, then 13 of 16 pass. A model
that recalls 95 % of its needles passes 99.5 times in 100, one that recalls half of them 4 times. All thresholds are
relative to the same model's own score at a short length, since even short lists defeat some models.

Delivery. A code that is not recalled was either forgotten or never read. The server's own count of the prompt's tokens
decides. Only where it gives none is the beginning asked for alone, and told from the answers (`Beginning`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lmstrix.core.recall.haystack import Haystack, Needle
    from lmstrix.core.recall.tasks import Question
    from lmstrix.ground.types import StopReason

NeedleOutcome = Literal["hit", "swapped", "wrong", "missing"]
VerdictKind = Literal[
    "recalled", "lost", "undecided", "head_unclear", "delivery_unclear", "truncated", "overflowed", "empty"
]

PASS_RATIO = 0.85  # of the baseline, in the first stage
FAIL_RATIO = 0.50
COMBINED_PASS_RATIO = 13 / 16
PROMPT_TOKENS_TOLERANCE_RATIO = 0.02

_PLAIN_CODE = re.compile(r"(?<!\d)\d{6}(?!\d)")
_SPACED_CODE = re.compile(r"(?<!\d)\d(?:[ ,.'-]?\d){5}(?!\d)")
_MARKUP = str.maketrans(dict.fromkeys('*_`~"', " "))
_RECITED_SENTENCES = 2
_SHORTEST_SENTENCE_CHARS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedleAnswer:
    """What an answer says about one asked needle. `claimed` is the one code named for its key, or None."""

    needle: Needle
    claimed: str | None
    outcome: NeedleOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """All readings of one question, in the order of the text. `recited` means the answer repeats the notes: no hits."""

    readings: tuple[NeedleAnswer, ...]
    recited: bool = False
    empty: bool = False

    @property
    def asked(self) -> int:
        return len(self.readings)

    @property
    def hits(self) -> int:
        return 0 if self.recited else sum(reading.outcome == "hit" for reading in self.readings)

    @property
    def swaps(self) -> int:
        """Right digits, wrong key."""
        return sum(reading.outcome == "swapped" for reading in self.readings)

    @property
    def ratio(self) -> float:
        return self.hits / self.asked if self.readings else 0.0

    @property
    def first_found(self) -> bool:
        """The needle nearest to the beginning was recalled: the head of the prompt was read."""
        return bool(self.readings) and not self.recited and self.readings[0].outcome == "hit"

    def joined(self, other: Score) -> Score:
        """Both questions as one."""
        readings = sorted((*self.readings, *other.readings), key=lambda reading: reading.needle.start)
        return Score(readings=tuple(readings), recited=self.recited or other.recited, empty=self.empty and other.empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one length came to. `reason` is one line for people.

    "recalled", "lost": decided. "undecided": ask the follow-up question. "head_unclear": enough codes, but not the
    first one: ask for that key alone. "delivery_unclear": not even alone, and the server counts no tokens: find out
    whether the beginning was read. "truncated", "overflowed", "empty": the answer says nothing about recall.
    """

    kind: VerdictKind
    hits: int
    asked: int
    reason: str

    @property
    def decided(self) -> bool:
        return self.kind not in ("undecided", "head_unclear", "delivery_unclear")

    @property
    def valid(self) -> bool:
        """The prompt was read whole and answered."""
        return self.kind not in ("truncated", "overflowed", "empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What the server says about a prompt: tokens we counted, tokens it counted, why it stopped. None is not known."""

    sent_tokens: int
    prompt_tokens: int | None
    stop_reason: StopReason | None

    @property
    def cut_short(self) -> bool:
        """The server read fewer tokens than were sent, by more than 2 %. Never when it does not say."""
        if self.prompt_tokens is None:
            return False
        return self.sent_tokens - self.prompt_tokens > PROMPT_TOKENS_TOLERANCE_RATIO * self.sent_tokens

    @property
    def shortfall(self) -> str:
        """How much was cut, in one line for people."""
        return f"{self.sent_tokens:,} tokens were sent but {self.prompt_tokens:,} were read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What tells a text whose beginning was cut off from one whose beginning was forgotten.

    `alone` is the score of the first code asked over the beginning and nothing else. `whole` and `without` are drawn
    with the same seed at a high temperature, from the whole text and from all but its beginning.
    """

    alone: Score
    whole: str
    without: str

    @property
    def was_read(self) -> bool:
        """Not, when the code is known as soon as it stands alone, and the beginning changes no letter of what is drawn.

        The likeliest answer of a model that forgot may be the same with and without the beginning. A drawn one is not:
        each token depends on all probabilities, and these on every token that was read. A server that draws anew each
        time is taken to have read all: what it may do without, its recall shows.
        """
        return not self.alone.first_found or self.whole != self.without


def score_answer(answer: str, question: Question, haystack: Haystack) -> Score:
    """Read one answer. The haystack's other keys end a claim, and its other codes tell a swap from an invention."""
    text = _plain(answer)
    claims = _claims(text, haystack.needles)
    owners = {needle.code: needle.key for needle in haystack.needles}
    needles = sorted(question.needles, key=lambda needle: needle.start)
    return Score(
        readings=tuple(_read(needle, claims.get(needle.key, set()), owners) for needle in needles),
        recited=_recites(text, claims, question, haystack),
        empty=not answer.strip(),
    )


def join_scores(scores: Sequence[Score]) -> Score:
    """The scores of keys asked one at a time, as one."""
    total = scores[0]
    for score in scores[1:]:
        total = total.joined(score)
    return total


def judge(
    first: Score,
    delivery: Delivery,
    *,
    follow_up: Score | None = None,
    head: Score | None = None,
    beginning: Beginning | None = None,
    follow_up_possible: bool = True,
    baseline_ratio: float = 1.0,
) -> Verdict:
    """Decide one length from the first question and, when they were asked, the follow-up, the first key alone (`head`)
    and, of a server that counts no tokens, the control of the beginning.

    `baseline_ratio` is the model's own score at a short length; 1.0 (the default) when judging the baseline itself.
    """
    total = first if follow_up is None else first.joined(follow_up)

    def verdict(kind: VerdictKind, reason: str) -> Verdict:
        return Verdict(kind=kind, hits=total.hits, asked=total.asked, reason=reason)

    if delivery.cut_short:
        return verdict("truncated", delivery.shortfall)
    if delivery.stop_reason == "contextLengthReached":
        return verdict("overflowed", "the context filled up before the answer ended")
    if first.empty:
        return verdict("empty", "the server reported success and sent no text")
    found = f"{total.hits} of {total.asked} codes recalled"
    if total.recited:
        return verdict("lost", "the notes were recited instead of answered from")
    passed = _passed(first, follow_up, baseline_ratio)
    if passed is None and follow_up_possible:
        return verdict("undecided", f"{found}: more must be asked")
    counted = delivery.prompt_tokens is not None
    head_found = first.first_found or (head is not None and head.first_found)
    if not head_found and head is None and (passed or not counted):
        return verdict("head_unclear", f"{found}, but not the one at the beginning")
    if not head_found and not counted:
        if beginning is None:
            return verdict("delivery_unclear", f"{found}, but not the one at the beginning, and no tokens are counted")
        if not beginning.was_read:
            return verdict("truncated", f"{found}, but the beginning of the text was not read")
    if passed and not head_found:
        return verdict("lost", f"recall lost at the beginning ({total.hits} of {total.asked})")
    return verdict("recalled" if passed else "lost", found)


def _passed(first: Score, follow_up: Score | None, baseline_ratio: float) -> bool | None:
    """True or False when decided, None when it is too close to call."""
    expected = first.asked * baseline_ratio
    if first.hits >= _at_least(PASS_RATIO * expected):
        return True
    if first.hits <= FAIL_RATIO * expected:
        return False
    if follow_up is None:
        return None
    total = first.joined(follow_up)
    return total.hits >= _at_least(COMBINED_PASS_RATIO * total.asked * baseline_ratio)


def _at_least(hits: float) -> int:
    return math.ceil(hits - 1e-9)  # 13/16 of 16 must come to 13, whatever the last bit of the product says


def _plain(answer: str) -> str:
    """Compatibility forms folded, markup removed, lower case: what is compared."""
    return unicodedata.normalize("NFKC", answer).translate(_MARKUP).lower()


def _claims(text: str, needles: Sequence[Needle]) -> dict[str, set[str]]:
    """For each planted key the codes that follow it before any other key."""
    claims: dict[str, set[str]] = {}
    for key, segment in _segments(text, needles):
        # Spaced digits only where no plain code stands: the number of a list would otherwise run into a code.
        codes = set(_PLAIN_CODE.findall(segment)) or {
            re.sub(r"\D", "", spaced) for spaced in _SPACED_CODE.findall(segment)
        }
        claims.setdefault(key, set()).update(codes)
    return claims


def _segments(text: str, needles: Sequence[Needle]) -> Iterator[tuple[str, str]]:
    """Each mention of a planted key with the text from there to the next mention."""
    keys = {needle.key for needle in needles}
    # Candidates are found by first words, so that a haystack with hundreds of keys still needs one pass.
    firsts = sorted({key.partition(" ")[0] for key in keys})
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, firsts))})[\s\-]+([a-z]+)")
    mentions = [
        (found.start(), found.end(), key)
        for found in pattern.finditer(text)
        if (key := f"{found[1]} {found[2]}") in keys
    ]
    for index, (_, end, key) in enumerate(mentions):
        until = mentions[index + 1][0] if index + 1 < len(mentions) else len(text)
        yield key, text[end:until]


def _read(needle: Needle, claimed: set[str], owners: dict[str, str]) -> NeedleAnswer:
    # Two codes for one key are a guess each: counting either would reward hedging.
    if len(claimed) != 1:
        return NeedleAnswer(needle=needle, claimed=None, outcome="wrong" if claimed else "missing")
    (code,) = claimed
    if code == needle.code:
        outcome: NeedleOutcome = "hit"
    else:
        outcome = "swapped" if code in owners else "wrong"
    return NeedleAnswer(needle=needle, claimed=code, outcome=outcome)


def _recites(text: str, claims: dict[str, set[str]], question: Question, haystack: Haystack) -> bool:
    """Whether the answer repeats the notes: sentences of their prose, or codes of more keys than were asked for."""
    asked = {needle.key for needle in question.needles}
    others = sum(bool(codes) for key, codes in claims.items() if key not in asked)
    # A slip of the pen names a neighbour or two; more is a list of all it has seen, which would hit by itself.
    if others > max(2, len(asked) // 2):
        return True
    said = " ".join(text.split())
    recited = 0
    for sentence in re.split(r"(?<=[.?!]) ", " ".join(_plain(haystack.text).split())):
        if len(sentence) >= _SHORTEST_SENTENCE_CHARS and "access code of" not in sentence and sentence in said:
            recited += 1
            if recited >= _RECITED_SENTENCES:
                return True
    return False
