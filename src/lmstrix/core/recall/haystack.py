"""Haystacks: generated prose with keyed codes planted in it; a shorter one is the beginning of a longer one. Pure.

Method. A haystack is the beginning of one endless text that depends on the seed and on `base_chars`, the length of
the shortest haystack to be asked about. Needles stand at set depths within the first `base_chars`, and beyond them at
twelve places per doubling (6 % apart). Whatever length is cut, some needle lies within about 3 % of each depth to be
asked about, all needles not asked about are distractors of the same wording, and text already read by the model stays
an unchanged prefix, so a server's prefix cache is used when the length grows or shrinks.

A needle reads "The access code of <key> is <code>.", so a model may answer in the words it read. Lengths are fitted to
a token count with the caller's own counter: two counts to calibrate, then one to three per length. A cut may fall
inside a sentence of prose, never inside a needle.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.recall.keys import keyed_codes
from lmstrix.core.recall.prose import Prose
from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

ASKED_DEPTHS = (0.01, 0.06, 0.18, 0.32, 0.46, 0.60, 0.76, 0.93)
FOLLOW_UP_DEPTHS = (0.03, 0.12, 0.25, 0.39, 0.53, 0.68, 0.84, 0.97)
DISTRACTOR_DEPTHS = (0.09, 0.15, 0.21, 0.285, 0.425, 0.565, 0.72, 0.885)
PLANTS_PER_DOUBLING = 12
SHORTEST_TOKENS = 512  # the default of the shortest length a haystack is asked about

_NEEDLE_SHARE = 0.6  # at most this share of the base text may be needles
_NEEDLE_CHARS = 52  # a needle with its space, about
_BASE_SHARE = 0.95  # of the shortest text as predicted, which may come out a little shorter
_ACCEPTED_RATIO = 0.99  # a prompt is long enough at this share of its target
_MAX_COUNTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Needle:
    """A planted fact. `start` and `end` are offsets in characters; `depth_ratio` is start over the text's length."""

    key: str
    code: str
    start: int
    end: int
    depth_ratio: float

    @property
    def sentence(self) -> str:
        return needle_sentence(self.key, self.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Haystack:
    """A text and the needles wholly inside it, in their order. `seed` and `base_chars` say how to grow it."""

    seed: int
    base_chars: int
    text: str
    needles: tuple[Needle, ...]

    def asked(self) -> tuple[Needle, ...]:
        """The needles nearest to the depths of the first question."""
        return self._nearest(ASKED_DEPTHS, taken=())

    def follow_up(self) -> tuple[Needle, ...]:
        """As many more for a second question; empty when the text is too short to hold them."""
        asked = self.asked()
        if len(self.needles) < len(asked) + len(FOLLOW_UP_DEPTHS):
            return ()
        return self._nearest(FOLLOW_UP_DEPTHS, taken=asked)

    def parted_after(self, needle: Needle) -> tuple[Haystack, Haystack]:
        """The text up to the end of `needle`, and the rest of it. Both know all needles, wherever they stand."""
        return replace(self, text=self.text[: needle.end]), replace(self, text=self.text[needle.end :].lstrip())

    def _nearest(self, depths: tuple[float, ...], taken: tuple[Needle, ...]) -> tuple[Needle, ...]:
        free = [needle for needle in self.needles if needle not in taken]
        chosen: list[Needle] = []
        for depth in depths[: len(free)]:
            best = min(free, key=lambda needle: abs(needle.depth_ratio - depth))
            free.remove(best)
            chosen.append(best)
        return tuple(sorted(chosen, key=lambda needle: needle.start))


class _Sentence(NamedTuple):
    text: str
    key: str
    code: str


def needle_sentence(key: str, code: str) -> str:
    """The wording of every needle."""
    return f"The access code of {key} is {code}."


def base_depths(base_chars: int) -> tuple[float, ...]:
    """Where needles stand in the first `base_chars`: all 24 depths, or 16, or the 8 asked ones where room is short."""
    for depths in (ASKED_DEPTHS + FOLLOW_UP_DEPTHS + DISTRACTOR_DEPTHS, ASKED_DEPTHS + FOLLOW_UP_DEPTHS):
        if len(depths) * _NEEDLE_CHARS <= _NEEDLE_SHARE * base_chars:
            return tuple(sorted(depths))
    return ASKED_DEPTHS


def _plant_offsets(base_chars: int) -> Iterator[float]:
    last = base_chars - 3 * _NEEDLE_CHARS  # room for the last ones, which may stand in a row
    for depth in base_depths(base_chars):
        yield min(depth * base_chars, last)
    step = 0
    while True:
        step += 1
        yield base_chars * 2.0 ** (step / PLANTS_PER_DOUBLING)


def _sentences(seed: int, base_chars: int) -> Iterator[_Sentence]:
    """The endless text: prose, and a needle as soon as the next place for one is reached."""
    prose = Prose(random.Random(f"prose {seed}"))
    codes = keyed_codes(random.Random(f"codes {seed}"))
    # Prose and codes have a source of chance each: a needle more must not change the prose after it.
    offsets = _plant_offsets(base_chars)
    place = next(offsets)
    written = 0
    while True:
        if written >= place - _NEEDLE_CHARS / 2:
            key, code = next(codes)
            sentence = _Sentence(needle_sentence(key, code), key, code)
            place = next(offsets)
        else:
            sentence = _Sentence(prose.sentence(), "", "")
        written += len(sentence.text) + 1
        yield sentence


def write_haystack(*, seed: int, base_chars: int, chars: int) -> Haystack:
    """The first `chars` characters of the endless text or a few less, cut at a word and closed with a full stop."""
    parts: list[str] = []
    spans: list[tuple[_Sentence, int]] = []
    written = 0
    for sentence in _sentences(seed, base_chars):
        room = chars - written
        if len(sentence.text) > room:
            # No needle is cut: prose stands in for one that does not fit.
            ending = Prose(random.Random(f"end {seed}"))
            cut = f"{ending.sentence()} {ending.sentence()}" if sentence.key else sentence.text
            parts.append(_shortened(cut, room))
            break
        if sentence.key:
            spans.append((sentence, written))
        parts.append(sentence.text)
        written += len(sentence.text) + 1
    text = " ".join(part for part in parts if part)
    needles = tuple(
        Needle(key=item.key, code=item.code, start=at, end=at + len(item.text), depth_ratio=at / len(text))
        for item, at in spans
    )
    return Haystack(seed=seed, base_chars=base_chars, text=text, needles=needles)


def _shortened(sentence: str, room: int) -> str:
    """As many whole words of `sentence` as fit in `room` with a full stop; empty when none does."""
    words = sentence[: max(0, room)].rpartition(" ")[0]
    return words.rstrip('.,;:?"') + "." if words else ""


class HaystackFitter:
    """Fits haystacks of one seed to token counts, each a prefix of the longer ones.

    Only the server can count, so both methods are generators: they yield a haystack and are sent the tokens of the
    whole prompt built from it, question included. `shortest_tokens` is the shortest prompt that will be asked for; it
    sets where needles stand, so it must not change within a run.
    """

    def __init__(self, *, seed: int, base_chars: int, chars_per_token: float, overhead_tokens: float) -> None:
        self._seed = seed
        self._base_chars = base_chars
        self._chars_per_token = chars_per_token
        self._counted = (overhead_tokens, 0)  # the last known point: tokens, characters

    @classmethod
    def calibrated(
        cls, *, seed: int, shortest_tokens: int = SHORTEST_TOKENS
    ) -> Generator[Haystack, int, HaystackFitter]:
        """A fitter that knows how long this model's tokens are. Raises UsageError where the codes have no room."""
        # Two texts of different length give the slope (characters per token) and what the question itself costs.
        guess = shortest_tokens * 3
        small, large = (write_haystack(seed=seed, base_chars=guess, chars=chars) for chars in (guess // 2, guess * 2))
        small_tokens = yield small
        large_tokens = yield large
        chars_per_token = (len(large.text) - len(small.text)) / max(1, large_tokens - small_tokens)
        overhead_tokens = max(0.0, small_tokens - len(small.text) / chars_per_token)
        base_chars = round(_BASE_SHARE * (shortest_tokens - overhead_tokens) * chars_per_token)
        if base_chars < len(ASKED_DEPTHS) * _NEEDLE_CHARS:
            least = round(overhead_tokens + len(ASKED_DEPTHS) * _NEEDLE_CHARS / chars_per_token) + 1
            raise UsageError(
                f"a recall probe of {shortest_tokens} tokens has no room for {len(ASKED_DEPTHS)} codes; "
                f"ask for {least} tokens or more, or skip recall with {parameter('fast', True)}"
            )
        return cls(seed=seed, base_chars=base_chars, chars_per_token=chars_per_token, overhead_tokens=overhead_tokens)

    def fit(self, target_tokens: int) -> Generator[Haystack, int, Haystack]:
        """The longest haystack found whose prompt has at most `target_tokens` tokens, normally 99 % of that or more."""
        best: tuple[int, Haystack] | None = None
        # Aiming between the target and what is accepted leaves room to err on both sides.
        aim_tokens = target_tokens * (1 + _ACCEPTED_RATIO) / 2
        chars = self._chars_for(aim_tokens)
        fits, exceeds = 0, math.inf  # characters between which the answer lies
        for _ in range(_MAX_COUNTS):
            haystack = write_haystack(seed=self._seed, base_chars=self._base_chars, chars=chars)
            tokens = yield haystack
            if tokens > target_tokens:
                exceeds = min(exceeds, chars)
            elif best is None or tokens > best[0]:
                best = (tokens, haystack)
                fits = max(fits, chars)
            if best is not None and best[0] >= _ACCEPTED_RATIO * target_tokens:
                break
            self._learn(tokens, chars)
            guess = self._chars_for(aim_tokens)
            # A guess outside what is known already would be counted for nothing: the middle is taken instead.
            chars = guess if fits < guess < exceeds else round((fits + min(exceeds, 2 * chars)) / 2)
        if best is None:
            raise UsageError(f"no recall prompt of {target_tokens} tokens could be built; ask for a longer context")
        return best[1]

    def _chars_for(self, tokens: float) -> int:
        known_tokens, known_chars = self._counted
        return max(0, round(known_chars + (tokens - known_tokens) * self._chars_per_token))

    def _learn(self, tokens: int, chars: int) -> None:
        """Take the slope of the last stretch where it was long enough to tell."""
        known_tokens, known_chars = self._counted
        if abs(tokens - known_tokens) > 200:
            self._chars_per_token = (chars - known_chars) / (tokens - known_tokens)
        self._counted = (tokens, chars)
