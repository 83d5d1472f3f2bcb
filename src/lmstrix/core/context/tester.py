"""ContextTester: finds one model's real context limit with few, safe loads, and proves it with a filled prompt.

The belief search (`search`) proposes, this module acts: `attempts` writes the intent down, loads an instance of our
own and reads its effective context back; on the best load `verification` fills the context for real and asks the model
what was in it, at growing lengths. That yields two numbers: what loads and prefills, and what is recalled. Only
evidence about memory moves the first; a timeout or a lost connection ends the test as what it is.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmstrix.core.answers.load_policy import TESTED_PREFIX
from lmstrix.core.context.attempts import LoadAttempts
from lmstrix.core.context.ended import FinishedTest, what_ended
from lmstrix.core.context.logbook import Logbook
from lmstrix.core.context.machine_belief import MachineBelief
from lmstrix.core.context.probe import Measured, answer_room
from lmstrix.core.context.report import ContextOutcome
from lmstrix.core.context.search import ContextSearch
from lmstrix.core.context.time_budget import TimeBudget
from lmstrix.core.context.verdict import Ending, EndOfTest, Outcome, outcome_of
from lmstrix.core.context.verification import Verification
from lmstrix.core.history.conditions import UNKNOWN, Conditions
from lmstrix.core.registry.results import ContextResult
from lmstrix.ground.context_lengths import FLOOR_TOKENS
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.text import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lmstrix.core.context.attempts import WatchLog
    from lmstrix.core.context.report import ContextTestOptions, Step, Subject
    from lmstrix.core.history.journal import Journal
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.choices import EndedBy
    from lmstrix.ground.loads import Provenance

_SAYS_SOMETHING = (Outcome.GARBAGE, Outcome.EMPTY, Outcome.TRUNCATED, Outcome.RECALL_LOST, Outcome.OVERFLOW_REJECTED)


class ContextTester:
    """Tests models on one backend, one at a time. `provenance` says where; `on_result` is told after every model.

    `read_conditions` says what a load is about to depend on, `watch_log` what the server logs of it.
    """

    def __init__(
        self,
        backend: ModelBackend,
        journal: Journal,
        *,
        run_id: str,
        provenance: Provenance,
        on_step: Callable[[Step], None] | None = None,
        on_result: Callable[[Subject, ContextResult], None] | None = None,
        read_memory: Callable[[], int | None] | None = None,
        read_conditions: Callable[[], Awaitable[Conditions]] | None = None,
        watch_log: WatchLog | None = None,
    ) -> None:
        self._backend = backend
        self._journal = journal
        self._run_id = run_id
        self._provenance = provenance
        self._on_step = on_step or _ignore
        self._on_result = on_result or _ignore
        self._read_memory = read_memory or (lambda: None)
        self._read_conditions = read_conditions or _unknown_conditions
        self._watch_log = watch_log
        self._instances = 0

    @property
    def instance_prefix(self) -> str:
        """How the identifiers of this run's instances begin."""
        return f"{TESTED_PREFIX}{self._run_id[:8]}-"

    async def test(
        self, subject: Subject, options: ContextTestOptions, *, learned: MachineBelief | None = None
    ) -> ContextOutcome:
        """Test one model. Ends with a result and leaves nothing loaded; cancelled, it does so too and then goes."""
        from asyncio import CancelledError  # here, as a dry run imports this module and needs no loop

        time_budget = TimeBudget(options.budget_s)

        def hear(step: Step) -> None:
            if step.kind == "prefill":
                test.attempts.watch_fill()
            self._on_step(step)

        logbook = Logbook(self._journal, self._run_id, subject, hear)
        test = _ModelTest(
            subject,
            options,
            learned=learned or MachineBelief(),
            logbook=logbook,
            time_budget=time_budget,
            attempts=LoadAttempts(
                self._backend,
                logbook,
                subject,
                options,
                new_instance_id=self._new_instance_id,
                read_memory=self._read_memory,
                read_conditions=self._read_conditions,
                watch_log=self._watch_log,
            ),
            verification=Verification(self._backend, logbook, options, decode_work=subject.decode_work),
        )
        ending = Ending(Outcome.INTERRUPTED)
        try:
            ending = await test.run(time_budget)
            await test.attempts.release()
        except CancelledError:
            # A cancellation is delivered once: what is awaited from here on runs as if nothing had happened.
            try:
                await test.attempts.release()
            finally:
                self._on_result(subject, test.result(ending, self._provenance))
            raise
        result = test.result(ending, self._provenance)
        self._on_result(subject, result)
        return ContextOutcome(
            result=result,
            refused=test.search.refused,
            loads=test.attempts.loads,
            failing_loads=test.attempts.failing,
            failing_prefills=test.failing_prefills,
            elapsed_s=time_budget.spent_s,
            steps=tuple(logbook.steps),
            learned=test.learned(),
        )

    async def unload_strays(self) -> list[str]:
        """Unload whatever instances of this run are still loaded; returns their identifiers."""
        strays = [m for m in await self._backend.list_loaded() if m.instance_id.startswith(self.instance_prefix)]
        for stray in strays:
            await self._backend.unload(stray.instance_id, kind=stray.kind)
        return [stray.instance_id for stray in strays]

    def _new_instance_id(self) -> str:
        self._instances += 1
        return f"{self.instance_prefix}{self._instances}"


class _ModelTest:
    """One model's test: asks the search, does what it says, and keeps the lengths that are its result."""

    def __init__(
        self,
        subject: Subject,
        options: ContextTestOptions,
        *,
        learned: MachineBelief,
        logbook: Logbook,
        time_budget: TimeBudget,
        attempts: LoadAttempts,
        verification: Verification,
    ) -> None:
        self._subject = subject
        self._logbook = logbook
        self._time_budget = time_budget
        self.search = _search(subject, options, learned)
        self._known_before = learned
        self._was_refused = False
        self.attempts = attempts
        self._options = options
        self._verification = verification
        self.failing_prefills = 0
        self._filled: tuple[int, Measured] | None = None
        self._loadable: int | None = None
        self._effective: int | None = None
        self._effective_range: tuple[int, int] | None = None
        self._shortest_bad: int | None = None
        self._spill: str | None = None
        self._verified: list[int] = []  # the lengths whose filling began

    async def run(self, time_budget: TimeBudget) -> Ending:
        """Search and verify, or try the one length asked for. Failures of the server are endings too."""
        try:
            async with time_budget.enforced():
                if self._options.context_length is not None:
                    return await self._try_one_length(self._options.context_length)
                return await self._search_and_verify()
        except EndOfTest as end:
            if time_budget.ran_out:
                self._keep_what_was_filled()
            return end.ending
        except LMStrixError as exc:
            return Ending(outcome_of(exc, "load"), one_line(exc))

    async def _search_and_verify(self) -> Ending:
        last = await self._search_by_loads()
        while (length := self.search.next_prefill()) is not None:  # one, unless it fails or the backend is lazy
            if not self.attempts.serves(length, lazy=self.search.lazy):
                wanted = self.search.load_for(length)
                ending = await self._load(wanted)
                if ending.outcome is not Outcome.OK:
                    await self._observe_failed_load(wanted, ending)
                    last = ending
                    continue
            began_at_s = time.perf_counter()
            verified = await self._verify(length)
            if verified.outcome is Outcome.TRUNCATED:
                return self._end_truncated(verified)
            seconds = time.perf_counter() - began_at_s
            taken = await self.attempts.read_filled() if verified.filled else None
            self.search.observe_prefilled(
                length,
                ok=verified.filled,
                prompt_tokens=verified.prompt_tokens,
                memory_bytes=taken.memory_bytes if taken else None,
                exact=taken is not None and taken.exact,
                shortage=None if verified.filled else await self.attempts.shortage(),
                seconds=seconds,
            )
            if verified.filled:
                self._filled = length, verified
            else:
                last = Ending(verified.outcome, verified.reason)
                self._note_bad(length, verified.outcome)
                # The engine may have died of it, and what it leaves would serve no shorter prompt.
                await self.attempts.release()
        return self._end_filled(*self._filled) if self._filled is not None else last

    async def _search_by_loads(self) -> Ending:
        last = Ending(Outcome.REFUSED, self.search.refused or "")
        while (length := self.search.next_load()) is not None:
            last = await self._load(length)
            if last.outcome is Outcome.OK:
                held = self.attempts.latest
                assert held is not None
                self.search.observe_loaded(
                    length,
                    context_length=held.given,
                    memory_bytes=held.memory_bytes,
                    exact=held.exact,
                    free_bytes=held.free_bytes if held.exact else None,
                    seconds=held.seconds,
                )
            else:
                await self._observe_failed_load(length, last)
        return last

    async def _observe_failed_load(self, length: int, ending: Ending) -> None:
        if ending.outcome is Outcome.REFUSED:
            self._was_refused = True
            self.search.observe_refused(length)
        else:
            self.search.observe_failed(length, shortage=await self.attempts.shortage())

    def learned(self) -> MachineBelief:
        """What the search taught about the machine's memory; nothing where a guardrail answered in its place."""
        return self._known_before if self._was_refused else self.search.learned()

    async def _try_one_length(self, length: int) -> Ending:
        ending = await self._load(length)
        if ending.outcome is not Outcome.OK:
            return ending
        assert self.attempts.latest is not None
        usable = min(length, self.attempts.latest.given)
        verified = await self._verify(usable)
        if verified.outcome is Outcome.TRUNCATED:
            return self._end_truncated(verified)
        if not verified.filled:
            self._note_bad(length, verified.outcome)
            return Ending(verified.outcome, verified.reason)
        return self._end_filled(usable, verified)

    async def _load(self, length: int) -> Ending:
        ending = await self.attempts.load(length)
        if ending.outcome is not Outcome.OK:
            self._note_bad(length, ending.outcome)
        return ending

    async def _verify(self, length: int) -> Measured:
        assert self.attempts.instance is not None
        self._verified.append(length)
        try:
            verified = await self._verification.verify(self.attempts.instance, length)
        except LMStrixError as exc:  # before anything was sent: the prompt is cut to size by the model's own count
            outcome, reason = outcome_of(exc, "prefill"), one_line(exc)
            if not outcome.rules_out_the_length:
                raise EndOfTest(outcome, reason) from exc
            self._logbook.step("prefill", length, outcome=outcome, detail=reason)
            verified = Measured(target_tokens=length, outcome=outcome, reason=reason, failure=exc)
        if verified.outcome.rules_out_the_length:
            self.failing_prefills += 1
        if verified.outcome is Outcome.SPILLED:
            self._spill = verified.reason
        return verified

    def _note_bad(self, length: int, outcome: Outcome) -> None:
        if outcome.is_memory_evidence:
            self._shortest_bad = min(self._shortest_bad or length, length)

    # Endings

    def _end_filled(self, length: int, full: Measured) -> Ending:
        self._loadable = length
        curve = self._verification.curve
        if curve.is_scored and full.outcome is not Outcome.GARBAGE:
            bad = curve.edge().bad
            if bad is not None:
                self._effective_range = self._verification.recalled_range
                # Of two texts the one recalled less far says what to use.
                self._effective = self._effective_range[0] if self._effective_range else curve.recalled_tokens
                return Ending(curve[bad].outcome, curve[bad].reason)
            # A model that recalls to the end of the filled prompt may use the whole context, answers included.
            self._effective = length
        if full.outcome is Outcome.OK:
            assert self.attempts.latest is not None
            loaded = self.attempts.latest.ending(self._subject)
            # What a runtime's choice means, and what to do about it, is more than its name says.
            return loaded if loaded.outcome is Outcome.CONTEXT_IGNORED else Ending(loaded.outcome)
        return Ending(full.outcome, full.reason)

    def _end_truncated(self, full: Measured) -> Ending:
        """A server that drops text holds only what it read whole, however large a context it claims."""
        curve = self._verification.curve
        longest = curve.longest_filled
        self._loadable = None if longest is None else curve.tokens_read(longest)
        self._effective = curve.recalled_tokens
        return Ending(full.outcome, full.reason)

    def _keep_what_was_filled(self) -> None:
        """Prompts that were answered before the time was up prove as much of a context as they filled."""
        curve = self._verification.curve
        longest = curve.longest_filled
        if longest is None:
            return
        # A context whose longest prompt was answered is filled; what that prompt leaves free is for the answer.
        whole = [length for length in self._verified if length - answer_room(length) <= longest]
        self._loadable = max(whole, default=curve.tokens_read(longest))
        if curve.is_scored:
            self._effective = self._loadable if curve.edge().good == longest else curve.recalled_tokens

    def result(self, ending: Ending, provenance: Provenance) -> ContextResult:
        """What is known so far, for the registry, of a test that ended so."""
        if self._loadable is None and self._filled is not None:
            self._end_filled(*self._filled)  # cut short, by a failure or the user: what had passed until then stands
        alone = self._subject.alone
        # Beside other models a failure for lack of memory says nothing lasting: the next test finds more room, or less.
        no_room = alone and ending.outcome.rules_out_the_length
        conclusive = self._loadable is not None or no_room or ending.outcome in _SAYS_SOMETHING
        figures = self._verification.curve.figures
        ended_by = self._ended_by(ending.outcome)
        return ContextResult(
            configuration=self._subject.configuration,
            outcome=str(ending.outcome),
            tested_at=datetime.now(UTC),
            conclusive=conclusive,
            ended_by=ended_by,
            ended_detail=self._spill if ended_by == "memory_spilled" else None,
            loadable_context_length=self._loadable,
            effective_context_length=self._effective,
            effective_range=self._effective_range,
            last_known_bad=self._shortest_bad if alone else None,
            ttft_s=figures.ttft_s if figures else None,
            prefill_tokens_per_second=figures.prefill_tokens_per_second if figures else None,
            decode_tokens_per_second=figures.decode_tokens_per_second if figures else None,
            error=ending.detail or None,
            recall_curve=self._verification.curve.points(),
            provenance=provenance,
            # What failed in this test lies below, and is what ended it.
            capped_by=self._subject.known_bad if self._shortest_bad is None else None,
            free_bytes=self.attempts.free_bytes,
        )

    def _ended_by(self, outcome: Outcome) -> EndedBy | None:
        return what_ended(
            FinishedTest(
                outcome=outcome,
                loadable=self._loadable,
                effective=self._effective,
                ceiling=self._options.context_length or self._subject.ceiling,
                ceiling_by=self._subject.ceiling_by,
                given=self.attempts.latest.given if self.attempts.latest else None,
                steps=self._logbook.steps,
                lazy=self.search.lazy,
                budget_spent=self._time_budget.ran_out,
            )
        )


def _search(subject: Subject, options: ContextTestOptions, learned: MachineBelief) -> ContextSearch:
    return ContextSearch(
        cost=subject.cost,
        declared=subject.declared,
        budget_bytes=subject.budget_bytes,
        architecture=subject.architecture or "",
        floor=min(FLOOR_TOKENS, subject.ceiling),
        ceiling=subject.ceiling,
        precision=options.precision,
        seed=options.seed,
        learned=learned,
        known_bad=subject.known_bad.context_length if subject.known_bad else None,
        touched_later=subject.touched_later,
        weights_bytes=subject.weights_bytes,
        approximate=subject.approximate,
        told=subject.budget_told,
        lazy=subject.lazy,
    )


async def _unknown_conditions() -> Conditions:
    return UNKNOWN


def _ignore(*_: object) -> None:
    """The default for callers that want no events."""
