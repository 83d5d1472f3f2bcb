"""`batch`: many questions to many models, one model loaded at a time, every answer written as soon as it is there.

A batch that stops goes on where it was: an answer's file appears whole or not at all, and what exists is skipped. With
`parallel` requests in flight a model is loaded with that many slots; they share its context, so each gets its part.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.answers.batch import (
    BatchInput,
    BatchItem,
    BatchOutcome,
    BatchProgress,
    BatchPrompt,
    BatchReport,
    ComposedText,
    plan_items,
)
from lmstrix.core.answers.inference import InferenceManager
from lmstrix.core.answers.load_policy import ONCE_PREFIX
from lmstrix.core.prompts.rendering import render
from lmstrix.ground.errors import BackendUnavailableError, LMStrixError, UsageError
from lmstrix.ground.tasks import to_its_end
from lmstrix.ground.text import one_line
from lmstrix.ground.types import GenerationResult, LoadConfig
from lmstrix.loaders.contexts import load_text
from lmstrix.loaders.prompts import parse_reference
from lmstrix.service.answering import announce, plan_answer
from lmstrix.service.finding import known_models
from lmstrix.service.inferring import save_text
from lmstrix.service.prompting import PARAGRAPH, open_library
from lmstrix.service.workspace import new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lmstrix.core.answers.inference import Acquired, PlannedAnswer
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.prompts.library import PromptLibrary
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.service.workspace import Workspace

INDEX = "index.jsonl"
ALL_MODELS = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """What a batch is told. `request` has the sampling and limits of every question; its prompt is not used.

    `prompts` are prompt files (with :NAME,NAME for some of their prompts) or text files, or texts by name. `inputs` are
    files, folders or patterns, or texts by name. `models` are names, or "all".
    """

    prompts: Sequence[str] | Mapping[str, str]
    models: Sequence[str]
    out: Path
    request: InferRequest
    inputs: Sequence[str] | Mapping[str, str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    parallel: int = 1
    skip_existing: bool = True


def plan_batch(registry: ModelRegistry, asked: BatchRequest) -> list[tuple[ModelRecord, list[BatchItem]]]:
    """What would be asked of which model, the smallest first. Raises whatever is wrong before anything runs."""
    if asked.parallel < 1:
        raise UsageError("--parallel: at least 1 request at a time")
    prompts = list(_prompts(asked))
    if not prompts:
        raise UsageError("there are no prompts; --prompts names files of them")
    records = _models(registry, asked.models)
    planned = plan_items([record.model_key for record in records], prompts, list(_inputs(asked.inputs)))
    return [(record, planned[record.model_key]) for record in records]


async def run_batch(
    workspace: Workspace,
    asked: BatchRequest,
    *,
    on_progress: Callable[[BatchProgress], None] | None = None,
) -> BatchReport:
    """Ask all; a failing question or model never stops the rest, a server that is gone does."""
    registry = await known_models(workspace)
    planned = await asyncio.to_thread(plan_batch, registry, asked)
    asked.out.mkdir(parents=True, exist_ok=True)
    connection = await workspace.connect(workspace.deadline(asked.request.total_s))
    manager = InferenceManager(connection.backend, loads=connection.loads)
    run = _BatchRun(workspace, manager, asked, total=sum(len(items) for _, items in planned), on_progress=on_progress)
    for record, items in planned:
        await run.model(record, items)
    return BatchReport(outcomes=tuple(run.outcomes), out=str(asked.out), elapsed_s=time.perf_counter() - run.started_at)


class _BatchRun:
    """One run of a batch."""

    def __init__(
        self,
        workspace: Workspace,
        manager: InferenceManager,
        asked: BatchRequest,
        *,
        total: int,
        on_progress: Callable[[BatchProgress], None] | None,
    ) -> None:
        self.outcomes: list[BatchOutcome] = []
        self.started_at = time.perf_counter()
        self._workspace = workspace
        self._manager = manager
        self._asked = asked
        self._total = total
        self._answered = 0
        self._on_progress = on_progress

    async def model(self, record: ModelRecord, items: Sequence[BatchItem]) -> None:
        """All items of one model."""
        open_items = []
        for item in items:
            if self._asked.skip_existing and (self._asked.out / item.file).exists():
                self._ended(BatchOutcome(item=item, outcome="skipped"))
            else:
                open_items.append(item)
        if not open_items:
            return
        planned = [self._planned(record, item) for item in open_items]
        try:
            acquired = await self._acquire(record, planned)
        except BackendUnavailableError:
            raise  # no other model could be asked either
        except LMStrixError as exc:
            for item in open_items:
                await self._failed(item, exc)
            return
        try:
            await self._ask_all(acquired, zip(open_items, planned, strict=True))
        finally:
            with suppress(LMStrixError):  # the answers are there; a server that is gone has nothing loaded either
                await to_its_end(self._manager.release(acquired))

    async def _acquire(self, record: ModelRecord, planned: Sequence[PlannedAnswer]) -> Acquired:
        # For the longest question: a load per question would take longer than the answers.
        needed = max(one.needed_tokens for one in planned)
        acquired = await self._manager.acquire(
            planned[0].begun(),
            instance_id=f"{ONCE_PREFIX}{new_run_id()}-batch",
            needed_tokens=needed * self._asked.parallel,
            on_load=announce(self._workspace, record),
        )
        # The server divides a context among its slots: a question must fit into its share.
        share = acquired.instance.context_length // self._asked.parallel
        return replace(acquired, instance=replace(acquired.instance, context_length=share))

    async def _ask_all(self, acquired: Acquired, questions: Iterator[tuple[BatchItem, PlannedAnswer]]) -> None:
        async def worker() -> None:
            for item, planned in questions:  # the workers share the iterator
                await self._ask(acquired, item, planned)

        workers = [asyncio.create_task(worker()) for _ in range(self._asked.parallel)]
        try:
            await asyncio.gather(*workers)
        finally:
            # When one fails, gather leaves the others running: they would go on asking a model that is unloaded.
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _ask(self, acquired: Acquired, item: BatchItem, planned: PlannedAnswer) -> None:
        planned = planned.begun()
        try:
            prepared = await self._manager.fit(acquired, planned)
            result = await self._manager.result(prepared, planned)
            await asyncio.to_thread(self._write, item, planned, result)
        except BackendUnavailableError:
            raise
        except LMStrixError as exc:
            await asyncio.to_thread(self._workspace.call_log.failed, planned, exc)
            await self._failed(item, exc)
            return
        stats = result.stats
        self._answered += 1
        await self._indexed(
            BatchOutcome(
                item=item,
                outcome="ok",
                prompt_tokens=stats.prompt_tokens,
                completion_tokens=stats.completion_tokens,
                ttft_s=stats.ttft_s,
                total_s=stats.total_s,
                decode_tokens_per_second=stats.decode_tokens_per_second,
                stop_reason=stats.stop_reason,
            )
        )

    def _planned(self, record: ModelRecord, item: BatchItem) -> PlannedAnswer:
        asked = replace(
            self._asked.request,
            prompt=item.composed.text,
            system_prompt=item.composed.system_prompt or self._asked.request.system_prompt,
            model=record.model_key,
        )
        planned = plan_answer(self._workspace.settings, asked, record)
        # As many slots as requests: with fewer, the server would queue what is meant to run side by side.
        load = LoadConfig(context_length=None, parallel_slots=self._asked.parallel)
        return replace(planned, options=replace(planned.options, load=load))

    def _write(self, item: BatchItem, planned: PlannedAnswer, result: GenerationResult) -> None:
        file = self._asked.out / item.file
        file.parent.mkdir(parents=True, exist_ok=True)
        save_text(file, result.text)
        self._workspace.call_log.answered(planned, result)

    async def _failed(self, item: BatchItem, failure: LMStrixError) -> None:
        error = one_line(failure)
        await self._indexed(BatchOutcome(item=item, outcome=type(failure).__name__, error=error))

    async def _indexed(self, outcome: BatchOutcome) -> None:
        line = {
            "finished_at": datetime.now(UTC).isoformat(),
            "file": outcome.item.file,
            "model_key": outcome.item.model_key,
            "prompt": outcome.item.prompt,
            "input": outcome.item.input,
            **{name: value for name, value in asdict(outcome).items() if name != "item"},
        }
        # Written as each question ends, so that a batch that is killed leaves an index of what it did.
        with (self._asked.out / INDEX).open("a", encoding="utf-8") as index:
            index.write(json.dumps(line) + "\n")
        self._ended(outcome)

    def _ended(self, outcome: BatchOutcome) -> None:
        self.outcomes.append(outcome)
        if self._on_progress is None:
            return
        done, elapsed_s = len(self.outcomes), time.perf_counter() - self.started_at
        # By answers, not by items: skipped ones cost no time and would promise too early an end.
        remaining_s = elapsed_s / self._answered * (self._total - done) if self._answered else None
        self._on_progress(BatchProgress(latest=outcome, done=done, total=self._total, remaining_s=remaining_s))


# Words


def _models(registry: ModelRegistry, words: Sequence[str]) -> list[ModelRecord]:
    """The named models, smallest first."""
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    if not names:
        raise UsageError("which models? --models NAME,NAME or --models all")
    if names == [ALL_MODELS]:
        chosen = [
            record
            for record in registry
            if record.kind == "llm" and not record.is_missing and record.test_status != "failed"
        ]
    else:
        chosen = [registry.find(name) for name in names]
    for record in chosen:
        if record.kind == "embedding":
            raise UsageError(f"{record.model_key} is an embedding model and answers no prompts")
    # Two names may mean the same model.
    unique = {record.path: record for record in chosen}
    if not unique:
        raise UsageError("there are no models yet; lmstrix scan finds them")
    return sorted(unique.values(), key=lambda record: (record.size_bytes or 0, record.model_key))


def _prompts(asked: BatchRequest) -> Iterator[BatchPrompt]:
    if isinstance(asked.prompts, Mapping):
        for name, text in asked.prompts.items():
            yield BatchPrompt(name=name, compose=partial(_plain, text))
        return
    for word in asked.prompts:
        # On the command line a prompt file may be written without its @.
        reference = parse_reference(word if word.startswith("@") else f"@{word}")
        if reference is None:
            text = load_text(word)
            yield BatchPrompt(name=Path(word).stem, compose=partial(_plain, text))
            continue
        library = open_library(reference.path)
        names = reference.names or tuple(library.templates)
        for name in names:
            yield BatchPrompt(name=name, compose=partial(_filled, library, name, asked.variables))


def _plain(prompt: str, text: str | None) -> ComposedText:
    return ComposedText(text=prompt if text is None else prompt + PARAGRAPH + text)


def _filled(library: PromptLibrary, name: str, variables: Mapping[str, str], text: str | None) -> ComposedText:
    rendered = render(library, [name], {**variables, **({} if text is None else {"text": text})})
    return ComposedText(text=rendered.text, system_prompt=rendered.system_prompt)


def _inputs(given: Sequence[str] | Mapping[str, str]) -> Iterator[BatchInput]:
    if isinstance(given, Mapping):
        for name, text in given.items():
            yield BatchInput(name=name, text=text, source=name)
        return
    for word in given:
        for file in _files(word):
            yield BatchInput(name=file.stem, text=load_text(file), source=str(file))


def _files(word: str) -> Iterable[Path]:
    path = Path(word).expanduser()
    if path.is_dir():
        found = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    elif any(mark in word for mark in "*?[") and not path.exists():
        found = [file for file in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))) if file.is_file()]
    else:
        return [path]
    if not found:
        raise UsageError(f"--inputs: there are no files in {word}")
    return sorted(found)
