"""ContextTester: finds one model's real context limit with few, safe loads, and proves it with a filled prompt.

The belief search (`search`) proposes, this module acts: write the intent down, load an instance of our own, read its
effective context back, settle. On the best load the context is filled for real and the model asked what was in it, at
growing lengths, which yields two numbers: what loads and prefills, and what is recalled. Only evidence about memory
moves the first; a timeout or a lost connection ends the test as what it is.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from lmstrix.core.answers.load_policy import TESTED_PREFIX
from lmstrix.core.context.machine_belief import MachineBelief
from lmstrix.core.context.probe import Measured, Prober
from lmstrix.core.context.search import ContextSearch
from lmstrix.core.context.verdict import Outcome, outcome_of
from lmstrix.core.history.journal import IntentKind, Journal, Probe
from lmstrix.core.recall.tasks import baseline_lengths, curve_lengths
from lmstrix.core.registry.registry import Configuration, ContextResult, RecallPoint
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.types import Deadlines, LoadConfig, LoadedModel, Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.ground.backend import BlockingBackend
    from lmstrix.ground.choices import Precision

INSTANCE_PREFIX = TESTED_PREFIX  # instances of any tester: what an earlier, killed run left is known by it
FLOOR_TOKENS = 1024
ALIGNMENT = 256
LEAST_READABLE_BYTES = 2 * 2**30  # below this, what other programs take and free drowns the difference
EFFECTIVE_PRECISION = 1.08  # the effective length is bracketed to within this factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model to test. `cost` predicts the bytes of a load (`approximate`: it is a guess); `ceiling` is the longest
    length worth a load; `budget_bytes` what models may take, None when nobody knows; `lazy` backends take the cache
    only as the prompt grows. Where it is not `alone`, other loaded models take memory too, and a failure says nothing
    lasting about this one.
    """

    model_key: str
    path: str
    declared: int
    ceiling: int
    cost: Callable[[int], int]
    budget_bytes: int | None
    configuration: Configuration
    approximate: bool = False
    lazy: bool = False
    architecture: str | None = None
    known_good: int | None = None
    known_bad: int | None = None
    alone: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextTestOptions:
    """How to test. `context_length` tests that one length; `question` replaces the recall questions."""

    precision: Precision = "balanced"
    context_length: int | None = None
    recall: bool = True
    question: str | None = None
    load: LoadConfig = field(default_factory=lambda: LoadConfig(context_length=None))
    deadlines: Deadlines = field(default_factory=Deadlines)
    budget_s: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing the tester does, for progress displays; `ratio` grows while it goes on, `outcome` ends it."""

    model_key: str
    kind: Literal["load", "prefill", "recall"]
    context_length: int
    ratio: float | None = None
    outcome: Outcome | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextOutcome:
    """What a test came to: the result for the registry, and what it cost."""

    result: ContextResult
    refused: str | None = None
    loads: int = 0
    failing_loads: int = 0
    seconds: float = 0.0
    steps: tuple[Step, ...] = ()
    learned: MachineBelief = field(default_factory=MachineBelief)


class _Stop(Exception):  # noqa: N818 - ends a test early; what is known so far is the result
    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class ContextTester:
    """Tests models on one backend, one at a time. `provenance` says where; `on_result` is told after every step."""

    def __init__(
        self,
        backend: BlockingBackend,
        journal: Journal,
        *,
        run_id: str,
        provenance: Provenance,
        on_step: Callable[[Step], None] | None = None,
        on_result: Callable[[Subject, ContextResult], None] | None = None,
        read_memory: Callable[[], int | None] | None = None,
    ) -> None:
        self._backend = backend
        self._journal = journal
        self._run_id = run_id
        self._provenance = provenance
        self._on_step = on_step or _ignore
        self._on_result = on_result or _ignore
        self._read_memory = read_memory or (lambda: None)
        self._loads = 0

    @property
    def instance_prefix(self) -> str:
        """How the identifiers of this run's instances begin."""
        return f"{INSTANCE_PREFIX}{self._run_id[:8]}-"

    def test(
        self, subject: Subject, options: ContextTestOptions, *, learned: MachineBelief | None = None
    ) -> ContextOutcome:
        """Test one model. Ends with a result and leaves nothing loaded, whatever happens; KeyboardInterrupt passes."""
        return _Test(self, subject, options, learned).run()

    def unload_strays(self) -> list[str]:
        """Unload whatever instances of this run are still loaded; returns their identifiers."""
        strays = [m for m in self._backend.list_loaded() if m.instance_id.startswith(self.instance_prefix)]
        for stray in strays:
            self._backend.unload(stray.instance_id, kind=stray.kind)
        return [stray.instance_id for stray in strays]


class _Test:
    """The state of one model's test."""

    def __init__(
        self, tester: ContextTester, subject: Subject, options: ContextTestOptions, learned: MachineBelief | None
    ) -> None:
        self._tester = tester
        self._backend = tester._backend
        self._subject = subject
        self._options = options
        self._started = time.perf_counter()
        self._steps: list[Step] = []
        self._instance: LoadedModel | None = None
        self._loads = 0
        self._failing = 0
        self._points: dict[int, Measured] = {}
        self._loadable: int | None = None
        self._effective: int | None = None
        self._bad: int | None = None
        self._figures: Measured | None = None
        self._memory_taken: int | None = None
        self._asked = 0
        self._resized = Outcome.OK
        self._search = ContextSearch(
            cost=subject.cost,
            declared=subject.declared,
            budget_bytes=subject.budget_bytes,
            architecture=subject.architecture or "",
            floor=min(FLOOR_TOKENS, subject.ceiling),
            ceiling=subject.ceiling,
            precision=options.precision,
            seed=options.seed,
            learned=learned,
            known_good=subject.known_good,
            known_bad=subject.known_bad,
            approximate=subject.approximate,
            lazy=subject.lazy,
        )

    def run(self) -> ContextOutcome:
        try:
            outcome, detail = self._search_and_verify()
        except _Stop as stop:
            outcome, detail = stop.outcome, stop.detail
        except KeyboardInterrupt:
            self._release()
            self._tester._on_result(self._subject, self._result(Outcome.INTERRUPTED, ""))
            raise
        except LMStrixError as exc:
            outcome, detail = outcome_of(exc, "load"), _line(exc)
        self._release()
        result = self._result(outcome, detail)
        self._tester._on_result(self._subject, result)
        return ContextOutcome(
            result=result,
            refused=self._search.refused,
            loads=self._loads,
            failing_loads=self._failing,
            seconds=time.perf_counter() - self._started,
            steps=tuple(self._steps),
            learned=self._search.learned(),
        )

    # Loads

    def _search_and_verify(self) -> tuple[Outcome, str]:
        if self._options.context_length is not None:
            return self._one_length(self._options.context_length)
        last: tuple[Outcome, str] = (Outcome.REFUSED, self._search.refused or "")
        while (length := self._search.next_load()) is not None:
            last = self._try_load(length)
        filled: tuple[int, Measured] | None = None
        while (length := self._search.next_prefill()) is not None:  # one, unless it fails or the backend is lazy
            if not self._serves(length):
                outcome, detail = self._load(length)
                if outcome is not Outcome.OK:
                    self._search.observe_prefilled(length, ok=False)
                    last = outcome, detail
                    continue
            verified = self._verify(length)
            if verified.outcome is Outcome.TRUNCATED:
                return self._conclude_truncated(verified)
            self._search.observe_prefilled(length, ok=verified.filled)
            if verified.filled:
                filled = length, verified
            else:
                last = verified.outcome, verified.reason
                self._bad = min(self._bad or length, length)
        return self._conclude(*filled) if filled is not None else last

    def _serves(self, length: int) -> bool:
        """Whether the loaded instance is for `length`: it has that context, or was asked for it and has more.

        On a lazy backend one instance serves all shorter lengths: it takes no more than the prompt needs.
        """
        if self._instance is None:
            return False
        context_length = self._instance.context_length
        if self._search.lazy:
            return context_length >= length
        return context_length == length or (self._asked == length and context_length > length)

    def _one_length(self, length: int) -> tuple[Outcome, str]:
        outcome, detail = self._load(length)
        if outcome is not Outcome.OK or self._instance is None:
            return outcome, detail
        usable = min(length, self._instance.context_length)
        verified = self._verify(usable)
        if verified.outcome is Outcome.TRUNCATED:
            return self._conclude_truncated(verified)
        if not verified.filled:
            self._bad = length
            return verified.outcome, verified.reason
        return self._conclude(usable, verified)

    def _try_load(self, length: int) -> tuple[Outcome, str]:
        outcome, detail = self._load(length)
        if outcome is Outcome.OK and self._instance is not None:
            self._search.observe_loaded(
                length, context_length=self._instance.context_length, memory_bytes=self._memory_taken
            )
        else:
            self._search.observe_failed(length)
        return outcome, detail

    def _load(self, length: int) -> tuple[Outcome, str]:
        """Load `length` in an instance of our own. Returns OK or memory evidence; anything else ends the test."""
        self._release()
        self._check_budget()
        subject, options = self._subject, self._options
        self._tester._loads += 1
        self._loads += 1
        instance_id = f"{self._tester.instance_prefix}{self._tester._loads}"
        self._say("load", length)
        telling = subject.cost(length) >= LEAST_READABLE_BYTES
        free_before = self._tester._read_memory() if telling else None
        with self._intent("load", length, subject.cost(length)) as settle:
            try:
                instance = self._backend.load(
                    subject.model_key,
                    replace(options.load, context_length=length),
                    instance_id=instance_id,
                    ttl_s=None,
                    deadlines=options.deadlines,
                    on_progress=lambda ratio: self._say("load", length, ratio=ratio),
                )
            except LMStrixError as exc:
                outcome = outcome_of(exc, "load")
                settle(outcome, detail=_line(exc))
                self._failing += 1
                self._say("load", length, outcome=outcome, detail=_line(exc))
                if not outcome.is_memory_evidence:
                    raise _Stop(outcome, _line(exc)) from exc
                self._bad = min(self._bad or length, length)
                return outcome, _line(exc)
            self._instance = instance
            settle(Outcome.OK, detail=f"effective context {instance.context_length}")
        free_after = self._tester._read_memory() if telling else None
        taken = free_before - free_after if free_before and free_after else 0
        # Where weights are mapped from the file they count as free memory: such a reading says nothing.
        self._memory_taken = taken if taken >= subject.cost(FLOOR_TOKENS) / 2 else None
        self._asked = length
        self._resized = _resize(length, instance.context_length)
        self._say("load", length, outcome=self._resized, detail=_resize_text(length, instance))
        return Outcome.OK, ""

    def _release(self) -> None:
        """Unload our instance; one that cannot be unloaded now is looked for again at the end of the run."""
        if self._instance is not None:
            instance, self._instance = self._instance, None
            with suppress(LMStrixError):
                self._backend.unload(instance.instance_id, kind=instance.kind)

    def _check_budget(self) -> None:
        spent, budget = time.perf_counter() - self._started, self._options.budget_s
        if budget is not None and spent > budget:
            raise _Stop(Outcome.TIMED_OUT, f"the time budget of {budget:g} s for this model is spent")

    # Prompts

    def _verify(self, length: int) -> Measured:
        """Fill the context of the loaded instance; on the way, measure recall at growing lengths."""
        instance = self._instance
        assert instance is not None
        options = self._options
        prober = Prober(
            self._backend,
            replace(instance, context_length=min(length, instance.context_length)),
            seed=options.seed + 1,
            deadlines=options.deadlines,
            recall=options.recall,
            question=options.question,
            on_progress=lambda ratio: self._say("prefill", length, ratio=ratio),
        )
        with self._intent("prefill", length, self._subject.cost(length)) as settle:
            self._say("prefill", length)
            full = self._fill_and_recall(prober)
            settle(full.outcome, detail=full.reason, filled=full.filled)
        self._say("prefill", length, outcome=Outcome.OK if full.filled else full.outcome, detail=full.reason)
        if not full.filled and not full.outcome.is_memory_evidence and full.outcome is not Outcome.TRUNCATED:
            raise _Stop(full.outcome, full.reason)
        return full

    def _fill_and_recall(self, prober: Prober) -> Measured:
        longest = prober.longest_tokens
        shortest = prober.shortest_tokens() if self._asks_recall else None
        if shortest is None:
            return self._point(prober.without_recall(), longest, 1.0)
        baseline = self._baseline(prober, shortest, longest)
        if baseline is None:
            return self._judgeless(prober, longest)
        for target in curve_lengths(longest, shortest_tokens=baseline.target_tokens):
            if target not in self._points:
                measured = self._point(prober, target, baseline.ratio or 1.0)
                if measured.failure is not None:
                    return measured
        self._bracket(prober, baseline.ratio or 1.0)
        return self._points[longest]

    @property
    def _asks_recall(self) -> bool:
        return self._options.recall and self._options.question is None

    def _baseline(self, prober: Prober, shortest: int, longest: int) -> Measured | None:
        """The model's own score at a short length it handles; None when it handles none."""
        for target in baseline_lengths(longest, shortest_tokens=shortest):
            measured = self._points.get(target) or self._point(prober, target, 1.0)
            if measured.passed:
                return measured
            if measured.failure is not None:
                return None
        return None

    def _judgeless(self, prober: Prober, longest: int) -> Measured:
        """Fill the context of a model (or a server) that does not answer the question even at short lengths."""
        full = self._points.get(longest) or self._point(prober, longest, 1.0)
        first = next(iter(self._points.values()))
        if first.failure is not None or not full.filled:
            return first if first.failure is not None else full
        return replace(full, outcome=Outcome.GARBAGE, reason=f"{first.reason} even at {first.target_tokens:,} tokens")

    def _point(self, prober: Prober, target: int, baseline_ratio: float) -> Measured:
        self._check_budget()
        measured = prober.measure(target, baseline_ratio=baseline_ratio)
        self._points[target] = measured
        self._figures = measured if measured.filled else self._figures
        self._say("recall", target, outcome=measured.outcome, detail=measured.reason)
        self._tester._journal.add_probe(
            Probe(
                model_path=self._subject.path,
                configuration=self._subject.configuration.key,
                context_length=target,
                passed=measured.passed,
                prompt_tokens=measured.prompt_tokens,
                score_ratio=measured.ratio,
                details={"outcome": str(measured.outcome), "reason": measured.reason, "answer": measured.answer},
            ),
            run_id=self._tester._run_id,
        )
        return measured

    def _bracket(self, prober: Prober, baseline_ratio: float) -> None:
        """Narrow the gap between the longest length that recalls and the shortest that does not, on the same load."""
        while True:
            good, bad = self._recall_edge()
            if bad is None or good is None or bad / good <= EFFECTIVE_PRECISION:
                return
            middle = int(math.sqrt(good * bad))
            measured = self._point(prober, middle, baseline_ratio)
            if measured.failure is not None:
                return

    def _recall_edge(self) -> tuple[int | None, int | None]:
        """The longest length up to which all recall, and the next one that does not."""
        good: int | None = None
        for target in sorted(self._points):
            if not self._points[target].passed and good is not None:
                return good, target
            if self._points[target].passed:
                good = target
        return good, None

    def _read_tokens(self, target: int | None) -> int | None:
        """What the server says it read of a prompt of `target` tokens, never more than that."""
        return min(target, self._points[target].prompt_tokens or target) if target is not None else None

    # Results

    def _conclude(self, length: int, full: Measured) -> tuple[Outcome, str]:
        self._loadable = length
        if (
            any(measured.ratio is not None for measured in self._points.values())
            and full.outcome is not Outcome.GARBAGE
        ):
            good, bad = self._recall_edge()
            # A model that recalls to the end of the filled prompt may use the whole context, answers included.
            self._effective = length if bad is None else self._read_tokens(good)
            if bad is not None:
                return self._points[bad].outcome, self._points[bad].reason
        if full.outcome is Outcome.OK:
            return self._resized, ""
        return full.outcome, full.reason

    def _conclude_truncated(self, full: Measured) -> tuple[Outcome, str]:
        """A server that drops text holds only what it read whole, however large a context it claims."""
        good, _ = self._recall_edge()
        self._loadable = self._effective = self._read_tokens(good)
        return full.outcome, full.reason

    def _result(self, outcome: Outcome, detail: str) -> ContextResult:
        figures = self._figures
        alone = self._subject.alone
        no_room = alone and outcome.is_memory_evidence
        conclusive = self._loadable is not None or no_room or outcome in _SAYS_SOMETHING
        return ContextResult(
            configuration=self._subject.configuration,
            outcome=str(outcome),
            tested_at=datetime.now(UTC),
            conclusive=conclusive,
            loadable_context_length=self._loadable,
            effective_context_length=self._effective,
            last_known_bad=self._bad if alone else None,
            ttft_s=figures.ttft_s if figures else None,
            prefill_tokens_per_second=figures.prefill_tokens_per_second if figures else None,
            decode_tokens_per_second=figures.decode_tokens_per_second if figures else None,
            error=detail or None,
            recall_curve=tuple(
                RecallPoint(target, measured.ratio)
                for target, measured in sorted(self._points.items())
                if measured.ratio is not None
            ),
            provenance=self._tester._provenance,
        )

    # Journal and progress

    @contextmanager
    def _intent(self, kind: IntentKind, length: int, predicted_bytes: int) -> Iterator[Callable[..., None]]:
        """An attempt, on disk before it is made. An interrupt settles it as saying nothing; a crash leaves it open."""
        journal = self._tester._journal
        intent = journal.intend(
            self._tester._run_id,
            self._subject.path,
            self._subject.configuration.key,
            kind=kind,
            context_length=length,
            predicted_bytes=predicted_bytes,
        )
        settled = False

        def settle(outcome: Outcome, *, detail: str = "", filled: bool | None = None) -> None:
            nonlocal settled
            settled = True
            good = outcome is Outcome.OK or filled is True
            bad = outcome.is_memory_evidence and self._subject.alone
            proves: Literal["good", "bad", "nothing"] = "good" if good else "bad" if bad else "nothing"
            journal.settle(intent, str(outcome), proves=proves, details={"detail": detail})

        try:
            yield settle
        finally:
            if not settled:
                journal.settle(intent, str(Outcome.INTERRUPTED), proves="nothing")

    def _say(
        self,
        kind: Literal["load", "prefill", "recall"],
        length: int,
        *,
        ratio: float | None = None,
        outcome: Outcome | None = None,
        detail: str = "",
    ) -> None:
        step = Step(
            model_key=self._subject.model_key,
            kind=kind,
            context_length=length,
            ratio=ratio,
            outcome=outcome,
            detail=detail,
        )
        if outcome is not None:
            self._steps.append(step)
        self._tester._on_step(step)


def _ignore(*_: object) -> None:
    """For callers that do not want to know."""


_SAYS_SOMETHING = (Outcome.GARBAGE, Outcome.EMPTY, Outcome.TRUNCATED, Outcome.RECALL_LOST, Outcome.OVERFLOW_REJECTED)


def _resize(asked: int, got: int) -> Outcome:
    if got == asked or 0 <= got - asked < ALIGNMENT:
        return Outcome.OK
    return Outcome.REDUCED if got < asked else Outcome.RAISED


def _resize_text(asked: int, instance: LoadedModel) -> str:
    got = instance.context_length
    return "" if got == asked else f"asked {asked:,}, loaded {got:,}"


def _line(failure: LMStrixError) -> str:
    return " ".join(str(failure).split())
