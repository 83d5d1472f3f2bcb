"""One answer: choose a context, load or reuse an instance, count the prompt, refuse what cannot fit, then stream.

Nothing is sent before the whole prompt, template included, has been counted by the model itself against the context it
really has; overflow policy is always stop-at-limit, so no text is dropped silently.

The steps are written once, asynchronously; `core.unsuspended` runs them on a blocking backend.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lmstrix.core.answers import load_policy
from lmstrix.core.answers.load_policy import ContextChoice, Load, Reuse
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.types import DEFAULT_LOAD, Deadlines, GenerationRequest, LoadConfig, LoadedModel, Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.ground.backend import LoadProgress, ModelBackend

OWN_PREFIX = "lmstrix-infer-"
ROUGH_BYTES_PER_TOKEN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceTarget:
    """The model to ask, as the registry knows it."""

    model_key: str
    declared_context_length: int
    tested_context_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceOptions:
    """How to run it. `in_ctx`/`out_ctx`: tokens, a ratio as float, None for the default; `in_ctx` 0 is the server's.

    `load` carries cache types and the like; its context length is chosen here. `ttl_s` unloads an idle own instance.
    """

    in_ctx: int | float | None = None
    out_ctx: int | float | None = None
    reload: bool = False
    ttl_s: float | None = 300.0
    load: LoadConfig = DEFAULT_LOAD
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An instance ready to answer: its effective context, the prompt's exact size, what may be generated."""

    instance: LoadedModel
    choice: ContextChoice
    prompt_tokens: int
    max_tokens: int
    load_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquired:
    """An instance to ask, and how long its load took; None when it was there already."""

    instance: LoadedModel
    choice: ContextChoice
    load_s: float | None


async def prepare(
    backend: ModelBackend,
    target: InferenceTarget,
    request: GenerationRequest,
    options: InferenceOptions,
    *,
    instance_id: str,
    on_load: Callable[[ContextChoice], None] | None = None,
    on_progress: LoadProgress | None = None,
) -> Prepared:
    """Make an instance ready for the request, named `instance_id` if one must be loaded.

    Raises ContextOverflowError before anything is sent; then an instance loaded for it is unloaded again.
    """
    acquired = await acquire(
        backend,
        target,
        options,
        instance_id=instance_id,
        needed_tokens=needed_tokens(request, options),
        on_load=on_load,
        on_progress=on_progress,
    )
    try:
        return await fit(backend, acquired, request, options)
    except LMStrixError:
        await release(backend, acquired)
        raise


async def acquire(
    backend: ModelBackend,
    target: InferenceTarget,
    options: InferenceOptions,
    *,
    instance_id: str,
    needed_tokens: int,
    on_load: Callable[[ContextChoice], None] | None = None,
    on_progress: LoadProgress | None = None,
) -> Acquired:
    """Reuse an instance that serves, or load one under the name `instance_id`."""
    choice = load_policy.choose_context(
        options.in_ctx,
        declared=target.declared_context_length,
        tested=target.tested_context_length,
        needed_tokens=needed_tokens,
    )
    decision = load_policy.decide(
        replace(options.load, context_length=choice.context_length),
        await backend.list_loaded(),
        model_key=target.model_key,
        own_prefix=OWN_PREFIX,
        reload=options.reload,
        needed_tokens=needed_tokens,
    )
    if isinstance(decision, Reuse):
        return Acquired(instance=decision.instance, choice=choice, load_s=None)
    if on_load is not None:
        on_load(choice)
    started = time.perf_counter()
    instance = await _load(backend, target.model_key, decision, options, instance_id, on_progress)
    return Acquired(instance=instance, choice=choice, load_s=time.perf_counter() - started)


async def fit(
    backend: ModelBackend, acquired: Acquired, request: GenerationRequest, options: InferenceOptions
) -> Prepared:
    """Count a request on its instance. Raises ContextOverflowError when it and its answer cannot fit."""
    instance = acquired.instance
    prompt_tokens = await _count(backend, instance.instance_id, request)
    limit = load_policy.output_limit(
        options.out_ctx, context_length=instance.context_length, prompt_tokens=prompt_tokens
    )
    return Prepared(
        instance=instance,
        choice=acquired.choice,
        prompt_tokens=prompt_tokens,
        max_tokens=limit,
        load_s=acquired.load_s,
    )


async def release(backend: ModelBackend, acquired: Acquired | Prepared) -> None:
    """Unload an instance that was loaded for this call; one that was there before is never touched."""
    if acquired.load_s is not None:
        await backend.unload(acquired.instance.instance_id)


def needed_tokens(request: GenerationRequest, options: InferenceOptions) -> int:
    """An estimate from above for prose of prompt and answer, to choose a context before a model is there to count."""
    texts = [request.raw_prompt or "", *(message.text for message in request.messages)]
    prompt = sum(len(text.encode(errors="surrogatepass")) for text in texts) // ROUGH_BYTES_PER_TOKEN + 64
    return prompt + (options.out_ctx if isinstance(options.out_ctx, int) else 0)


def bounded(request: GenerationRequest, prepared: Prepared) -> GenerationRequest:
    """The request with the room that is left for its answer."""
    return replace(request, max_tokens=prepared.max_tokens)


async def _load(
    backend: ModelBackend,
    model_key: str,
    decision: Load,
    options: InferenceOptions,
    instance_id: str,
    on_progress: LoadProgress | None,
) -> LoadedModel:
    for stale in decision.replaces:
        if not stale.queued:
            await backend.unload(stale.instance_id)
    return await backend.load(
        model_key,
        decision.config,
        instance_id=instance_id,
        ttl_s=options.ttl_s,
        deadlines=options.deadlines,
        on_progress=on_progress,
    )


async def _count(backend: ModelBackend, instance_id: str, request: GenerationRequest) -> int:
    text = request.raw_prompt
    if text is None:
        text = await backend.apply_template(instance_id, request.messages, tools=request.tools)
    return await backend.count_tokens(instance_id, text)


def user_message(text: str, *, system: str | None = None) -> tuple[Message, ...]:
    """A chat of one question, with an optional system prompt."""
    question = Message(role="user", text=text)
    return (Message(role="system", text=system), question) if system else (question,)
