"""One answer, from a request in words to a stream of events: find the model, prepare an instance, stream, clean up.

Written once, asynchronously; blocking callers run the same steps without an event loop (core/unsuspended.py).
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.answers import inference
from lmstrix.core.answers.inference import OWN_PREFIX, InferenceOptions, InferenceTarget, Prepared, user_message
from lmstrix.core.answers.last_used import LastUsed
from lmstrix.core.unsuspended import Aside, Unsuspended, here, iterate_unsuspended, streaming_manager
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.types import Deadlines, Finished, GenerationRequest, StreamEvent, TextDelta
from lmstrix.service.call_log import log_answer, log_failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from lmstrix.core.answers.acting import Transcript
    from lmstrix.core.answers.cache import ResponseCache
    from lmstrix.core.answers.load_policy import ContextChoice
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.registry.registry import ModelRecord
    from lmstrix.ground.backend import LoadProgress, ModelBackend
    from lmstrix.ground.types import GenerationResult
    from lmstrix.service.facade import LMStrixService

UNKNOWN_DECLARED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request of the user's words, worked out: which model, what to send, under which limits."""

    record: ModelRecord
    request: GenerationRequest
    options: InferenceOptions
    target: InferenceTarget
    keep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a caller wants to hear of beside the events, all optional."""

    on_prepared: Callable[[Prepared], None] | None = None
    on_progress: LoadProgress | None = None
    transcript: Transcript | None = None


def plan(service: LMStrixService, asked: InferRequest) -> Call:
    """Find the model and make the request; asks no server. Raises UsageError or ModelNotFoundError."""
    if not asked.messages and not asked.prompt.strip():
        raise UsageError("the prompt is empty; write a question (or - to read it from stdin)")
    return call_of(service, asked, service.find(asked.model or last_used(service).read() or _no_model()))


def call_of(service: LMStrixService, asked: InferRequest, record: ModelRecord) -> Call:
    """A request to this model, worked out. Raises UsageError where the model cannot do what is asked."""
    if record.kind == "embedding":
        raise UsageError(f"{record.model_key} is an embedding model and answers no prompts; choose an llm")
    if asked.cache and asked.tools:
        raise UsageError("an answer that calls tools is not kept; leave out --cache or --tools")
    if asked.raw and asked.tools:
        raise UsageError("a raw prompt cannot call tools; leave out --raw or --tools")
    _check_images(record, asked)
    return Call(
        record=record,
        request=generation_request(asked),
        options=InferenceOptions(
            in_ctx=asked.in_ctx,
            out_ctx=asked.out_ctx,
            reload=asked.reload,
            ttl_s=asked.ttl_s or None,
            deadlines=Deadlines(
                first_token_s=asked.first_token_s,
                between_tokens_s=asked.between_tokens_s or Deadlines().between_tokens_s,
                total_s=asked.total_s or service.settings.timeout_s,
            ),
        ),
        target=target_of(record),
        keep=asked.ttl_s != 0,
    )


def target_of(record: ModelRecord) -> InferenceTarget:
    """What the choice of a context needs to know of a model."""
    return InferenceTarget(
        model_key=record.model_key,
        declared_context_length=record.max_context_length or UNKNOWN_DECLARED,
        tested_context_length=record.tested_context_length,
    )


def stream(service: LMStrixService, asked: InferRequest, watch: Watch) -> Generator[StreamEvent]:
    """`answer` on the service's own connection, blocking."""
    for tool in asked.tools:
        if tool.is_async:
            raise UsageError(f"tool {tool.definition.name} is a coroutine function; only AsyncLMStrix can call it")

    def connect() -> ModelBackend:
        return Unsuspended(service.connection.backend)

    yield from iterate_unsuspended(answer(service, connect, asked, watch, aside=here))


def stream_async(
    service: LMStrixService, backend: ModelBackend, asked: InferRequest, watch: Watch
) -> AsyncGenerator[StreamEvent]:
    """`answer` on an event loop: any number at once, without a thread each."""
    return answer(service, lambda: backend, asked, watch, aside=asyncio.to_thread)


async def answer(
    service: LMStrixService,
    connect: Callable[[], ModelBackend],
    asked: InferRequest,
    watch: Watch,
    *,
    aside: Aside,
) -> AsyncGenerator[StreamEvent]:
    """The events of one answer. The prompt is counted, and refused if it cannot fit, before it is sent."""
    call = await aside(plan, service, asked)  # reads files, and may scan
    known = await aside(_cached, service, call) if asked.cache else None
    if known is not None:
        yield TextDelta(text=known.text)
        yield Finished(result=known)
        return
    backend = await aside(connect)
    prepared = await inference.prepare(
        backend,
        call.target,
        call.request,
        call.options,
        instance_id=f"{OWN_PREFIX}{service.new_run_id()}-1",
        on_load=announce(service, call.record),
        on_progress=watch.on_progress,
    )
    try:
        if watch.on_prepared is not None:
            watch.on_prepared(prepared)
        async with aclosing(_events(backend, prepared, call, asked, watch, aside)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    await aside(_finished, service, call, event, keep=asked.cache)
                yield event
    except LMStrixError as exc:
        await aside(log_failure, service, call, exc)
        raise
    finally:
        if not call.keep:
            with suppress(LMStrixError):
                await inference.release(backend, prepared)


def _events(
    backend: ModelBackend, prepared: Prepared, call: Call, asked: InferRequest, watch: Watch, aside: Aside
) -> AsyncGenerator[StreamEvent]:
    if asked.tools:
        from lmstrix.core.answers.acting import act

        return act(
            backend,
            prepared,
            call.request,
            call.options,
            tools=asked.tools,
            max_rounds=asked.max_rounds,
            aside=aside,
            transcript=watch.transcript,
        )
    return streaming_manager(backend).events(
        prepared.instance.instance_id,
        inference.bounded(call.request, prepared),
        deadlines=call.options.deadlines,
        model_key=prepared.instance.model_key,
    )


def generation_request(asked: InferRequest) -> GenerationRequest:
    """The request on the wire: chat by default, plain completion when raw."""
    messages = asked.messages or user_message(asked.prompt, system=asked.system_prompt)
    if asked.images:
        messages = (*messages[:-1], replace(messages[-1], images=(*messages[-1].images, *asked.images)))
    return GenerationRequest(
        messages=() if asked.raw else messages,
        raw_prompt=asked.prompt if asked.raw else None,
        temperature=asked.temperature,
        top_k=asked.top_k,
        top_p=asked.top_p,
        min_p=asked.min_p,
        repeat_penalty=asked.repeat_penalty,
        seed=asked.seed,
        stop=asked.stop,
        json_schema=asked.json_schema,
        tools=tuple(tool.definition for tool in asked.tools),
    )


def _check_images(record: ModelRecord, asked: InferRequest) -> None:
    images = (*asked.images, *(path for message in asked.messages for path in message.images))
    if not images:
        return
    if not record.vision:
        raise UsageError(f"{record.model_key} takes no images; choose a model with vision, or ask without --image")
    if asked.raw:
        raise UsageError("a raw prompt takes no images; leave out --raw")
    for path in images:
        if not Path(path).is_file():
            raise UsageError(f"no image at {path}")


def _finished(service: LMStrixService, call: Call, event: Finished, *, keep: bool) -> None:
    last_used(service).write(call.record.model_key)
    log_answer(service, call, event.result)
    if keep:
        cache, key = _cache(service, call)
        cache.write(key, event.result)


def _cached(service: LMStrixService, call: Call) -> GenerationResult | None:
    cache, key = _cache(service, call)
    return cache.read(key)


def _cache(service: LMStrixService, call: Call) -> tuple[ResponseCache, str]:
    from lmstrix.core.answers.cache import ResponseCache, request_key

    record = call.record
    model = f"{record.path} {record.content_hash or record.mtime_ns}"
    key = request_key(call.request, model=model, limit=call.options.out_ctx)
    return ResponseCache(service.paths.home / "cache" / "answers"), key


def announce(service: LMStrixService, record: ModelRecord) -> Callable[[ContextChoice], None]:
    """Says that a model is being loaded, and at which context."""

    def loading(choice: ContextChoice) -> None:
        key = record.model_key
        size = "the server's default context" if choice.context_length is None else f"{choice.context_length:,} tokens"
        hint = f"; lmstrix test {key} finds its limit" if choice.source == "untested" else ""
        service.notify(f"loading {key} at {size} ({choice.source}{hint})")

    return loading


def last_used(service: LMStrixService) -> LastUsed:
    """The model of the last answer."""
    return LastUsed(service.paths.home / "state.json")


def _no_model() -> str:
    raise UsageError("which model? give -m MODEL (lmstrix list shows them)")
