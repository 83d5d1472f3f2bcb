"""`infer --dry-run`: the prompt as it would be sent and its tokens, without sending it or needing a server.

The count is exact when the model is loaded somewhere already; nothing is loaded for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.answers.inference import count_prompt
from lmstrix.core.answers.load_policy import choose_context
from lmstrix.core.answers.overlong import refuse_by_size
from lmstrix.core.answers.request import DryRun
from lmstrix.core.answers.tokens import PromptLine, TokenCount, estimate_tokens, learn_line
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import BackendUnavailableError, ContextOverflowError, HistoryError, LMStrixError, UsageError
from lmstrix.ground.text import one_line
from lmstrix.ground.wording import parameter
from lmstrix.service.answering import check_images, generation_request
from lmstrix.service.finding import chosen_model
from lmstrix.service.model_defaults import with_model_defaults

if TYPE_CHECKING:
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.types import GenerationRequest
    from lmstrix.service.workspace import Workspace


class _UncountedError(Exception):
    """Why there is no exact count, in words; `overflows` when the prompt was found too long on the way."""

    def __init__(self, reason: str, *, overflows: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.overflows = overflows


async def dry_run(workspace: Workspace, asked: InferRequest) -> DryRun:
    """Work out and count what `asked` would send."""
    record, why = await _record(workspace, asked.model)
    if record is not None:
        asked = with_model_defaults(asked, workspace.settings, record)
    check_images(asked, record)
    request = generation_request(asked)
    count = overflows = None
    if record is not None:
        try:
            count, why = await _count_loaded(workspace, record, request), None
        except _UncountedError as exc:
            why, overflows = exc.reason, exc.overflows
    if count is None:
        count = estimate_tokens(_text(request), line=_learnt(workspace, record))
    context_length = fits = None
    if record is not None:
        wanted = asked.max_tokens if isinstance(asked.max_tokens, int) else 1
        known = record.best_result
        context_length = choose_context(
            asked.context_length,
            declared=record.max_context_length or UNKNOWN_DECLARED_TOKENS,
            tested=record.tested_context_length,
            tested_is_limit=known is None or known.is_limit,
            needed_tokens=count.tokens + wanted,
        ).context_length
        if context_length is not None:
            fits = not overflows and count.tokens + wanted <= context_length
    return DryRun(
        prompt=asked.prompt,
        system_prompt=asked.system_prompt,
        count=count,
        record=record,
        context_length=context_length,
        images=request.image_count,
        fits=fits,
        not_counted=why,
    )


async def _record(workspace: Workspace, model: str | None) -> tuple[ModelRecord | None, str | None]:
    """The model that would be asked, or why there is none."""
    try:
        return await chosen_model(workspace, model), None
    except BackendUnavailableError:
        return None, "no model is known, and no server answers"
    except UsageError:
        return None, f"no model is named ({parameter('model')})"
    except LMStrixError:
        if model is not None:
            raise
        return None, f"{workspace.usual_model()}, the model asked where none is named, is gone"


async def _count_loaded(workspace: Workspace, record: ModelRecord, request: GenerationRequest) -> TokenCount:
    """The exact count, by the model where it is loaded. Raises _UncountedError."""
    declared = record.max_context_length or UNKNOWN_DECLARED_TOKENS
    try:
        refuse_by_size(request, context_length=declared)
        connection = await workspace.connect_running()
        backend = connection.backend
        for loaded in await backend.list_loaded():
            if loaded.model_key == record.model_key and loaded.kind == "llm":
                tokens = await count_prompt(
                    backend, loaded.instance_id, request, context_length=max(declared, loaded.context_length)
                )
                return TokenCount(tokens=tokens, method="model")
    except BackendUnavailableError:
        raise _UncountedError("no server answers") from None
    except ContextOverflowError as exc:
        raise _UncountedError("it is too long to be counted to its end", overflows=True) from exc
    except LMStrixError as exc:
        raise _UncountedError(f"the server could not count it: {one_line(exc)}") from exc
    raise _UncountedError(f"{record.model_key} is not loaded on {connection.name}")


def _learnt(workspace: Workspace, record: ModelRecord | None) -> PromptLine | None:
    """What earlier prompts to this model took; None where nothing is known of them."""
    if record is None:
        return None
    try:
        history = workspace.history()
        if history is None:
            return None
        with history:
            return learn_line(history.calls.prompt_sizes(record.path))
    except HistoryError:  # a log that cannot be read teaches nothing
        return None


def _text(request: GenerationRequest) -> str:
    return request.raw_prompt or "\n\n".join(message.text for message in request.messages)
