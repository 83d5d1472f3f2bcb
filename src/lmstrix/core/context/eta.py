"""How long tests will still take, by sizes and measured speeds. Pure: moments of one clock are handed in.

A test loads, then sends growing prompts that share their beginning, so that a server with a prefix cache reads each
token once. What one prompt takes follows a power law through the last two that were measured; before any was, the
speeds of earlier tests stand in, those of other models scaled by size. What cannot be told from either is None.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from lmstrix.core.context.probe import answer_room
from lmstrix.core.context.verdict import Outcome
from lmstrix.core.recall.tasks import BASELINE_TOKENS, curve_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lmstrix.core.context.report import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class _EtaConstants:
    answer_tokens: int = 100  # eight numbered keys with six digits each, as the demo model writes them
    narrowing_prompts: int = 4  # halvings from a factor of two to the 8 % that the end of recall is told within
    least_ratio: float = 0.03  # progress below this is too little to tell a pace by
    exponents: tuple[float, float] = (0.5, 2.0)  # of prompts mostly answering, and of prompts mostly attention
    overrun: float = 2.0  # times its expected length, after which a step is taken to be misjudged
    samples: int = 9  # the latest measurements of a kind that count: a disk cache makes old ones wrong


ETA = _EtaConstants()


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """How fast a model was seen to read and write; None where it was not."""

    prefill_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTest:
    """A test to come: a load of `context_length` tokens is expected to hold, and `cost` predicts a load's bytes.

    `speeds` are those of an earlier test of this model, on this machine.
    """

    size_bytes: int
    context_length: int
    cost: Callable[[int], int]
    recall: bool
    speeds: Speeds = Speeds()


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLeft:
    """Predicted seconds until a model's test ends, and until all tests of the run have; None where nobody can tell."""

    model_s: float | None = None
    all_s: float | None = None


class MachinePace:
    """What a machine was seen to do, whatever the model: loaded bytes per second, and tokens times bytes per second.

    The latter because each token passes through all weights: half the size is twice the speed.
    """

    def __init__(self) -> None:
        self._loads: deque[float] = deque(maxlen=ETA.samples)
        self._prefills: deque[float] = deque(maxlen=ETA.samples)
        self._decodes: deque[float] = deque(maxlen=ETA.samples)

    def note_load(self, load_bytes: int, seconds: float) -> None:
        if load_bytes > 0 and seconds > 0:
            self._loads.append(load_bytes / seconds)

    def note_speeds(self, size_bytes: int, speeds: Speeds) -> None:
        if speeds.prefill_tokens_per_second:
            self._prefills.append(speeds.prefill_tokens_per_second * size_bytes)
        if speeds.decode_tokens_per_second:
            self._decodes.append(speeds.decode_tokens_per_second * size_bytes)

    def load_s(self, load_bytes: int) -> float | None:
        return load_bytes / median(self._loads) if self._loads else None

    def speeds(self, test: ExpectedTest) -> Speeds:
        """The model's own, else what others let expect of its size."""
        size = max(test.size_bytes, 1)
        prefill = median(self._prefills) / size if self._prefills else None
        decode = median(self._decodes) / size if self._decodes else None
        return Speeds(
            prefill_tokens_per_second=test.speeds.prefill_tokens_per_second or prefill,
            decode_tokens_per_second=test.speeds.decode_tokens_per_second or decode,
        )


class ModelForecast:
    """One model's test while it runs."""

    def __init__(self, test: ExpectedTest, pace: MachinePace) -> None:
        self._test = test
        self._pace = pace
        self._prompts = prompt_lengths(test.context_length, recall=test.recall)
        self._load_length: int | None = test.context_length  # None once it is loaded
        self._began_s: float | None = None  # the step under way
        self._ratio = 0.0
        self._measured: list[tuple[int, float]] = []  # prompts and what each took, in order
        self._lost: int | None = None  # the shortest prompt whose codes were not recalled, after one whose were
        self._recalled = False

    def note(self, step: Step, at_s: float) -> None:
        """A step began, went on, or ended."""
        if step.kind == "load":
            self._note_load(step, at_s)
        elif step.kind == "recall" and step.outcome is not None:
            self._note_prompt(step.context_length, step.outcome, at_s)
        elif step.outcome is None:
            # Only reading is told in ratios that mean time: how long an answer gets is not known before its end.
            self._ratio = (step.ratio or 0.0) if step.kind == "prefill" else 0.0
            self._began_s = at_s if self._began_s is None else self._began_s

    def _note_load(self, step: Step, at_s: float) -> None:
        if step.outcome is None:
            if self._load_length != step.context_length or not step.ratio:
                self._begin_load(step.context_length, at_s)
            self._ratio = step.ratio or 0.0
            return
        if step.outcome is not None and step.outcome.has_loaded and self._began_s is not None:
            self._pace.note_load(self._test.cost(step.context_length), at_s - self._began_s)
            self._load_length = None
        self._began_s, self._ratio = None, 0.0

    def _begin_load(self, length: int, at_s: float) -> None:
        self._load_length, self._began_s = length, at_s
        self._prompts = prompt_lengths(length, recall=self._test.recall)

    def _note_prompt(self, target: int, outcome: Outcome, at_s: float) -> None:
        if self._began_s is not None:
            self._measured.append((target, at_s - self._began_s))
        if outcome is Outcome.OK:
            self._recalled = True
        elif self._recalled and self._lost is None:
            self._lost = target
        # The next prompt begins where this one ended: servers tell of its progress only later.
        self._began_s, self._ratio = at_s, 0.0

    def left_s(self, at_s: float) -> float | None:
        """Seconds until the test ends; None where that cannot be told."""
        spent_s = at_s - self._began_s if self._began_s is not None else 0.0
        if self._load_length is None:
            return self._filling_s(spent_s)
        loading_s = self._paced_s(spent_s)
        if loading_s is None:
            expected_s = self._pace.load_s(self._test.cost(self._load_length))
            if expected_s is not None and spent_s <= ETA.overrun * expected_s:
                loading_s = max(expected_s - spent_s, 0.0)
        filling_s = self._filling_s(0.0, ratio=0.0)
        return None if loading_s is None or filling_s is None else loading_s + filling_s

    def _paced_s(self, spent_s: float) -> float | None:
        """What is left of the step under way at its own pace."""
        return spent_s / self._ratio * (1.0 - self._ratio) if self._ratio >= ETA.least_ratio else None

    def _filling_s(self, spent_s: float, *, ratio: float | None = None) -> float | None:
        longest_done = max((target for target, _ in self._measured), default=0)
        left = [target for target in self._prompts if target > longest_done]
        paced_s = self._paced_s(spent_s) if ratio is None else None
        seconds = self._law(left, spent_s + paced_s if paced_s is not None else None)
        if seconds is None:
            return None
        narrowing_s = self._narrowing_s(seconds)
        if not left:
            return narrowing_s
        expected_s = seconds(left[0])
        # A prompt that takes far longer than expected shows that the expectation was wrong.
        if paced_s is None and spent_s > ETA.overrun * expected_s:
            return None
        current_s = max(expected_s - spent_s, paced_s or 0.0)
        return current_s + sum(map(seconds, left[1:])) + narrowing_s

    def _narrowing_s(self, seconds: Callable[[int], float]) -> float:
        """What finding the end of recall will still take; it begins once the longest prompt is through."""
        if self._lost is None:
            return 0.0
        targets = [target for target, _ in self._measured]
        done = len(targets) - 1 - targets.index(self._prompts[-1]) if self._prompts[-1] in targets else 0
        return seconds(self._lost) * max(ETA.narrowing_prompts - done, 0)

    def _law(self, left: list[int], current_s: float | None) -> Callable[[int], float] | None:
        """What a prompt of so many tokens takes: by those measured, by speeds, or by the pace of the present one."""
        if self._measured:
            return _power_law(self._measured)
        speeds = self._pace.speeds(self._test)
        if speeds.prefill_tokens_per_second:
            return _by_speeds(self._prompts, speeds)
        # Of several prompts the first is too short to tell about the longest.
        if current_s is not None and len(left) == 1:
            return _power_law([(left[0], current_s)])
        return None


class RunForecast:
    """All tests of a run: the one under way (`begin`, `note`, `end`) and those that wait, by path."""

    def __init__(self, tests: Mapping[str, ExpectedTest], pace: MachinePace) -> None:
        self._waiting = dict(tests)
        self._pace = pace
        self._test: ExpectedTest | None = None
        self._forecast: ModelForecast | None = None

    def begin(self, path: str) -> None:
        """A model's turn has come."""
        self._test = self._waiting.pop(path)
        self._forecast = ModelForecast(self._test, self._pace)

    def note(self, step: Step, at_s: float) -> None:
        if self._forecast is not None:
            self._forecast.note(step, at_s)

    def end(self, speeds: Speeds) -> None:
        """The model's test is over; what it was seen to do counts for the rest."""
        if self._test is not None:
            self._pace.note_speeds(self._test.size_bytes, speeds)
        self._test = self._forecast = None

    def left(self, at_s: float) -> TimeLeft:
        model_s = self._forecast.left_s(at_s) if self._forecast is not None else None
        waiting_s = [ModelForecast(test, self._pace).left_s(at_s) for test in self._waiting.values()]
        known_s = [seconds for seconds in (model_s, *waiting_s) if seconds is not None]
        # One test of unknown length makes the sum unknown: a sum of the others would promise too early an end.
        return TimeLeft(model_s=model_s, all_s=sum(known_s) if len(known_s) == 1 + len(waiting_s) else None)


def prompt_lengths(context_length: int, *, recall: bool) -> tuple[int, ...]:
    """The prompts that fill a context of so many tokens."""
    longest = context_length - answer_room(context_length)
    return curve_lengths(longest, shortest_tokens=min(BASELINE_TOKENS, longest)) if recall else (longest,)


def _power_law(measured: list[tuple[int, float]]) -> Callable[[int], float]:
    """Through the last prompt and the longest shorter one; in proportion to length where there is one alone."""
    tokens, seconds = measured[-1]
    before = max(((t, s) for t, s in measured if t < tokens and s > 0), default=None)
    exponent = 1.0
    if before is not None and seconds > 0:
        least, most = ETA.exponents
        exponent = min(max(math.log(seconds / before[1]) / math.log(tokens / before[0]), least), most)
    return lambda target: seconds * (target / tokens) ** exponent


def _by_speeds(prompts: tuple[int, ...], speeds: Speeds) -> Callable[[int], float]:
    """Each prompt reads what it has beyond the one before, and is answered."""
    prefill, decode = speeds.prefill_tokens_per_second, speeds.decode_tokens_per_second
    assert prefill
    answering_s = ETA.answer_tokens / decode if decode else 0.0
    shorter = dict(zip(prompts, (0, *prompts), strict=False))
    return lambda target: (target - shorter.get(target, 0)) / prefill + answering_s
