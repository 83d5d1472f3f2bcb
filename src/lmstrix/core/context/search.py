"""The search for the longest context that loads and prefills: ask, observe, ask again. Pure: no clock, no I/O.

Every question goes to the belief (`belief`). A candidate length n is worth

    holds(n) * (n - best) / likely - price * (1 - holds(n) + 4 * severe(n))

where `likely` is the length that holds with even odds, `severe` the chance of going more than 10 % over the budget
(what freezes machines) and `price` what a failure costs in units of `likely`. The candidate worth most, of those that
risk no more than `max_risk` and are expected to take no more than 1.1 times the budget, is asked while it is worth more
than the `effort` of a load.

A failure says that something is not as it was read. From then on each step is as long as a set risk allows, which in
the open is a geometric step and near the limit a short one, until what held and what failed are close together. With a
misread budget this finds the limit with three failures; a search that ends with nothing has tried the shortest length,
or was told that the model's own file is larger than the budget.

Traded away: one step is planned at a time. Instead, the first load is asked at a higher price than the others: the
memory reading it brings is worth more than the few percent it leaves for the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.context.belief import Belief
from lmstrix.core.context.candidates import LengthRange, Limits, Span, longest_at_risk, most_worth
from lmstrix.core.context.constants import BELIEF, SEARCH
from lmstrix.core.context.curve import CostCurve, aligned_below
from lmstrix.core.context.machine_belief import MachineBelief
from lmstrix.core.context.prior import BudgetReading, LoadReading, Prior
from lmstrix.core.context.strategy import EagerStrategy, LazyStrategy, Observations
from lmstrix.ground.context_lengths import FLOOR_TOKENS, aligned_down, aligned_up
from lmstrix.ground.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.ground.choices import Precision
    from lmstrix.ground.types import MemoryShortage

__all__ = ["ContextSearch"]


class ContextSearch:
    """Finds the longest context length that loads and prefills within a memory budget.

    `cost` predicts the bytes a load takes and may be wrong; `approximate` says that it is a guess. `budget_bytes` is
    what models may take, None when nobody knows. `learned` is what `learned()` of the previous search on this machine
    returned. `known_good` and `known_bad` are lengths remembered from earlier tests; the bad one is never reached.
    `touched_later` says how much of that a load has not taken before it is filled: nothing, unless given.
    `weights_bytes` is what the model takes without any context: where that fits, the shortest context is tried whatever
    is believed, and where it does not, nothing is. `told` says that the budget is the server's own word, as are its
    readings. `lazy` is for backends that take the cache only as the prompt grows: one load, then growing prefills.
    `seed` changes nothing: the belief is computed, not sampled, and equal evidence gives equal questions.

    Loads come first, then prefills: `next_load` and `next_prefill` say what to try until they say None, and the
    `observe_` methods take what happened. Only evidence about memory belongs in them.
    """

    def __init__(
        self,
        *,
        cost: Callable[[int], int],
        declared: int,
        budget_bytes: int | None,
        architecture: str = "",
        floor: int = FLOOR_TOKENS,
        ceiling: int | None = None,
        precision: Precision = "balanced",
        seed: int = 0,
        learned: MachineBelief | None = None,
        known_good: int | None = None,
        known_bad: int | None = None,
        touched_later: Callable[[int], int] | None = None,
        weights_bytes: int | None = None,
        approximate: bool = False,
        told: bool = False,
        lazy: bool = False,
    ) -> None:
        self.seed = seed
        self.refused: str | None = None
        self._appetite = SEARCH.appetites[precision]
        top = declared if ceiling is None else min(declared, ceiling)
        if known_bad is not None and known_bad <= top:
            top = aligned_below(known_bad)
        self._span = Span(floor=min(aligned_up(max(1, floor)), top), top=top)
        self._curve = CostCurve(cost, self._span.floor, top, touched_later)
        self._prior = Prior.of(
            curve=self._curve,
            budget_bytes=float(budget_bytes) if budget_bytes is not None else self._curve.total(top),
            budget_known=budget_bytes is not None,
            architecture=architecture,
            machine=learned or MachineBelief(),
            approximate=approximate,
            told=told,
        )
        self._weights_fit = None if weights_bytes is None or budget_bytes is None else weights_bytes <= budget_bytes
        self._seen = Observations(remembered=None if known_good is None else min(known_good, top))
        self._strategy = LazyStrategy(self._seen) if lazy else EagerStrategy(self._seen)
        self._loading = True
        self._was_refused = False
        self._explained_failures = 0
        self._load_s = 0.0
        self._belief: Belief | None = None

    @property
    def best(self) -> int:
        """The longest length whose prefill passed; 0 when none has."""
        return self._seen.best

    @property
    def lazy(self) -> bool:
        """Whether prefills grow on one load: the backend takes the cache with the prompt, as said or as noticed."""
        return self._strategy.lazy

    def risk(self, n: int) -> float:
        """How likely a load of `n` tokens is to fail, 0..1, by what is believed now."""
        return 1.0 - self._believe().holds(n)

    # What to try

    def next_load(self) -> int | None:
        """The next length to load, or None when no load is worth its risk any more."""
        if not self._loading:
            return None
        chosen = self._strategy.next_load(self._choose, self._span.top, self._appetite)
        self._loading = chosen is not None
        if chosen is None and not self._seen.loads:
            self.refused = self._shortfall()
        return chosen

    def next_prefill(self) -> int | None:
        """The next length to prefill: the longest that loaded, after a failure what the belief says. None: done.

        On a lazy backend lengths grow from one the belief calls safe, until no longer one is worth its risk.
        """
        self._loading = False
        if self.refused or not self._seen.loads:
            return None
        return self._strategy.next_prefill(self._choose, self._appetite)

    def load_for(self, n: int) -> int:
        """What to load to fill `n`. On a lazy backend the longest that loaded: it serves each prompt to come."""
        return max(self._seen.loaded, default=n) if self.lazy else n

    @property
    def _is_lost(self) -> bool:
        """Whether the budget read is no guide: a failure says so, or the model before has found it misread.

        Who wants the limit at any price fails all the time, and weighs on while the budget explains that.
        """
        if self._believe().is_misread:
            return True
        if self._prior.budget_seen and self._seen.failures == self._explained_failures:
            return False
        surprised = self._seen.failures > 0 and not self._appetite.climbs_back
        return surprised or self._prior.machine.is_misread

    def _choose(self, above: int) -> int | None:
        """The length over `above` and under every failure that is worth most, or None when none is worth its effort."""
        failed = self._seen.shortest_failure
        lengths = self._span.left(above=above, shortest_failure=failed)
        if lengths is None:
            return None
        belief, appetite = self._believe(), self._appetite
        if self._is_lost:
            return self._step(lengths, above)
        most_bytes = SEARCH.most_share * belief.expected_budget_bytes
        has_tried = self._strategy.held or failed is not None
        limits = Limits(
            price=appetite.price if has_tried else appetite.first_price,
            # Nothing has loaded below the first length: there any risk is weighed, and the floor is judged on its own.
            max_risk=appetite.max_risk if above else 1.0,
            most_bytes=most_bytes,
        )
        chosen = most_worth(belief, lengths, above=above, limits=limits)
        if chosen.worth > appetite.effort * self._dearness:
            return chosen.length
        if above:
            return None
        # No length is worth its price, but ending with nothing costs more: the shortest is tried unless it is hopeless.
        if self._weights_fit is not None:
            return lengths.low if self._weights_fit else None
        low = lengths.low
        sane = belief.expected_bytes(low) <= most_bytes and belief.severe(low) <= SEARCH.severe_limit
        return low if sane and belief.holds(low) >= 1 - appetite.give_up_risk else None

    @property
    def _dearness(self) -> float:
        """How much more than usual a load must promise: time is its price, and loads of this model take theirs."""
        return max(1.0, self._load_s / SEARCH.cheap_load_s)

    def _step(self, lengths: LengthRange, above: int) -> int | None:
        """The next length after a failure: as long as the risk allows, until the limit is known well enough."""
        appetite = self._appetite
        ratio, risk = SEARCH.surprised_ratio, SEARCH.surprised_risk
        if appetite.climbs_back or self._believe().is_misread:
            ratio, risk = appetite.lost_ratio, appetite.lost_risk
        if above and lengths.top <= above * ratio:
            return None
        if not appetite.climbs_back:
            risk *= SEARCH.lost_risk_fall ** max(0, self._seen.failures - 1)
            if not above and self._seen.failures >= SEARCH.lost_failures:
                risk *= SEARCH.last_risk_fall
        chosen = longest_at_risk(self._believe(), lengths, risk)
        return None if above and chosen < above * (1 + (ratio - 1) / 4 * self._dearness) else chosen

    def _shortfall(self) -> str:
        """Why nothing was tried, with the numbers."""
        if self._span.top < 1:
            return "no context length is left to try: even the shortest is known to fail"
        needed, available = self._believe().expected_bytes(self._span.floor), self._prior.budget_bytes
        short = f"about {format_bytes(needed - available)} short" if needed > available else "too close to try"
        return (
            f"{self._span.floor} tokens need about {format_bytes(needed)} of memory and {format_bytes(available)} are "
            f"available: {short}"
        )

    # What happened

    def observe_loaded(
        self,
        n: int,
        *,
        context_length: int | None = None,
        memory_bytes: int | None = None,
        exact: bool = False,
        free_bytes: int | None = None,
        seconds: float = 0.0,
    ) -> None:
        """`n` was asked and loaded in so many `seconds`, with `context_length` tokens (`n` unless said).

        The model takes `memory_bytes`, `exact` when the engine itself says so; then `free_bytes` are left.
        """
        self._load_s = max(self._load_s, seconds)
        actual = n if context_length is None else context_length
        self._belief = None
        if actual < n:
            self._span.cap(actual)
        self._seen.load_held(actual, usable=min(actual, self._span.top))
        if memory_bytes is None or self.lazy:
            return
        growth = self._curve.growth(actual)
        if not self._is_blind(growth, memory_bytes):
            self._seen.readings.append(LoadReading(growth, float(memory_bytes), exact=exact))
            # Once memory was seen to run out, what is said to be left of it says nothing.
            if free_bytes is not None and not self._prior.budget_seen:
                self._seen.budgets.append(BudgetReading(float(memory_bytes), float(free_bytes), exact=exact))
        elif self._is_judged(growth):
            # Loads prove nothing here: a longer one would hold too, and fall only when it is filled. Stay with this.
            self._strategy = LazyStrategy(self._seen)
            self._loading, self._span.top = False, self._seen.longest_loaded

    def observe_failed(self, n: int, *, shortage: MemoryShortage | None = None) -> None:
        """Loading `n` failed for lack of memory; `shortage` is what the model was seen to hold when it ran out."""
        self._belief = None
        self._seen.load_failed(n)
        self._observe_shortage(shortage)

    def observe_refused(self, n: int) -> None:
        """A guardrail refused to load `n`: it was not tried, which says nothing about memory."""
        self._belief = None
        if self._was_refused:
            self._seen.load_failed(n)  # asked nearby and refused again: now its limit is looked for like any other
            return
        # The first time, what it lets through was known and has moved a little since.
        self._was_refused = True
        self._span.cap(max(1, aligned_down(int(SEARCH.refused_share * n))))

    def observe_prefilled(
        self,
        n: int,
        *,
        ok: bool,
        prompt_tokens: int | None = None,
        memory_bytes: int | None = None,
        exact: bool = False,
        shortage: MemoryShortage | None = None,
        seconds: float = 0.0,
    ) -> None:
        """A prompt that fills `n` passed, the model then taking `memory_bytes`; or it failed for lack of memory.

        It leaves room for an answer: `prompt_tokens` of `n` are the prompt's own. `shortage` is what the model was
        seen to hold when memory ran out.
        """
        self._seen.fill_s = max(self._seen.fill_s, seconds)
        self._belief = None
        if not ok:
            self._strategy.prefill_failed(n)
            self._observe_shortage(shortage)
            return
        self._seen.prefill_held(n)
        # A lazy backend takes memory for the prompt and not for the context around it.
        held = n if prompt_tokens is None or not self.lazy else min(n, prompt_tokens)
        growth = self._curve.growth(held)
        if memory_bytes is None or self._is_blind(growth, memory_bytes):
            return
        # What a lazy backend took for reading may be given back before anybody looks: to believe such a figure would
        # promise lengths that kill it.
        if exact or not self.lazy or memory_bytes >= self._curve.total(held):
            self._seen.readings.append(LoadReading(growth, float(memory_bytes), filled=True, exact=exact))

    def _observe_shortage(self, shortage: MemoryShortage | None) -> None:
        """Believe what was seen instead of what was read; a failure that this explains is no surprise any more."""
        # Less than a filled context has held was not the end of memory: it was seen too late, on a busy machine.
        held = max((reading.memory_bytes for reading in self._seen.readings if reading.filled), default=0.0)
        if shortage is None or shortage.held_bytes < held:
            return
        self._prior = self._prior.after_shortage(shortage)
        self._seen.budgets.clear()
        self._explained_failures = self._seen.failures

    def learned(self) -> MachineBelief:
        """What this model and those before it taught about the machine: for the next search, and to be kept."""
        # Without a reading the posterior is the prior bent by the odds of a few yes and no: that teaches noise.
        taught = self._seen.readings or self._prior.budget_seen or self._believe().is_misread
        return self._believe().taught() if taught else self._prior.machine

    # Inside

    def _is_judged(self, growth: float) -> bool:
        """Whether the context takes enough of the budget for a reading that lacks it to mean something."""
        return growth > SEARCH.judged_share * self._prior.budget_bytes

    def _is_blind(self, growth: float, memory_bytes: float) -> bool:
        """Whether the reading lacks the model, or most of a context too large to overlook."""
        fixed = self._curve.fixed_bytes
        lacks_model = memory_bytes - fixed < -SEARCH.missing_model_share * fixed
        lacks_context = memory_bytes - fixed < SEARCH.unseen_share * growth - BELIEF.reading_share * memory_bytes
        return lacks_model or (self._is_judged(growth) and lacks_context)

    def _believe(self) -> Belief:
        if self._belief is None:  # weighing the hypotheses costs milliseconds: once per observation, not per question
            # Loads that held beyond what memory was seen to be have not touched it: they prove nothing.
            loads = () if self._prior.budget_seen else self._strategy.proving_loads
            self._belief = Belief(self._prior, self._seen.evidence(loads))
        return self._belief
