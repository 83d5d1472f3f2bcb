"""Fills the context of a loaded instance for real, and on the way measures recall at growing lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.context.probe import Measured, Prober
from lmstrix.core.context.recall_curve import RecallCurve
from lmstrix.core.context.spill import find_spill
from lmstrix.core.context.verdict import EndOfTest, Outcome
from lmstrix.core.recall.tasks import baseline_lengths, curve_lengths

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.context.logbook import Logbook
    from lmstrix.core.context.report import ContextTestOptions
    from lmstrix.core.context.spill import Spill
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.types import LoadedModel

_FIRST_STEP = 1.25  # two texts seldom end further apart; squared each time they do


class Verification:
    """One model's prompts. `curve` outlives an instance: what a shorter prompt came to is not asked twice.

    Where recall ends depends on the text, by a tenth and more. So an end inside the context is looked for a second time
    with another text, `second_curve`; a model that recalls to the end of the context pays for no second one.
    """

    def __init__(
        self,
        backend: ModelBackend,
        logbook: Logbook,
        options: ContextTestOptions,
        *,
        decode_work: Callable[[int], float],
    ) -> None:
        self._backend = backend
        self._decode_work = decode_work
        self._logbook = logbook
        self._options = options
        self.curve = RecallCurve()
        self.second_curve: RecallCurve | None = None

    @property
    def recalled_range(self) -> tuple[int, int] | None:
        """Up to where the two texts were recalled, the lower first; None where only one was asked about."""
        if self.second_curve is None:
            return None
        first, second = self.curve.recalled_tokens, self.second_curve.recalled_tokens
        return None if first is None or second is None else (min(first, second), max(first, second))

    async def verify(self, instance: LoadedModel, length: int) -> Measured:
        """Fill `length` tokens. Returns what held, memory evidence or truncation; anything else ends the test."""
        options = self._options
        prober = Prober(
            self._backend,
            replace(instance, context_length=min(length, instance.context_length)),
            seed=options.seed + 1,
            deadlines=options.deadlines,
            recall=options.recall,
            question=options.question,
            on_reading=lambda target, ratio: self._logbook.step("prefill", target, ratio=ratio),
            on_answering=self._logbook.answering,
        )
        with self._logbook.intent("prefill", length) as intent:
            self._logbook.step("prefill", length)
            self.curve.prepare_for(prober.longest_tokens)
            full = await self._fill_and_recall(prober)
            intent.settle(full.outcome, detail=full.reason, filled=full.filled)
        self._logbook.step("prefill", length, outcome=Outcome.OK if full.filled else full.outcome, detail=full.reason)
        # A timeout or a lost connection would come again at any length, and says nothing about this one.
        if not full.filled and not full.outcome.rules_out_the_length and full.outcome is not Outcome.TRUNCATED:
            raise EndOfTest(full.outcome, full.reason)
        return full

    async def _fill_and_recall(self, prober: Prober) -> Measured:
        longest = prober.longest_tokens
        asks_recall = self._options.recall and self._options.question is None
        shortest = await prober.shortest_tokens() if asks_recall else None
        if shortest is None:
            return await self._measure(prober.without_recall(), longest, 1.0)
        baseline = await self._baseline(prober, shortest, longest)
        if baseline is None:
            return await self._fill_unjudged(prober, longest)
        if baseline.failure is not None:
            return baseline
        # A score of none at all would make every later length pass.
        baseline_ratio = baseline.ratio or 1.0
        for target in curve_lengths(longest, shortest_tokens=baseline.target_tokens):
            # Measured on an earlier load that could not be filled to its end: the same prompt comes to the same.
            if target not in self.curve:
                measured = await self._measure_at_speed(prober, target, baseline_ratio)
                if measured.failure is not None or measured.outcome is Outcome.SPILLED:
                    return measured
        await self._narrow_edge(self.curve, prober, baseline_ratio)
        await self._recall_another_text(prober.with_other_text(), baseline_ratio)
        return self.curve[longest]

    async def _baseline(self, prober: Prober, shortest: int, longest: int) -> Measured | None:
        """The model's own score at a short length it handles, or what failed there; None when it handles none."""
        for target in baseline_lengths(longest, shortest_tokens=shortest):
            measured = self.curve.get(target) or await self._measure(prober, target, 1.0)
            if measured.passed or measured.failure is not None:
                return measured
        return None

    async def _fill_unjudged(self, prober: Prober, longest: int) -> Measured:
        """Fill the context of a model (or a server) that does not answer the question even at short lengths."""
        full = self.curve.get(longest) or await self._measure_at_speed(prober, longest, 1.0)
        if not full.filled:
            return full
        first = self.curve.first
        return replace(full, outcome=Outcome.GARBAGE, reason=f"{first.reason} even at {first.target_tokens:,} tokens")

    async def _recall_another_text(self, prober: Prober, baseline_ratio: float) -> None:
        """Find where recall of another text ends, on the same load, from where that of the first one ended."""
        good, bad = self.curve.edge()
        if good is None or bad is None or self.curve[bad].outcome is not Outcome.RECALL_LOST:
            return  # to the end of the context, or something else than recall came to an end
        shortest = await prober.shortest_tokens()
        if shortest is None or self.second_curve is not None:
            return
        curve = RecallCurve()
        await self._step_from(good, curve, prober, baseline_ratio, shortest)
        await self._narrow_edge(curve, prober, baseline_ratio)
        if curve.is_answered:
            self.second_curve = curve

    async def _step_from(
        self, target: int, curve: RecallCurve, prober: Prober, baseline_ratio: float, shortest: int
    ) -> None:
        """Measure at `target` and ever further away from it, up or down, until recall ends or begins."""
        measured = first = await self._measure(prober, target, baseline_ratio, curve)
        end, step = prober.longest_tokens if first.passed else shortest, _FIRST_STEP
        while measured.failure is None and measured.passed == first.passed and target != end:
            target = min(end, int(target * step)) if first.passed else max(end, int(target / step))
            measured = await self._measure(prober, target, baseline_ratio, curve)
            step *= step

    async def _narrow_edge(self, curve: RecallCurve, prober: Prober, baseline_ratio: float) -> None:
        """Narrow the gap between the longest length that recalls and the shortest that does not, on the same load."""
        while (middle := curve.inside_edge()) is not None:
            measured = await self._measure(prober, middle, baseline_ratio, curve)
            if measured.failure is not None:
                return

    async def _measure_at_speed(self, prober: Prober, target: int, baseline_ratio: float) -> Measured:
        """The same as `_measure`, but a length at which memory has spilled is not kept, and its outcome says so."""
        measured = await self._measure(prober, target, baseline_ratio)
        spill = None if measured.speed is None else find_spill(measured.speed, self.curve.speeds, self._decode_work)
        if spill is None or not measured.filled:
            return measured
        # Something else may have kept the machine busy: asked again, the two must differ as much. Both prompts are in
        # the server's cache; the longer one goes first, as the question of the shorter one pushes its end out.
        again = await self._measure(prober, target, baseline_ratio)
        shorter = await self._measure(prober, self.curve.target_of(spill.fast), baseline_ratio)
        spill = self._confirmed(measured, again, shorter)
        if spill is None:
            return again if shorter.failure is None else shorter
        self.curve.forget(target)
        return replace(again, outcome=Outcome.SPILLED, reason=str(spill))

    def _confirmed(self, measured: Measured, again: Measured, shorter: Measured) -> Spill | None:
        if not again.filled or measured.speed is None or again.speed is None or shorter.speed is None:
            return None
        slow = max(measured.speed, again.speed, key=lambda speed: speed.tokens_per_second)
        return find_spill(slow, [shorter.speed], self._decode_work)

    async def _measure(
        self, prober: Prober, target: int, baseline_ratio: float, curve: RecallCurve | None = None
    ) -> Measured:
        measured = await prober.measure(target, baseline_ratio=baseline_ratio)
        curve = self.curve if curve is None else curve
        curve.add(measured)
        self._logbook.step("recall", target, outcome=measured.outcome, detail=measured.reason)
        self._logbook.probe(measured, text=1 if curve is self.curve else 2)
        return measured
