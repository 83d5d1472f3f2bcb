"""One answer: choose a context, load or reuse an instance, count the prompt, refuse what cannot fit, then stream.

Nothing is sent before the whole prompt, template included, has been counted by the model itself against the context it
really has; overflow policy is always stop-at-limit, so no text is dropped silently.

The steps are written once, asynchronously (`prepare`, `release`); `InferenceManager` runs them on a blocking backend.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lmstrix.core import load_policy
from lmstrix.core.load_policy import ContextChoice, Load, Reuse
from lmstrix.core.unsuspended import Unsuspended, run_unsuspended
from lmstrix.errors import LMStrixError
from lmstrix.types import Deadlines, GenerationRequest, LoadConfig, LoadedModel, Message, StreamEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.backend import AsyncModelBackend, LoadProgress, ModelBackend

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
    load: LoadConfig = field(default_factory=lambda: LoadConfig(context_length=None))
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An instance ready to answer: its effective context, the prompt's exact size, what may be generated."""

    instance: LoadedModel
    choice: ContextChoice
    prompt_tokens: int
    max_tokens: int
    load_s: float | None


async def prepare(
    backend: AsyncModelBackend,
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
    answer = options.out_ctx if isinstance(options.out_ctx, int) else 0
    needed = _rough_tokens(request) + answer
    choice = load_policy.choose_context(
        options.in_ctx,
        declared=target.declared_context_length,
        tested=target.tested_context_length,
        needed_tokens=needed,
    )
    decision = load_policy.decide(
        replace(options.load, context_length=choice.context_length),
        await backend.list_loaded(),
        model_key=target.model_key,
        own_prefix=OWN_PREFIX,
        reload=options.reload,
        needed_tokens=needed,
    )
    load_s: float | None = None
    if isinstance(decision, Reuse):
        instance = decision.instance
    else:
        if on_load is not None:
            on_load(choice)
        started = time.perf_counter()
        instance = await _load(backend, target.model_key, decision, options, instance_id, on_progress)
        load_s = time.perf_counter() - started
    try:
        prompt_tokens = await _count(backend, instance.instance_id, request)
        limit = load_policy.output_limit(
            options.out_ctx, context_length=instance.context_length, prompt_tokens=prompt_tokens
        )
    except LMStrixError:
        if load_s is not None:
            await backend.unload(instance.instance_id)
        raise
    return Prepared(instance=instance, choice=choice, prompt_tokens=prompt_tokens, max_tokens=limit, load_s=load_s)


def bounded(request: GenerationRequest, prepared: Prepared) -> GenerationRequest:
    """The request with the room that is left for its answer."""
    return replace(request, max_tokens=prepared.max_tokens)


async def _load(
    backend: AsyncModelBackend,
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


async def _count(backend: AsyncModelBackend, instance_id: str, request: GenerationRequest) -> int:
    text = request.raw_prompt
    if text is None:
        text = await backend.apply_template(instance_id, request.messages, tools=request.tools)
    return await backend.count_tokens(instance_id, text)


class InferenceManager:
    """Runs requests on a blocking backend. `run_id` makes the identifiers of its instances unique."""

    def __init__(self, backend: ModelBackend, *, run_id: str) -> None:
        self._backend = backend
        self._run_id = run_id
        self._calls = 0

    def prepare(
        self,
        target: InferenceTarget,
        request: GenerationRequest,
        options: InferenceOptions,
        *,
        on_load: Callable[[ContextChoice], None] | None = None,
        on_progress: LoadProgress | None = None,
    ) -> Prepared:
        """`prepare`, blocking."""
        self._calls += 1
        steps = prepare(
            Unsuspended(self._backend),
            target,
            request,
            options,
            instance_id=f"{OWN_PREFIX}{self._run_id}-{self._calls}",
            on_load=on_load,
            on_progress=on_progress,
        )
        return run_unsuspended(steps)

    def stream(
        self, prepared: Prepared, request: GenerationRequest, options: InferenceOptions
    ) -> Iterator[StreamEvent]:
        """The events of the answer; the last is Finished."""
        return self._backend.stream(
            prepared.instance.instance_id, bounded(request, prepared), deadlines=options.deadlines
        )

    def release(self, prepared: Prepared) -> None:
        """Unload the instance if this run loaded it; a user's own instance is never touched."""
        if prepared.load_s is not None:
            self._backend.unload(prepared.instance.instance_id)


def user_message(text: str, *, system: str | None = None) -> tuple[Message, ...]:
    """A chat of one question, with an optional system prompt."""
    question = Message(role="user", text=text)
    return (Message(role="system", text=system), question) if system else (question,)


def _rough_tokens(request: GenerationRequest) -> int:
    """An estimate from above for prose, to choose a context before the model is loaded to count."""
    texts = [request.raw_prompt or "", *(message.text for message in request.messages)]
    return sum(len(text.encode(errors="surrogatepass")) for text in texts) // ROUGH_BYTES_PER_TOKEN + 64
