"""`batch`: many questions to many models, one model loaded at a time, every answer written as soon as it is there.

A batch that stops goes on where it was: an answer is skipped while its file is there and what it was asked is the same.
While a question is answered the next one is counted, so that counting takes no time of its own. With `parallel`
requests in flight a model is loaded with that many slots; they share its context, so each gets its part.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from lmstrix.core.answers.answer_folder import AnswerFolder
from lmstrix.core.answers.batch import BatchItem, BatchOutcome, BatchProgress, BatchReport, request_hash
from lmstrix.core.answers.inference import InferenceManager
from lmstrix.core.answers.load_policy import ONCE_PREFIX, known_as
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    InvalidAnswerError,
    LMStrixError,
    ModelUnloadedError,
    TimeLimitError,
)
from lmstrix.ground.tasks import to_its_end
from lmstrix.ground.text import one_line
from lmstrix.service.answering import announce, plan_answer
from lmstrix.service.batch_words import BatchRequest, plan_batch, unused_variables
from lmstrix.service.finding import known_models
from lmstrix.service.heeded import check_heeded
from lmstrix.service.model_folders import check_served
from lmstrix.service.room import room_on
from lmstrix.service.unusual_loads import tell_unusual_load
from lmstrix.service.workspace import new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from lmstrix.core.answers.inference import Acquired, PlannedAnswer, Prepared
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.types import GenerationResult
    from lmstrix.service.workspace import Workspace

T = TypeVar("T")
# The estimate takes three bytes for a token. A text of twice as many tokens as the model has context would need six
# bytes for each to fit, which no text has.
_HOPELESS_RATIO = 2
REJECTED = ".rejected"  # after the name of an answer's file: what is not of the shape that was asked for
_TIMEOUTS_IN_A_ROW = 3  # one slow question fails alone; a server that hangs fails them all


async def run_batch(
    workspace: Workspace,
    asked: BatchRequest,
    *,
    on_progress: Callable[[BatchProgress], None] | None = None,
) -> BatchReport:
    """Ask all; a failing question or model never stops the rest, a server that is gone or a full disk does."""
    registry = await known_models(workspace)
    if not asked.models:
        default = await asyncio.to_thread(workspace.default_model.read)
        asked = replace(asked, models=[default] if default is not None else [])
    planned = await asyncio.to_thread(plan_batch, registry, asked)
    for name in unused_variables(asked, planned[0][1]):
        workspace.notify(f"{name} is given, but no prompt asks for it")
    try:
        with AnswerFolder(asked.out).opened() as answers:
            run = _BatchRun(workspace, answers, asked, total=sum(len(items) for _, items in planned))
            run.on_progress = on_progress
            for record, items in planned:
                await run.model(record, items)
    except OSError as exc:
        raise LMStrixError(
            f"{asked.out} cannot be written: {exc.strerror or exc}; what was answered before is there, and the same "
            "command goes on from it"
        ) from exc
    return BatchReport(outcomes=tuple(run.outcomes), out=str(asked.out), elapsed_s=time.perf_counter() - run.started_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """An item that can be asked."""

    item: BatchItem
    planned: PlannedAnswer
    request_hash: str


class _BatchRun:
    """One run of a batch."""

    def __init__(self, workspace: Workspace, answers: AnswerFolder, asked: BatchRequest, *, total: int) -> None:
        self.outcomes: list[BatchOutcome] = []
        self.started_at = time.perf_counter()
        self.on_progress: Callable[[BatchProgress], None] | None = None
        self._workspace = workspace
        self._answers = answers
        self._asked = asked
        self._total = total
        self._answered = 0
        self._timeouts = 0
        self._opened: InferenceManager | None = None

    async def model(self, record: ModelRecord, items: Sequence[BatchItem]) -> None:
        """All items of one model."""
        questions = [question for item in items if (question := self._question(record, item)) is not None]
        while questions:
            left_over = await self._one_load(record, questions)
            # A question that ends the engine's process fails alone; the others are asked of a fresh load. Where not
            # one was settled, somebody unloads the model each time, and the next load would fare no better.
            if len(left_over) == len(questions):
                for question in left_over:
                    self._failed(question.item, LMStrixError("the model was unloaded meanwhile, twice; ask again"))
                return
            questions = left_over

    async def _one_load(self, record: ModelRecord, questions: Sequence[_Question]) -> list[_Question]:
        """Ask on one instance; the questions left over when it was gone before its time."""
        manager = await self._manager()
        try:
            acquired = await self._acquire(manager, record, questions)
        except BackendUnavailableError:
            raise  # no other model could be asked either
        except LMStrixError as exc:
            for question in questions:
                self._failed(question.item, exc)
            return []
        try:
            return await self._ask_all(manager, acquired, questions)
        finally:
            with suppress(LMStrixError):  # the answers are there; a server that is gone has nothing loaded either
                await to_its_end(manager.release(acquired))

    async def _manager(self) -> InferenceManager:
        # With the first question: a batch that is answered already needs no server.
        if self._opened is None:
            connection = await self._workspace.connect(self._workspace.deadline(self._asked.request.timeout_s))
            self._opened = InferenceManager(
                connection.backend, loads=connection.loads, room=room_on(self._workspace, connection.backend)
            )
        return self._opened

    def _question(self, record: ModelRecord, item: BatchItem) -> _Question | None:
        """The item as it is to be asked; None when it is answered, or cannot be asked, which is then on record."""
        if isinstance(item.composed, LMStrixError):
            self._failed(item, item.composed)
            return None
        asked = replace(
            self._asked.request,
            prompt=item.composed.text,
            system_prompt=item.composed.system_prompt or self._asked.request.system_prompt,
            model=record.model_key,
        )
        planned = plan_answer(self._workspace.settings, asked, record)
        # As many slots as requests: with fewer, the server would queue what is meant to run side by side.
        load = replace(self._asked.request.load, parallel_slots=self._asked.parallel)
        planned = replace(planned, options=replace(planned.options, load=load))
        known_by = request_hash(planned.request, model_key=known_as(record.model_key, load), limit=asked.max_tokens)
        if self._asked.skip_existing and self._answers.has(item.file, known_by):
            self._ended(BatchOutcome(item=item, outcome="skipped"))
            return None
        return _Question(item=item, planned=planned, request_hash=known_by)

    async def _acquire(
        self, manager: InferenceManager, record: ModelRecord, questions: Sequence[_Question]
    ) -> Acquired:
        workspace = self._workspace
        connection = await workspace.connect()
        check_served(workspace, connection, record)
        await check_heeded(connection.backend, record, self._asked.request, workspace.deadline(), workspace.notify)
        # For the longest question that can fit: a load per question would take longer than the answers, and one file
        # that is far too long must not make the model load at a context that this machine may not have.
        most = _HOPELESS_RATIO * (record.max_context_length or UNKNOWN_DECLARED_TOKENS)
        needs = [question.planned.needed_tokens for question in questions]
        needed = max((tokens for tokens in needs if tokens <= most), default=min(needs))
        acquired = await manager.acquire(
            questions[0].planned.begun(),
            instance_id=f"{ONCE_PREFIX}{new_run_id()}-batch",
            needed_tokens=needed * self._asked.parallel,
            on_load=announce(workspace, record),
        )
        wanted = questions[0].planned.options.load
        await tell_unusual_load(workspace, connection, acquired.instance, wanted, workspace.deadline())
        # The server divides a context among its slots: a question must fit into its share.
        share = acquired.instance.context_length // self._asked.parallel
        return replace(acquired, instance=replace(acquired.instance, context_length=share))

    async def _ask_all(
        self, manager: InferenceManager, acquired: Acquired, questions: Iterable[_Question]
    ) -> list[_Question]:
        parallel = self._asked.parallel
        counted: asyncio.Queue[tuple[_Question, Prepared] | None] = asyncio.Queue(maxsize=parallel)
        left_over: list[_Question] = []

        async def count() -> None:
            for question in questions:
                prepared = await self._settled(question, manager.fit(acquired, question.planned.begun()), left_over)
                if prepared is not None:
                    await counted.put((question, prepared))
            for _ in range(parallel):
                await counted.put(None)  # tells an asker that there are no more

        async def ask() -> None:
            while (following := await counted.get()) is not None:
                question, prepared = following
                await self._settled(question, self._answer(manager, question, prepared), left_over)

        tasks = [asyncio.create_task(count()), *(asyncio.create_task(ask()) for _ in range(parallel))]
        try:
            await asyncio.gather(*tasks)
        finally:
            # When one fails, gather leaves the others running: they would go on asking a model that is unloaded.
            for task in tasks:
                # Once only: a second cancellation would cut short the keeping of an answer that is there.
                if not task.cancelling():
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return left_over

    async def _settled(
        self, question: _Question, step: Coroutine[None, None, T], left_over: list[_Question]
    ) -> T | None:
        """What the step returns; None where it failed, and the question with it."""
        try:
            return await step
        except ModelUnloadedError:
            left_over.append(question)
            return None
        except (BackendTimeoutError, TimeLimitError) as exc:
            self._timeouts += 1
            if self._timeouts >= _TIMEOUTS_IN_A_ROW:
                raise
            failure: LMStrixError = exc
        except BackendUnavailableError:
            raise
        except LMStrixError as exc:
            failure = exc
        await asyncio.to_thread(self._workspace.call_log.failed, question.planned, failure)
        self._failed(question.item, failure)
        return None

    async def _answer(self, manager: InferenceManager, question: _Question, prepared: Prepared) -> None:
        result = await manager.result(prepared, question.planned.begun())
        self._timeouts = 0
        stats = result.stats
        outcome = BatchOutcome(
            item=question.item,
            outcome="ok",
            prompt_tokens=stats.prompt_tokens,
            completion_tokens=stats.completion_tokens,
            ttft_s=stats.ttft_s,
            total_s=stats.total_s,
            decode_tokens_per_second=stats.best_decode_tokens_per_second,
            stop_reason=stats.stop_reason,
            truncated_by=result.truncated_by,
        )
        self._answered += 1
        try:
            if self._asked.schema is not None:
                self._asked.schema.check(result)
        except InvalidAnswerError as exc:
            await to_its_end(asyncio.to_thread(self._keep_rejected, question, result))
            self._failed(question.item, exc)
            return
        # To its end: an answer that is there is kept, also when the batch is being stopped.
        await to_its_end(asyncio.to_thread(self._keep, question, result, outcome))
        self._ended(outcome)

    def _keep(self, question: _Question, result: GenerationResult, outcome: BatchOutcome) -> None:
        self._answers.write(question.item.file, result.text)
        self._record(outcome, request_hash=question.request_hash)
        self._workspace.call_log.answered(question.planned, result)

    def _keep_rejected(self, question: _Question, result: GenerationResult) -> None:
        # Under another name: the answer's own would count as answered when the batch goes on.
        self._answers.write(question.item.file + REJECTED, result.text)
        self._workspace.call_log.answered(question.planned, result)

    def _failed(self, item: BatchItem, failure: LMStrixError) -> None:
        outcome = BatchOutcome(item=item, outcome=type(failure).__name__, error=one_line(failure))
        self._record(outcome)
        self._ended(outcome)

    def _record(self, outcome: BatchOutcome, *, request_hash: str | None = None) -> None:
        self._answers.record(
            {
                "finished_at": datetime.now(UTC).isoformat(),
                "file": outcome.item.file,
                "model_key": outcome.item.model_key,
                "prompt": outcome.item.prompt,
                "input": outcome.item.input,
                # By name, because asdict would copy the texts of the item too.
                **{field.name: getattr(outcome, field.name) for field in fields(outcome) if field.name != "item"},
                "request_hash": request_hash,
            }
        )

    def _ended(self, outcome: BatchOutcome) -> None:
        self.outcomes.append(outcome)
        if self.on_progress is None:
            return
        done, elapsed_s = len(self.outcomes), time.perf_counter() - self.started_at
        # By answers, not by items: skipped ones cost no time and would promise too early an end.
        remaining_s = elapsed_s / self._answered * (self._total - done) if self._answered else None
        self.on_progress(BatchProgress(latest=outcome, done=done, total=self._total, remaining_s=remaining_s))
