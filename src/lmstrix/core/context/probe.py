"""One real prompt of a given length, sent to a loaded instance: it fills the context and asks what was in it.

The haystack of one instance is fitted once; longer prompts keep the shorter ones as an unchanged prefix, so a server
that caches prefixes reads each token once over a whole curve of lengths. With a question of the user's own, or without
recall, the same filled prompt is sent and any answer passes.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from lmstrix.core.context.answering import AnsweringProgress
from lmstrix.core.context.spill import SPILL, SpeedReading
from lmstrix.core.context.verdict import Outcome, outcome_of
from lmstrix.core.recall import scoring, tasks
from lmstrix.core.recall.haystack import Haystack, HaystackFitter
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.text import one_line
from lmstrix.ground.types import (
    Deadlines,
    Finished,
    GenerationRequest,
    GenerationResult,
    GenerationStats,
    LoadedModel,
    Message,
    PromptProgress,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from lmstrix.ground.backend import ModelBackend

T = TypeVar("T")

_OUTCOMES = {
    "recalled": Outcome.OK,
    "lost": Outcome.RECALL_LOST,
    "undecided": Outcome.RECALL_LOST,
    "head_unclear": Outcome.RECALL_LOST,
    "delivery_unclear": Outcome.RECALL_LOST,
    "truncated": Outcome.TRUNCATED,
    "overflowed": Outcome.OVERFLOW_REJECTED,
    "empty": Outcome.EMPTY,
}
_LEAST_ANSWER_TOKENS = 64
_SHORTEST_TRIED = (512, 768, 1024, 1536, 2048, 4096)  # a vocabulary of bytes needs four times the tokens of words
_FAST_ANSWER_TOKENS = 32  # enough to see that there is an answer
_CUSTOM_ANSWER_TOKENS = 512  # a question of the user's own may need a few sentences
_KEPT_ANSWER_CHARS = 2000
_DRAWN_TEMPERATURE = 2.0  # the bundled model draws other answers from texts that differ far back in all cases seen


def answer_room(context_length: int) -> int:
    """Tokens of a context left free for the template and the answers: 384, or a third of a small context."""
    return min(384, max(_LEAST_ANSWER_TOKENS, context_length // 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One length, measured. `prompt_tokens` is the server's own count; `ratio` the share of codes recalled.

    `speed` is that of the answer, where it was long enough to tell.
    """

    target_tokens: int
    outcome: Outcome
    reason: str
    prompt_tokens: int | None = None
    ratio: float | None = None
    hits: int | None = None
    asked: int | None = None
    ttft_s: float | None = None
    prefill_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    speed: SpeedReading | None = None
    answer: str = ""
    failure: LMStrixError | None = None

    @property
    def filled(self) -> bool:
        """The prompt was read whole: the context really holds it, whatever was recalled."""
        if self.failure is not None or self.outcome in (Outcome.TRUNCATED, Outcome.SPILLED):
            return False
        # An answer without text shows nothing of the prompt; only the server's count does.
        return self.prompt_tokens is not None or self.outcome is not Outcome.EMPTY

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.OK


class Prober:
    """Asks one instance. `question` replaces the recall question; `recall` False only fills the context.

    Of each prompt `on_reading` hears its length and how much of it is read (0..1), `on_answering` its length, the
    tokens answered so far, and at most how many.
    """

    def __init__(
        self,
        backend: ModelBackend,
        instance: LoadedModel,
        *,
        seed: int,
        deadlines: Deadlines,
        recall: bool = True,
        question: str | None = None,
        on_reading: Callable[[int, float], None] | None = None,
        on_answering: Callable[[int, int, int], None] | None = None,
    ) -> None:
        self._backend = backend
        self._instance = instance
        self._deadlines = deadlines
        self._question = question
        self._recall = recall and question is None
        self._on_reading = on_reading or _ignore
        self._on_answering = on_answering or _ignore
        self._seed = seed
        self._target_tokens = 0
        self._fitter: HaystackFitter | None = None

    @property
    def longest_tokens(self) -> int:
        """The longest prompt that leaves room for an answer."""
        return self._instance.context_length - answer_room(self._instance.context_length)

    def without_recall(self) -> Prober:
        """The same, sending the filled prompt with no question about it."""
        return self._like(seed=self._seed, recall=False)

    def with_other_text(self) -> Prober:
        """The same, with other notes and other codes."""
        return self._like(seed=self._seed + 1, recall=self._recall)

    def _like(self, *, seed: int, recall: bool) -> Prober:
        return Prober(
            self._backend,
            self._instance,
            seed=seed,
            deadlines=self._deadlines,
            recall=recall,
            question=self._question,
            on_reading=self._on_reading,
            on_answering=self._on_answering,
        )

    async def measure(self, target_tokens: int, *, baseline_ratio: float = 1.0) -> Measured:
        """Send one prompt of about `target_tokens` and judge it. Failures of the server become outcomes."""
        self._target_tokens = target_tokens
        try:
            haystack = await self._fit(target_tokens)
            if not self._recall:
                return await self._fill(target_tokens, haystack)
            return await self._ask(target_tokens, haystack, baseline_ratio)
        except LMStrixError as exc:
            outcome = outcome_of(exc, "prefill")
            return Measured(target_tokens=target_tokens, outcome=outcome, reason=one_line(exc), failure=exc)

    async def shortest_tokens(self) -> int | None:
        """The shortest prompt with room for the questions, in this model's tokens; None when the longest has none."""
        for length in _SHORTEST_TRIED:
            if length > self.longest_tokens:
                return None
            try:
                self._fitter = await self._calibrated(length)
            except UsageError:  # no room for the codes in so few tokens of this vocabulary
                continue
            return length
        return None

    async def _fit(self, target_tokens: int) -> Haystack:
        if self._fitter is None:
            # Without questions no needle is needed; any base length serves.
            self._fitter = await self._calibrated(_SHORTEST_TRIED[-1])
        return await self._counted(self._fitter.fit(target_tokens))

    async def _calibrated(self, shortest_tokens: int) -> HaystackFitter:
        return await self._counted(HaystackFitter.calibrated(seed=self._seed, shortest_tokens=shortest_tokens))

    async def _counted(self, fitting: Generator[Haystack, int, T]) -> T:
        """What `fitting` returns once the server has counted every haystack it yields."""
        try:
            haystack = next(fitting)
            while True:
                haystack = fitting.send(await self._count(self._text(haystack)))
        except StopIteration as done:
            result: T = done.value
            return result

    def _text(self, haystack: Haystack) -> str:
        return tasks.first_prompt(haystack) if self._question is None else f"{haystack.text}\n\n{self._question}"

    async def _count(self, text: str) -> int:
        instance_id = self._instance.instance_id
        # Counted with its template on: that is what fills the context.
        formatted = await self._backend.apply_template(instance_id, (Message(role="user", text=text),))
        return await self._backend.count_tokens(instance_id, formatted)

    async def _send(self, text: str, max_tokens: int, *, drawn: bool = False) -> GenerationResult:
        room = self._instance.context_length - await self._count(text)
        most_tokens = max(1, min(max_tokens, room))
        return await self._answer(
            GenerationRequest(
                messages=(Message(role="user", text=text),),
                max_tokens=most_tokens,
                # The likeliest token each time and no penalty: a code must be repeated as it was read. Drawn instead,
                # from all tokens, an answer shows every difference between two prompts.
                temperature=_DRAWN_TEMPERATURE if drawn else 0.0,
                top_k=0 if drawn else 1,
                top_p=1.0 if drawn else None,
                min_p=0.0 if drawn else None,
                seed=self._seed,
                repeat_penalty=1.0,
                enable_thinking=False,
                overflow_policy="stopAtLimit",
            ),
            AnsweringProgress(partial(self._on_answering, self._target_tokens), most_tokens),
        )

    async def _answer(self, request: GenerationRequest, answering: AnsweringProgress) -> GenerationResult:
        """The result of one prediction, its progress told on the way."""
        # Here, as a dry run imports this module and needs no event loop.
        from lmstrix.core.answers.streaming import StreamingManager

        stream = StreamingManager(self._backend).events(
            self._instance.instance_id, request, deadlines=self._deadlines, model_key=self._instance.model_key
        )
        # Closed at once when the test is cancelled: left to the collector, the server would go on reading the prompt.
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, PromptProgress):
                    self._on_reading(self._target_tokens, event.ratio)
                elif isinstance(event, TextDelta):
                    answering.note(event)
                elif isinstance(event, Finished):
                    return event.result
        raise AssertionError("a stream ends with Finished or raises")

    async def _ask(self, target_tokens: int, haystack: Haystack, baseline_ratio: float) -> Measured:
        question = tasks.first_question(haystack)
        text = tasks.prompt(haystack, question)
        result = await self._send(text, question.max_tokens)
        first = scoring.score_answer(result.text, question, haystack)
        delivery = scoring.Delivery(
            sent_tokens=await self._count(text),
            prompt_tokens=result.stats.prompt_tokens,
            stop_reason=result.stats.stop_reason,
        )
        second = tasks.follow_up_question(haystack)
        follow_up: scoring.Score | None = None
        head: scoring.Score | None = None
        beginning: scoring.Beginning | None = None

        def judged() -> scoring.Verdict:
            return scoring.judge(
                first,
                delivery,
                follow_up=follow_up,
                head=head,
                beginning=beginning,
                follow_up_possible=second is not None,
                baseline_ratio=baseline_ratio,
            )

        verdict = judged()
        if verdict.kind == "undecided" and second is not None:
            follow_up = scoring.score_answer(await self._reply(haystack, second), second, haystack)
            verdict = judged()
        if verdict.kind == "head_unclear":
            alone = tasks.ask((question.first_needle,), seed=self._seed)
            head = scoring.score_answer(await self._reply(haystack, alone), alone, haystack)
            verdict = judged()
            if verdict.kind == "delivery_unclear":
                beginning = await self._beginning(haystack, alone)
                verdict = judged()
        return replace(
            _figures(target_tokens, result),
            outcome=_OUTCOMES[verdict.kind],
            reason=verdict.reason,
            ratio=verdict.hits / verdict.asked if verdict.asked else None,
            hits=verdict.hits,
            asked=verdict.asked,
        )

    async def _reply(self, haystack: Haystack, question: tasks.Question) -> str:
        return (await self._send(tasks.prompt(haystack, question), question.max_tokens)).text

    async def _beginning(self, haystack: Haystack, question: tasks.Question) -> scoring.Beginning:
        """The control of the beginning, right after `question` was asked over the whole text."""
        start, rest = haystack.parted_after(question.first_needle)
        # In this order: where the beginning is cut off, both texts come to the same prompt, and both are in the cache.
        # A prompt read in other portions differs in the last bits of its probabilities, and with them in what is drawn.
        whole, without = [
            (await self._send(tasks.prompt(text, question), question.max_tokens, drawn=True)).text
            for text in (haystack, rest)
        ]
        alone = scoring.score_answer(await self._reply(start, question), question, haystack)
        return scoring.Beginning(alone=alone, whole=whole, without=without)

    async def _reads_the_beginning(self, haystack: Haystack) -> bool:
        """Whether the beginning of the text is read, told from answers: of a server that counts no tokens."""
        if not haystack.needles:
            return True
        question = tasks.ask(haystack.needles[:1], seed=self._seed)
        if scoring.score_answer(await self._reply(haystack, question), question, haystack).first_found:
            return True
        return (await self._beginning(haystack, question)).was_read

    async def _fill(self, target_tokens: int, haystack: Haystack) -> Measured:
        text = self._text(haystack)
        result = await self._send(text, _FAST_ANSWER_TOKENS if self._question is None else _CUSTOM_ANSWER_TOKENS)
        measured = _figures(target_tokens, result)
        delivery = scoring.Delivery(
            sent_tokens=await self._count(text), prompt_tokens=result.stats.prompt_tokens, stop_reason=None
        )
        if delivery.cut_short:
            return replace(measured, outcome=Outcome.TRUNCATED, reason=delivery.shortfall)
        if not (result.text or result.reasoning).strip():
            return replace(measured, outcome=Outcome.EMPTY, reason="the server reported success and sent no text")
        if delivery.prompt_tokens is None and not await self._reads_the_beginning(haystack):
            return replace(measured, outcome=Outcome.TRUNCATED, reason="the beginning of the text was not read")
        return measured


def _ignore(*_: object) -> None:
    """The default for callers that watch nothing."""


def _speed(target_tokens: int, stats: GenerationStats) -> SpeedReading | None:
    speed = stats.best_decode_tokens_per_second
    if not speed or (stats.completion_tokens or 0) < SPILL.least_answer_tokens:
        return None
    return SpeedReading(stats.prompt_tokens or target_tokens, speed)


def _figures(target_tokens: int, result: GenerationResult) -> Measured:
    stats = result.stats
    # Only where the server says how much it took from its cache: a cached prompt "read" in no time is no speed.
    fresh = (stats.prompt_tokens or 0) - (stats.cached_tokens or 0)
    speed = fresh / stats.ttft_s if stats.ttft_s and fresh > 0 and stats.cached_tokens is not None else None
    return Measured(
        target_tokens=target_tokens,
        outcome=Outcome.OK,
        reason="answered",
        prompt_tokens=stats.prompt_tokens,
        ttft_s=stats.ttft_s,
        prefill_tokens_per_second=speed,
        decode_tokens_per_second=stats.decode_tokens_per_second,
        speed=_speed(target_tokens, stats),
        answer=result.text[:_KEPT_ANSWER_CHARS],
    )
