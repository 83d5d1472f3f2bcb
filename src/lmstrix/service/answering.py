"""One answer, from a request in words to a stream of events: find the model, prepare an instance, stream, clean up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core import inference
from lmstrix.core.inference import (
    OWN_PREFIX,
    InferenceManager,
    InferenceOptions,
    InferenceTarget,
    Prepared,
    user_message,
)
from lmstrix.core.state import LastUsed
from lmstrix.errors import LMStrixError, UsageError
from lmstrix.service.call_log import log_answer, log_failure
from lmstrix.types import Deadlines, Finished, GenerationRequest, StreamEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from lmstrix.backend import AsyncModelBackend, LoadProgress
    from lmstrix.core.load_policy import ContextChoice
    from lmstrix.core.registry import ModelRecord
    from lmstrix.core.results import InferRequest
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


def plan(service: LMStrixService, asked: InferRequest) -> Call:
    """Find the model and make the request; asks no server. Raises UsageError or ModelNotFoundError."""
    if not asked.messages and not asked.prompt.strip():
        raise UsageError("the prompt is empty; write a question (or - to read it from stdin)")
    record = service.find(asked.model or _last_used(service).read() or _no_model())
    if record.kind == "embedding":
        raise UsageError(f"{record.model_key} is an embedding model and answers no prompts; choose an llm")
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
        target=InferenceTarget(
            model_key=record.model_key,
            declared_context_length=record.max_context_length or UNKNOWN_DECLARED,
            tested_context_length=record.tested_context_length,
        ),
        keep=asked.ttl_s != 0,
    )


def stream(
    service: LMStrixService,
    asked: InferRequest,
    *,
    on_prepared: Callable[[ModelRecord, Prepared], None] | None = None,
    on_progress: LoadProgress | None = None,
) -> Iterator[StreamEvent]:
    """The events of one answer. The prompt is counted, and refused if it cannot fit, before it is sent."""
    call = plan(service, asked)
    manager = InferenceManager(service.connection.backend, run_id=service.new_run_id())
    prepared = manager.prepare(
        call.target, call.request, call.options, on_load=_loading(service, call), on_progress=on_progress
    )
    try:
        if on_prepared is not None:
            on_prepared(call.record, prepared)
        for event in manager.stream(prepared, call.request, call.options):
            if isinstance(event, Finished):
                _finished(service, call, event)
            yield event
    except LMStrixError as exc:
        log_failure(service, call, exc)
        raise
    finally:
        if not call.keep:
            with suppress(LMStrixError):
                manager.release(prepared)


async def stream_async(
    service: LMStrixService, backend: AsyncModelBackend, asked: InferRequest
) -> AsyncIterator[StreamEvent]:
    """`stream` on an asynchronous backend: any number at once on one loop."""
    call = await asyncio.to_thread(plan, service, asked)  # reads files, and may scan
    prepared = await inference.prepare(
        backend,
        call.target,
        call.request,
        call.options,
        instance_id=f"{OWN_PREFIX}{service.new_run_id()}-1",
        on_load=_loading(service, call),
    )
    instance_id = prepared.instance.instance_id
    try:
        events = backend.stream(
            instance_id, inference.bounded(call.request, prepared), deadlines=call.options.deadlines
        )
        async for event in events:
            if isinstance(event, Finished):
                await asyncio.to_thread(_finished, service, call, event)
            yield event
    except LMStrixError as exc:
        await asyncio.to_thread(log_failure, service, call, exc)
        raise
    finally:
        if not call.keep and prepared.load_s is not None:
            with suppress(LMStrixError):
                await backend.unload(instance_id)


def generation_request(asked: InferRequest) -> GenerationRequest:
    """The request on the wire: chat by default, plain completion when raw."""
    messages = asked.messages or user_message(asked.prompt, system=asked.system_prompt)
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
    )


def _finished(service: LMStrixService, call: Call, event: Finished) -> None:
    _last_used(service).write(call.record.model_key)
    log_answer(service, call, event.result)


def _loading(service: LMStrixService, call: Call) -> Callable[[ContextChoice], None]:
    def loading(choice: ContextChoice) -> None:
        key = call.record.model_key
        size = "the server's default context" if choice.context_length is None else f"{choice.context_length:,} tokens"
        hint = f"; lmstrix test {key} finds its limit" if choice.source == "untested" else ""
        service.notify(f"loading {key} at {size} ({choice.source}{hint})")

    return loading


def _last_used(service: LMStrixService) -> LastUsed:
    return LastUsed(service.paths.home / "state.json")


def _no_model() -> str:
    raise UsageError("which model? give -m MODEL (lmstrix list shows them)")
