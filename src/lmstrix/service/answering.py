"""One answer, from a request in words to a stream of events: find the model, prepare an instance, stream, clean up."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.core.answers.inference import (
    InferenceManager,
    InferenceOptions,
    PlannedAnswer,
    Prepared,
    user_message,
)
from lmstrix.core.answers.load_policy import ONCE_PREFIX, OWN_PREFIX, known_as
from lmstrix.core.answers.overlong import refuse_by_size
from lmstrix.ground.deadline import without_limit
from lmstrix.ground.errors import InvalidAnswerError, LMStrixError, UsageError
from lmstrix.ground.sampling import sampling_of
from lmstrix.ground.tasks import CLEAN_UP_S, to_its_end, within
from lmstrix.ground.types import Deadlines, Finished, GenerationRequest, TextDelta
from lmstrix.ground.wording import call, parameter
from lmstrix.loaders.images import check_image_file
from lmstrix.service.finding import chosen_model
from lmstrix.service.heeded import check_heeded
from lmstrix.service.model_defaults import with_model_defaults
from lmstrix.service.model_folders import check_served, folder_to_serve
from lmstrix.service.room import room_on
from lmstrix.service.unheeded import check_settings
from lmstrix.service.unusual_loads import tell_unusual_load
from lmstrix.service.workspace import new_run_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from lmstrix.core.answers.acting import Approve, Transcript
    from lmstrix.core.answers.answer_schema import AnswerSchema
    from lmstrix.core.answers.cache import ResponseCache
    from lmstrix.core.answers.load_policy import ContextChoice
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.backend import LoadProgress
    from lmstrix.ground.deadline import Deadline
    from lmstrix.ground.settings import Settings
    from lmstrix.ground.types import GenerationResult, StreamEvent
    from lmstrix.service.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a caller wants to be told beside the events, all optional; and the shape that an answer must have to be
    cached.
    """

    on_prepared: Callable[[Prepared], None] | None = None
    on_progress: LoadProgress | None = None
    transcript: Transcript | None = None
    approve: Approve | None = None
    schema: AnswerSchema | None = None


async def answer(
    workspace: Workspace, asked: InferRequest, watch: Watch, *, deadline: Deadline | None = None
) -> AsyncGenerator[StreamEvent]:
    """The events of one answer. The prompt is counted, and refused if it cannot fit, before it is sent.

    `deadline` is that of the call this is a part of; without one its time begins now.
    """
    planned = await _planned(workspace, asked, deadline or workspace.deadline(asked.timeout_s))
    if declared := planned.record.max_context_length:
        refuse_by_size(planned.request, context_length=declared)
    # Before connecting: an answer that is kept needs no server.
    known = await asyncio.to_thread(_cached, workspace, planned, watch.schema) if asked.cache else None
    if known is not None:
        yield TextDelta(text=known.text)
        yield Finished(result=known)
        return
    connection = await workspace.connect(planned.deadline, models_dir=folder_to_serve(workspace, [planned.record]))
    check_served(workspace, connection, planned.record)
    await check_heeded(connection.backend, planned.record, asked, planned.deadline, workspace.notify)
    manager = InferenceManager(connection.backend, loads=connection.loads, room=room_on(workspace, connection.backend))
    keep = planned.options.ttl_s != 0  # then the server unloads it in time, and the next answer finds it loaded
    prepared = await manager.prepare(
        planned,
        instance_id=f"{OWN_PREFIX if keep else ONCE_PREFIX}{new_run_id()}-1",
        on_load=announce(workspace, planned.record),
        on_progress=watch.on_progress,
    )
    answered = False
    try:
        await tell_unusual_load(workspace, connection, prepared.instance, asked.load, planned.deadline)
        if watch.on_prepared is not None:
            watch.on_prepared(prepared)
        async with aclosing(_events(manager, prepared, planned, asked, watch)) as events:
            async for event in events:
                # Kept before the caller gets it, who may leave the stream with this event.
                if isinstance(event, Finished):
                    answered = True
                    await asyncio.to_thread(
                        _keep, workspace, planned, event.result, cache=asked.cache, schema=watch.schema
                    )
                yield event
    except LMStrixError as exc:
        await asyncio.to_thread(workspace.call_log.failed, planned, exc)
        raise
    finally:
        release = manager.release(prepared.acquired, keep=keep)
        if answered:
            with suppress(LMStrixError):  # the answer is there; a server that is gone has nothing loaded either
                await to_its_end(release)
        else:  # a server that hangs would hang here too
            await within(CLEAN_UP_S, release)


def plan_answer(
    settings: Settings, asked: InferRequest, record: ModelRecord, *, deadline: Deadline | None = None
) -> PlannedAnswer:
    """A request to this model, worked out. Raises UsageError where the model cannot do what is asked."""
    if record.kind == "embedding":
        raise UsageError(f"{record.model_key} is an embedding model and answers no prompts; choose an llm")
    if asked.cache and asked.tools:
        raise UsageError(
            f"an answer that calls tools is not kept; leave out {parameter('cache')} or {parameter('tools')}"
        )
    if asked.raw and asked.tools:
        raise UsageError(f"a raw prompt cannot call tools; leave out {parameter('raw')} or {parameter('tools')}")
    check_images(asked, record)
    check_settings(record, asked.load)
    asked = with_model_defaults(asked, settings, record)
    return PlannedAnswer(
        record=record,
        request=generation_request(asked),
        options=InferenceOptions(
            context_length=asked.context_length,
            max_tokens=asked.max_tokens,
            reload=asked.reload,
            ttl_s=asked.ttl_s,
            load=asked.load,
            deadlines=Deadlines(
                first_token_s=asked.first_token_s,
                between_tokens_s=asked.between_tokens_s or Deadlines().between_tokens_s,
                total_s=asked.timeout_s or settings.timeout_s,
            ),
        ),
        deadline=deadline or without_limit(),
    )


def generation_request(asked: InferRequest) -> GenerationRequest:
    """The request on the wire: chat by default, plain completion when raw."""
    effort = asked.reasoning_effort
    messages = asked.messages or user_message(asked.prompt, system=asked.system_prompt)
    if asked.images:
        messages = (*messages[:-1], replace(messages[-1], images=(*messages[-1].images, *asked.images)))
    return GenerationRequest(
        messages=() if asked.raw else messages,
        raw_prompt=asked.prompt if asked.raw else None,
        **sampling_of(asked),
        stop=asked.stop,
        enable_thinking={"off": False, "on": True}.get(effort or "", asked.enable_thinking),
        reasoning_effort=None if effort in ("off", "on") else effort,
        json_schema=asked.json_schema,
        tools=tuple(tool.definition for tool in asked.tools),
    )


def announce(workspace: Workspace, record: ModelRecord) -> Callable[[ContextChoice], None]:
    """A callback that says that a model is being loaded, and at which context."""

    def loading(choice: ContextChoice) -> None:
        key = record.model_key
        size = "the server's default context" if choice.context_length is None else f"{choice.context_length:,} tokens"
        no_limit = choice.source in ("untested", "tested so far")
        hint = f"; {call('test_model', key)} finds its limit" if no_limit else ""
        workspace.notify(f"loading {key} at {size} ({choice.source}{hint})")

    return loading


async def _planned(workspace: Workspace, asked: InferRequest, deadline: Deadline) -> PlannedAnswer:
    if not asked.messages and not asked.prompt.strip():
        raise UsageError("the prompt is empty; write a question")
    async with deadline.step("reading the registry"):
        record = await chosen_model(workspace, asked.model)
    return plan_answer(workspace.settings, asked, record, deadline=deadline)


def _events(
    manager: InferenceManager, prepared: Prepared, planned: PlannedAnswer, asked: InferRequest, watch: Watch
) -> AsyncGenerator[StreamEvent]:
    if not asked.tools:
        return manager.ask(prepared, planned)
    # Imported here, because few answers call tools.
    from lmstrix.core.answers.acting import act

    return act(
        manager,
        prepared,
        planned,
        tools=asked.tools,
        max_rounds=asked.max_rounds,
        transcript=watch.transcript,
        approve=watch.approve,
    )


def check_images(asked: InferRequest, record: ModelRecord | None) -> None:
    """Raise UsageError where images cannot be shown: by this model, None if it is not known, or at all."""
    images = (*asked.images, *(path for message in asked.messages for path in message.images))
    if not images:
        return
    if record is not None and not record.vision:
        raise UsageError(
            f"{record.model_key} takes no images; choose a model with vision, or ask without {parameter('images')}"
        )
    if asked.raw:
        raise UsageError(f"a raw prompt takes no images; leave out {parameter('raw')}")
    for path in images:
        check_image_file(path)


def _keep(
    workspace: Workspace, planned: PlannedAnswer, result: GenerationResult, *, cache: bool, schema: AnswerSchema | None
) -> None:
    workspace.last_used.write(planned.record.model_key)
    workspace.call_log.answered(planned, result)
    # What the server or the loaded context cut short may come whole the next time.
    if cache and result.truncated_by in (None, "max tokens") and _has_shape(result, schema):
        answers, key = _cache(workspace, planned)
        answers.write(key, result)


def _cached(workspace: Workspace, planned: PlannedAnswer, schema: AnswerSchema | None) -> GenerationResult | None:
    answers, key = _cache(workspace, planned)
    known = answers.read(key)
    # One that an earlier version kept, or that a class refuses which has changed since, would fail each time.
    return known if known is not None and _has_shape(known, schema) else None


def _has_shape(result: GenerationResult, schema: AnswerSchema | None) -> bool:
    """Whether the answer is of the shape that was asked for, if any; its caller is told otherwise what is wrong."""
    try:
        if schema is not None:
            schema.check(result)
    except InvalidAnswerError:
        return False
    return True


def _cache(workspace: Workspace, planned: PlannedAnswer) -> tuple[ResponseCache, str]:
    from lmstrix.core.answers.cache import ResponseCache, request_key

    record = planned.record
    # The path alone is not enough: it may hold another file by now.
    model = known_as(f"{record.path} {record.content_hash or record.mtime_ns}", planned.options.load)
    key = request_key(planned.request, model=model, limit=planned.options.max_tokens)
    return ResponseCache(workspace.paths.own / "cache" / "answers"), key
