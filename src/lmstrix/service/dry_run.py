"""`infer --dry-run`: the prompt as it would be sent and its tokens, without sending it or needing a server.

The count is exact when the model is loaded somewhere already; nothing is loaded for it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lmstrix.core.answers.inference import count_prompt
from lmstrix.core.answers.load_policy import choose_context
from lmstrix.core.answers.request import DryRun
from lmstrix.core.answers.tokens import TokenCount, estimate_tokens
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import BackendUnavailableError, LMStrixError
from lmstrix.service.answering import check_images, generation_request
from lmstrix.service.finding import known_models
from lmstrix.service.logs import call_statistics

if TYPE_CHECKING:
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.types import GenerationRequest
    from lmstrix.service.workspace import Workspace


async def dry_run(workspace: Workspace, asked: InferRequest) -> DryRun:
    """Work out and count what `asked` would send."""
    record = await _record(workspace, asked.model)
    check_images(asked, record)
    request = generation_request(asked)
    count = await _count_loaded(workspace, record, request) if record else None
    count = count or estimate_tokens(_text(request), bytes_per_token=_earlier_bytes_per_token(workspace, record))
    context_length = None
    if record is not None:
        wanted = asked.out_ctx if isinstance(asked.out_ctx, int) else 0
        known = record.best_result
        context_length = choose_context(
            asked.in_ctx,
            declared=record.max_context_length or UNKNOWN_DECLARED_TOKENS,
            tested=record.tested_context_length,
            tested_is_limit=known is None or known.is_limit,
            needed_tokens=count.tokens + wanted,
        ).context_length
    return DryRun(
        prompt=asked.prompt,
        system_prompt=asked.system_prompt,
        count=count,
        record=record,
        context_length=context_length,
        images=request.image_count,
    )


async def _record(workspace: Workspace, model: str | None) -> ModelRecord | None:
    named = model or workspace.last_used.read()
    if named is None:
        return None
    try:
        return (await known_models(workspace)).find(named)
    except BackendUnavailableError:
        return None  # an empty registry, and nowhere to fill it from
    except LMStrixError:
        if model is not None:
            raise
        return None  # the model used last is gone; nobody asked for it


async def _count_loaded(workspace: Workspace, record: ModelRecord, request: GenerationRequest) -> TokenCount | None:
    with suppress(LMStrixError):  # no server, or one that cannot count: an estimate will do
        backend = (await workspace.connect_running()).backend
        for loaded in await backend.list_loaded():
            if loaded.model_key == record.model_key and loaded.kind == "llm":
                return TokenCount(tokens=await count_prompt(backend, loaded.instance_id, request), method="model")
    return None


def _earlier_bytes_per_token(workspace: Workspace, record: ModelRecord | None) -> float | None:
    """Bytes per token in earlier prompts to this model."""
    if record is None:
        return None
    with suppress(LMStrixError):  # a log that cannot be read teaches nothing
        for statistics in call_statistics(workspace, model=record.model_key):
            return statistics.prompt_bytes_per_token
    return None


def _text(request: GenerationRequest) -> str:
    return request.raw_prompt or "\n\n".join(message.text for message in request.messages)
