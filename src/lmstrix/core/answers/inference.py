"""InferenceManager: choose a context, load or reuse an instance, count the prompt, refuse what cannot fit, then ask.

Nothing is sent before the whole prompt, template included, has been counted by the model itself against the context it
really has; overflow policy is always stop-at-limit, so no text is dropped silently.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lmstrix.core.answers import load_policy
from lmstrix.core.answers.load_policy import ContextChoice, Load, Reuse
from lmstrix.core.answers.overlong import refuse_by_part, refuse_by_size
from lmstrix.core.answers.shared_loads import SharedLoads
from lmstrix.core.answers.streaming import StreamingManager, result_of
from lmstrix.core.answers.truncation import truncated_by
from lmstrix.core.registry.places import place_of
from lmstrix.ground import log
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.deadline import Deadline, without_limit
from lmstrix.ground.errors import HeadroomError
from lmstrix.ground.headroom import NAME
from lmstrix.ground.loads import DEFAULT_LOAD, LoadConfig
from lmstrix.ground.tasks import CLEAN_UP_S, within
from lmstrix.ground.types import Deadlines, Finished, GenerationRequest, LoadedModel, Message
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.backend import LoadProgress, ModelBackend
    from lmstrix.ground.types import GenerationResult, StreamEvent

    RoomTokens = Callable[[ModelRecord, LoadConfig], Awaitable[int | None]]
    """The longest context that leaves free what is to stay free; None where nobody knows."""

FORGOTTEN_TTL_S = 300.0  # the default time to live; what is used is never idle for so long
ROUGH_BYTES_PER_TOKEN = 3  # prose has about four; too high an estimate costs memory, too low a one loads too little
ROUGH_TOKENS_PER_IMAGE = 1000  # Gemma 3 has 256 and LLaVA 1.5 576; Qwen2.5-VL has about 1,300 for a megapixel


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceOptions:
    """How to run it. `context_length` and `max_tokens` as in InferRequest.

    `load` carries cache types and the like; its context length is chosen here. `ttl_s` unloads an idle own instance,
    0 as soon as it has answered.
    """

    context_length: int | float | None = None
    max_tokens: int | float | None = None
    reload: bool = False
    ttl_s: float | None = 300.0
    load: LoadConfig = DEFAULT_LOAD
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAnswer:
    """A request worked out: which model, what to send, under which limits.

    Everything that is done for it, from loading to the last token, is to be done by its `deadline`.
    """

    record: ModelRecord
    request: GenerationRequest
    options: InferenceOptions
    deadline: Deadline = field(default_factory=without_limit)

    def begun(self) -> PlannedAnswer:
        """The same with its time beginning now, for what is planned long before it is asked."""
        return replace(self, deadline=Deadline(self.options.deadlines.total_s))

    @property
    def needed_tokens(self) -> int:
        """Room for prompt and answer, estimated; see `needed_tokens`."""
        return needed_tokens(self.request, self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquired:
    """An instance to ask, and how long its load took; None when it was there already."""

    instance: LoadedModel
    choice: ContextChoice
    load_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An instance ready to answer one request: the exact size of the prompt's text, and what may be generated.

    No server counts `images` before it is asked: what they take is told with the answer.
    """

    acquired: Acquired
    prompt_tokens: int
    max_tokens: int
    images: int = 0

    @property
    def instance(self) -> LoadedModel:
        """The instance that will answer."""
        return self.acquired.instance


class InferenceManager:
    """Answers from one backend. An instance that is loaded here is named by the caller (`instance_id`).

    Managers with the same `loads` load no model twice at once, and unload nothing that another one uses. `room` is
    asked where memory is to stay free.
    """

    def __init__(
        self, backend: ModelBackend, *, loads: SharedLoads | None = None, room: RoomTokens | None = None
    ) -> None:
        self._backend = backend
        self._room = room
        self._loads = loads or SharedLoads(backend)
        self._streaming = StreamingManager(backend)

    async def prepare(
        self,
        planned: PlannedAnswer,
        *,
        instance_id: str,
        on_load: Callable[[ContextChoice], None] | None = None,
        on_progress: LoadProgress | None = None,
    ) -> Prepared:
        """Make an instance ready for the request.

        Raises:
            ContextOverflowError: before anything is sent; an instance loaded for it is unloaded again.
        """
        acquired = await self.acquire(
            planned,
            instance_id=instance_id,
            needed_tokens=planned.needed_tokens,
            on_load=on_load,
            on_progress=on_progress,
        )
        try:
            return await self.fit(acquired, planned)
        except BaseException:
            # An instance loaded for a prompt that it cannot answer, or is not to any more, would only take memory.
            await within(CLEAN_UP_S, self.release(acquired, keep=self._loads.is_shared(acquired.instance)))
            raise

    async def acquire(
        self,
        planned: PlannedAnswer,
        *,
        instance_id: str,
        needed_tokens: int,
        on_load: Callable[[ContextChoice], None] | None = None,
        on_progress: LoadProgress | None = None,
    ) -> Acquired:
        """Reuse an instance that serves, or load one under the name `instance_id`."""
        record, options = planned.record, planned.options
        # What fits on another machine, or into another cache, says nothing about this load.
        known = record.seen_from(place_of(self._backend.server)).result_with(options.load)
        choice = load_policy.choose_context(
            options.context_length,
            declared=record.max_context_length or UNKNOWN_DECLARED_TOKENS,
            tested=known.tested_context_length if known else None,
            tested_is_limit=known is None or known.is_limit,
            needed_tokens=needed_tokens,
        )
        if self._room is not None:
            room_tokens = await self._room(record, options.load)
            choice = load_policy.leaving_free(choice, room_tokens, needed_tokens=needed_tokens)
        wanted = replace(options.load, context_length=choice.context_length)
        decision: Reuse | Load | None = None
        load_s: float | None = None

        # Asked each time: what was loaded a moment ago may be unloaded, or loaded again at another context.
        async def find() -> LoadedModel | None:
            nonlocal decision
            loaded = await self._backend.list_loaded()
            decision = load_policy.decide(
                wanted,
                loaded,
                model_key=record.model_key,
                own_prefix=load_policy.OWN_PREFIX,
                reload=options.reload,
                needed_tokens=needed_tokens,
                in_use=self._loads.in_use,
                loaded_as=self._loads.loaded_as,
            )
            if isinstance(decision, Load):
                return None
            log.debug("reuses {}, context {}", decision.instance.instance_id, decision.instance.context_length)
            return decision.instance

        async def load() -> LoadedModel:
            nonlocal load_s
            assert isinstance(decision, Load)
            await self._make_way(decision)
            if choice.source == "headroom":
                await self._refuse_too_long(planned, needed_tokens)
            if on_load is not None:
                on_load(choice)
            started = time.perf_counter()
            loaded = await self._load(record.model_key, decision, options, instance_id, on_progress)
            load_s = time.perf_counter() - started
            log.info("loaded {}, context {}, in {:.2f} s", record.model_key, loaded.context_length, load_s)
            return loaded

        instance, _ = await self._loads.get(record.model_key, wanted, find=find, load=load, deadline=planned.deadline)
        return Acquired(instance=instance, choice=choice, load_s=load_s)

    async def fit(self, acquired: Acquired, planned: PlannedAnswer) -> Prepared:
        """Count a request on its instance. Raises ContextOverflowError when it and its answer cannot fit."""
        instance = acquired.instance
        refuse_by_size(planned.request, context_length=instance.context_length)
        async with planned.deadline.step("counting the prompt"):
            prompt_tokens = await count_prompt(
                self._backend, instance.instance_id, planned.request, context_length=instance.context_length
            )
        limit = load_policy.output_limit(
            planned.options.max_tokens, context_length=instance.context_length, prompt_tokens=prompt_tokens
        )
        log.debug("the prompt has {} tokens; at most {} are generated", prompt_tokens, limit)
        images = planned.request.image_count
        return Prepared(acquired=acquired, prompt_tokens=prompt_tokens, max_tokens=limit, images=images)

    async def ask(self, prepared: Prepared, planned: PlannedAnswer) -> AsyncGenerator[StreamEvent]:
        """The events of the answer; the last is Finished. Leaving early cancels it on the server."""
        instance, deadlines = prepared.instance, planned.options.deadlines
        answer = self._streaming.events(
            instance.instance_id,
            _bounded(planned.request, prepared),
            deadlines=deadlines,
            deadline=planned.deadline,
            model_key=instance.model_key,
        )
        async with aclosing(answer) as events:
            async for event in events:
                yield _judged(event.result, prepared, planned) if isinstance(event, Finished) else event

    async def result(self, prepared: Prepared, planned: PlannedAnswer) -> GenerationResult:
        """The answer, whole."""
        return await result_of(self.ask(prepared, planned))

    async def release(self, acquired: Acquired, *, keep: bool = False) -> None:
        """Be done with an instance. Unless it is to be kept, one that was loaded for this call is unloaded.

        An instance that was there before stays; one that others began to use meanwhile is unloaded by the last of them.
        """
        await self._loads.leave(acquired.instance, keep=keep or acquired.load_s is None)

    async def _make_way(self, decision: Load) -> None:
        for stale in decision.replaces:
            # An instance that still answers somebody stays; its time to live ends it.
            if not stale.queued:
                await self._backend.unload(stale.instance_id)

    async def _refuse_too_long(self, planned: PlannedAnswer, needed_tokens: int) -> None:
        """Raise HeadroomError where what the call needs would not leave free what is to stay free."""
        assert self._room is not None
        # Asked again: what made way for it was in memory before.
        room_tokens = await self._room(planned.record, planned.options.load)
        if room_tokens is not None and room_tokens < needed_tokens:
            raise HeadroomError(
                f"{planned.record.model_key}: prompt and answer take about {needed_tokens:,} tokens, and "
                f"{room_tokens:,} fit beside what {NAME} keeps free; make that less, or name a context "
                f"({parameter('context_length')})",
                model_key=planned.record.model_key,
            )

    async def _load(
        self,
        model_key: str,
        decision: Load,
        options: InferenceOptions,
        instance_id: str,
        on_progress: LoadProgress | None,
    ) -> LoadedModel:
        return await self._backend.load(
            model_key,
            decision.config,
            instance_id=instance_id,
            # A call that unloads when it is done may be killed before; and 0 would mean "at once" to a server.
            ttl_s=options.ttl_s if options.ttl_s != 0 else FORGOTTEN_TTL_S,
            deadlines=options.deadlines,
            on_progress=on_progress,
        )


async def count_prompt(
    backend: ModelBackend, instance_id: str, request: GenerationRequest, *, context_length: int
) -> int:
    """The tokens of a request, template included, as the model itself counts them; those of its images are missing.

    Raises ContextOverflowError for one far beyond `context_length`, which is not counted to its end.
    """
    await refuse_by_part(backend, instance_id, request, context_length=context_length)
    text = request.raw_prompt
    if text is None:
        # A template puts a mark where an image will be, whose length says nothing about the image.
        messages = [replace(message, images=()) for message in request.messages]
        text = await backend.apply_template(instance_id, messages, tools=request.tools)
    return await backend.count_tokens(instance_id, text)


def needed_tokens(request: GenerationRequest, options: InferenceOptions) -> int:
    """The tokens of prompt and answer, estimated rather too high, to choose a context before a model can count."""
    texts = [request.raw_prompt or "", *(message.text for message in request.messages)]
    prompt = (
        sum(len(text.encode(errors="surrogatepass")) for text in texts) // ROUGH_BYTES_PER_TOKEN
        + ROUGH_TOKENS_PER_IMAGE * request.image_count
        + 64  # for the chat template's own tokens
    )
    return prompt + (options.max_tokens if isinstance(options.max_tokens, int) else 0)


def user_message(text: str, *, system: str | None = None) -> tuple[Message, ...]:
    """A chat of one question, with an optional system prompt."""
    question = Message(role="user", text=text)
    return (Message(role="system", text=system), question) if system else (question,)


def _judged(result: GenerationResult, prepared: Prepared, planned: PlannedAnswer) -> Finished:
    """The result with what cut it short: only here the limit that was asked for and the one that was sent are known."""
    limited = planned.options.max_tokens is not None
    cause = truncated_by(result.stats, max_tokens=prepared.max_tokens, limit_asked=limited)
    return Finished(result=replace(result, truncated_by=cause))


def _bounded(request: GenerationRequest, prepared: Prepared) -> GenerationRequest:
    """The request with the room that is left for its answer."""
    return replace(request, max_tokens=prepared.max_tokens)
