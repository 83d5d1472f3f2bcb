"""`lmstrix infer` around the answer: words into a request, a conversation continued, the answer checked and kept."""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.core.answers.acting import Tool, Transcript, refuse_coroutines, tools_of
from lmstrix.core.answers.conversations import LAST_EXCHANGE, Conversation
from lmstrix.core.answers.inference import InferenceOptions, needed_tokens
from lmstrix.ground.callbacks import in_caller
from lmstrix.ground.errors import ModelNotFoundError, UsageError
from lmstrix.ground.types import Message
from lmstrix.ground.wording import parameter
from lmstrix.service.answering import Watch, answer, generation_request
from lmstrix.service.dry_run import dry_run
from lmstrix.service.finding import known_models
from lmstrix.service.output_file import check_output, save_text
from lmstrix.service.prompting import PromptWords, compose

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
    from pathlib import Path

    from lmstrix.core.answers.acting import Approve
    from lmstrix.core.answers.answer_schema import AnswerSchema
    from lmstrix.core.answers.inference import Prepared
    from lmstrix.core.answers.request import DryRun, InferRequest
    from lmstrix.ground.backend import LoadProgress
    from lmstrix.ground.choices import WorkKind
    from lmstrix.ground.deadline import Deadline
    from lmstrix.ground.types import GenerationResult, StreamEvent
    from lmstrix.service.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class InferWords:
    """What one `infer` was told. `request` is complete except for its prompt, which `prompt` describes."""

    prompt: PromptWords
    request: InferRequest
    auto_model: bool = False
    go_on: bool = False
    schema: AnswerSchema | None = None
    save_response: Path | None = None


class Inferring:
    """One `infer` from its words to what is kept of it. Raises what is wrong with the words when made."""

    def __init__(self, workspace: Workspace, words: InferWords) -> None:
        self._workspace = workspace
        self._words = words
        self._transcript = Transcript()
        request = words.request
        composed = compose(words.prompt)
        for name in composed.unused:
            workspace.notify(f"{name} is given, but the prompt does not ask for it")
        # Now rather than after minutes of answering.
        if words.save_response is not None:
            check_output(words.save_response, parameter("save_response"))
        if not composed.text.strip():
            raise UsageError("the prompt is empty; write a question (or - to read it from stdin)")
        self._earlier = self._conversation(request)
        self._question = Message(role="user", text=composed.text, images=request.images)
        system_prompt = request.system_prompt or composed.system_prompt
        if system_prompt is not None:
            self._earlier = self._earlier.with_system_prompt(system_prompt)
        self._request = replace(
            request,
            prompt=composed.text,
            model=request.model or (self._earlier.model_key if words.go_on else None),
            system_prompt=self._earlier.system_prompt,
            # Without the images, which `request` has already; the conversation keeps them with the question.
            messages=() if request.raw else self._earlier.asking(replace(self._question, images=())),
            json_schema=words.schema.json_schema if words.schema else None,
        )

    async def dry_run(self) -> DryRun:
        """What would be sent."""
        deadline = self._workspace.deadline(self._request.timeout_s)
        with self._told_if_swapped():
            await self._choose_model(deadline)
            async with deadline.step("counting the prompt"):
                return await dry_run(self._workspace, self._request)

    async def events(
        self,
        *,
        on_prepared: Callable[[Prepared], None] | None = None,
        on_progress: LoadProgress | None = None,
        approve: Approve | None = None,
    ) -> AsyncGenerator[StreamEvent]:
        """The events of the answer. `approve` is asked before each call of a tool."""
        deadline = self._workspace.deadline(self._request.timeout_s)
        await self._choose_model(deadline)
        watch = Watch(
            on_prepared=on_prepared and in_caller(on_prepared),
            on_progress=on_progress and in_caller(on_progress),
            transcript=self._transcript,
            approve=approve,
            schema=self._words.schema,
        )
        with self._told_if_swapped():
            async with aclosing(answer(self._workspace, self._request, watch, deadline=deadline)) as events:
                async for event in events:
                    yield event

    def keep(self, result: GenerationResult) -> None:
        """Keep the answer where `--continue` looks, check it against its schema, write it where it was asked for."""
        if self._workspace.keeps_texts and not self._request.raw:
            turns = tuple(self._transcript.messages) or (Message(role="assistant", text=result.text),)
            kept = self._earlier.answered(self._question, turns, model_key=result.model_key)
            try:
                self._workspace.conversations.save(kept)
            except OSError as exc:  # the answer is there: a full disk must not make it a failure
                self._workspace.notify(f"the conversation was not kept: {exc.strerror or exc}")
        # Before it is written: an answer that does not match must not replace an earlier one that did.
        if self._words.schema is not None:
            self._words.schema.check(result)
        if self._words.save_response is not None:
            save_text(self._words.save_response, result.text)

    def _conversation(self, request: InferRequest) -> Conversation:
        if not self._words.go_on:
            return Conversation(name=LAST_EXCHANGE)
        if request.raw:
            raise UsageError(
                f"a raw prompt continues no conversation; leave out {parameter('raw')} or {parameter('go_on')}"
            )
        return self._workspace.conversations.latest()

    @contextmanager
    def _told_if_swapped(self) -> Iterator[None]:
        """Where no model has the name, and the prompt is the name of one, say that the prompt comes first."""
        try:
            yield
        except ModelNotFoundError as exc:
            prompt, model = self._request.prompt, self._request.model
            if model is None or not _is_model(self._workspace, prompt):
                raise
            raise ModelNotFoundError(
                f"No model {model!r} in the registry, but {prompt!r}, given as the prompt, is one: "
                "the prompt comes first, then the model",
                model_key=model,
                suggestions=(prompt,),
            ) from exc

    async def _choose_model(self, deadline: Deadline) -> None:
        """With --auto-model: the best one for what is asked."""
        if not self._words.auto_model:
            return
        from lmstrix.core.answers.recommend import Wish
        from lmstrix.service.recommending import advise

        request = self._request
        if self._words.request.model is not None:
            raise UsageError(f"give {parameter('model')} or {parameter('auto_model')}, not both")
        needed = needed_tokens(generation_request(request), InferenceOptions(max_tokens=request.max_tokens))
        task: WorkKind = "vision" if request.images else "tools" if request.tools else "chat"
        async with deadline.step("reading the registry"):
            await known_models(self._workspace)  # an empty registry has nothing to recommend
        advice = await advise(self._workspace, Wish(task=task, min_context_length=needed))
        if not advice.ranked:
            raise ModelNotFoundError(f"no model serves this prompt: {advice.obstacles}")
        best = advice.ranked[0].candidate.model_key
        self._workspace.notify(f"{best} it is: {', '.join(advice.ranked[0].reasons)}")
        self._request = replace(request, model=best)


def _is_model(workspace: Workspace, name: str) -> bool:
    try:
        workspace.registry().find(name)
    except ModelNotFoundError:
        return False
    return True


def tools_of_words(references: Sequence[str]) -> tuple[Tool, ...]:
    """The tools that `module:function,module:other` name."""
    from lmstrix.loaders.user_code import load_object

    functions: list[Callable[..., object]] = []
    for reference in ",".join(references).split(",") if references else ():
        found = load_object(reference.strip())
        if not callable(found):
            raise UsageError(f"{reference.strip()} is no function")
        functions.append(found)
    return tools_of(refuse_coroutines(functions))
