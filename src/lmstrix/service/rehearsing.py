"""`infer --dry-run`: the prompt as it would be sent and what it counts, without sending it or needing a server.

The count is exact when the model is loaded somewhere already; nothing is loaded for it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lmstrix.core.answers.load_policy import choose_context
from lmstrix.core.answers.request import Rehearsal
from lmstrix.core.answers.tokens import TokenCount, estimate_tokens
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import BackendUnavailableError, LMStrixError
from lmstrix.service.answering import generation_request, last_used

if TYPE_CHECKING:
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.types import GenerationRequest
    from lmstrix.service.facade import LMStrixService


def rehearse(service: LMStrixService, asked: InferRequest) -> Rehearsal:
    """Work out and count what `asked` would send."""
    record = _record(service, asked.model)
    request = generation_request(asked)
    count = _count_loaded(service, record, request) if record else None
    count = count or estimate_tokens(_text(request), bytes_per_token=_learnt(service, record))
    context_length = None
    if record is not None:
        declared = record.max_context_length or UNKNOWN_DECLARED_TOKENS
        wanted = asked.out_ctx if isinstance(asked.out_ctx, int) else 0
        context_length = choose_context(
            asked.in_ctx,
            declared=declared,
            tested=record.tested_context_length,
            needed_tokens=count.tokens + wanted,
        ).context_length
    return Rehearsal(
        prompt=asked.prompt,
        system_prompt=asked.system_prompt,
        count=count,
        record=record,
        context_length=context_length,
    )


def _record(service: LMStrixService, model: str | None) -> ModelRecord | None:
    named = model or last_used(service).read()
    if named is None:
        return None
    try:
        return service.find(named)
    except BackendUnavailableError:
        return None  # an empty registry, and nowhere to fill it from
    except LMStrixError:
        if model is not None:
            raise
        return None


def _count_loaded(service: LMStrixService, record: ModelRecord, request: GenerationRequest) -> TokenCount | None:
    with suppress(LMStrixError):
        backend = service.running_connection().backend
        for loaded in backend.list_loaded():
            if loaded.model_key == record.model_key and loaded.kind == "llm":
                text = request.raw_prompt
                if text is None:
                    text = backend.apply_template(loaded.instance_id, request.messages, tools=request.tools)
                return TokenCount(tokens=backend.count_tokens(loaded.instance_id, text), method="model")
    return None


def _learnt(service: LMStrixService, record: ModelRecord | None) -> float | None:
    if record is None:
        return None
    with suppress(LMStrixError):
        for statistics in service.call_statistics(model=record.model_key):
            return statistics.prompt_bytes_per_token
    return None


def _text(request: GenerationRequest) -> str:
    return request.raw_prompt or "\n\n".join(message.text for message in request.messages)
