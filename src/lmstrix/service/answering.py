"""One answer, from a request in words to a stream of events: find the model, prepare an instance, stream, clean up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.inference import InferenceManager, InferenceOptions, InferenceTarget, Prepared, user_message
from lmstrix.core.state import LastUsed
from lmstrix.errors import UsageError
from lmstrix.types import Deadlines, Finished, GenerationRequest, StreamEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.backend import LoadProgress
    from lmstrix.core.load_policy import ContextChoice
    from lmstrix.core.registry import ModelRecord
    from lmstrix.core.results import InferRequest
    from lmstrix.service.facade import LMStrixService


def stream(
    service: LMStrixService,
    asked: InferRequest,
    *,
    on_prepared: Callable[[ModelRecord, Prepared], None] | None,
    on_progress: LoadProgress | None,
) -> Iterator[StreamEvent]:
    """The events of one answer. The prompt is counted, and refused if it cannot fit, before it is sent."""
    if not asked.prompt.strip():
        raise UsageError("the prompt is empty; write a question (or - to read it from stdin)")
    last_used = LastUsed(service.paths.home / "state.json")
    record = service.find(asked.model or last_used.read() or _no_model())
    if record.kind == "embedding":
        raise UsageError(f"{record.model_key} is an embedding model and answers no prompts; choose an llm")
    request = generation_request(asked)
    options = InferenceOptions(
        in_ctx=asked.in_ctx,
        out_ctx=asked.out_ctx,
        reload=asked.reload,
        ttl_s=asked.ttl_s or None,
        deadlines=Deadlines(
            first_token_s=asked.first_token_s,
            between_tokens_s=asked.between_tokens_s or Deadlines().between_tokens_s,
            total_s=service.settings.timeout_s,
        ),
    )
    manager = InferenceManager(service.connection.backend, run_id=service.new_run_id())
    target = InferenceTarget(
        model_key=record.model_key,
        declared_context_length=record.max_context_length or 4096,
        tested_context_length=record.tested_context_length,
    )

    def loading(choice: ContextChoice) -> None:
        size = "the server's default context" if choice.context_length is None else f"{choice.context_length:,} tokens"
        hint = f"; lmstrix test {record.model_key} finds its limit" if choice.source == "untested" else ""
        service.notify(f"loading {record.model_key} at {size} ({choice.source}{hint})")

    prepared = manager.prepare(target, request, options, on_load=loading, on_progress=on_progress)
    try:
        if on_prepared is not None:
            on_prepared(record, prepared)
        for event in manager.stream(prepared, request, options):
            if isinstance(event, Finished):
                last_used.write(record.model_key)
            yield event
    finally:
        if asked.ttl_s == 0:
            manager.release(prepared)


def generation_request(asked: InferRequest) -> GenerationRequest:
    """The request on the wire: chat by default, plain completion when raw."""
    return GenerationRequest(
        messages=() if asked.raw else user_message(asked.prompt, system=asked.system_prompt),
        raw_prompt=asked.prompt if asked.raw else None,
        temperature=asked.temperature,
        top_k=asked.top_k,
        top_p=asked.top_p,
        min_p=asked.min_p,
        repeat_penalty=asked.repeat_penalty,
        seed=asked.seed,
        stop=asked.stop,
    )


def _no_model() -> str:
    raise UsageError("which model? give -m MODEL (lmstrix list shows them)")
