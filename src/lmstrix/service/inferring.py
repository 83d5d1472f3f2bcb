"""`lmstrix infer` around the answer: words into a request, a conversation continued, the answer checked and kept."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.core.answers.acting import Tool, Transcript, tools_of
from lmstrix.core.answers.conversations import LAST_EXCHANGE, Conversation
from lmstrix.core.answers.inference import InferenceOptions, needed_tokens
from lmstrix.ground.errors import LMStrixError, ModelNotFoundError, UsageError
from lmstrix.ground.types import Message
from lmstrix.service.answering import generation_request
from lmstrix.service.prompting import PromptWords, compose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from lmstrix.core.answers.answer_schema import AnswerSchema
    from lmstrix.core.answers.inference import Prepared
    from lmstrix.core.answers.request import InferRequest, Rehearsal
    from lmstrix.ground.choices import WorkKind
    from lmstrix.ground.types import GenerationResult, StreamEvent
    from lmstrix.service.facade import LMStrixService


@dataclass(frozen=True, slots=True, kw_only=True)
class InferWords:
    """What one `infer` was told; `request` lacks only its prompt, which `prompt` spells."""

    prompt: PromptWords
    request: InferRequest
    auto_model: bool = False
    go_on: bool = False
    schema: AnswerSchema | None = None
    save_response: Path | None = None


class Inferring:
    """One `infer` from its words to what is kept of it. Raises what is wrong with the words when made."""

    def __init__(self, service: LMStrixService, words: InferWords) -> None:
        self._service = service
        self._words = words
        self._transcript = Transcript()
        request = words.request
        composed = compose(words.prompt)
        for name in composed.unused:
            service.notify(f"{name} is given, but the prompt does not ask for it")
        if words.save_response is not None and not words.save_response.absolute().parent.is_dir():
            raise UsageError(f"--save-response: there is no folder {words.save_response.absolute().parent}")
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
            messages=() if request.raw else self._earlier.asking(replace(self._question, images=())),
            json_schema=words.schema.json_schema if words.schema else None,
        )
        if words.auto_model:
            self._request = self._with_recommended_model()

    def rehearse(self) -> Rehearsal:
        """What would be sent."""
        return self._service.rehearse(self._request)

    def events(self, *, on_prepared: Callable[[Prepared], None] | None = None) -> Iterator[StreamEvent]:
        """The events of the answer."""
        return self._service.stream(self._request, on_prepared=on_prepared, transcript=self._transcript)

    def keep(self, result: GenerationResult) -> None:
        """Check the answer against its schema, and write it where it was asked for and where `--continue` looks."""
        if self._words.schema is not None:
            self._words.schema.read(result.text)
        if self._words.save_response is not None:
            save_text(self._words.save_response, result.text)
        if self._service.keeps_texts and not self._request.raw:
            turns = tuple(self._transcript.messages) or (Message(role="assistant", text=result.text),)
            kept = self._earlier.answered(self._question, turns, model_key=result.model_key)
            try:
                self._service.conversations.save(kept)
            except OSError as exc:
                self._service.notify(f"the conversation was not kept: {exc}")

    def _conversation(self, request: InferRequest) -> Conversation:
        if not self._words.go_on:
            return Conversation(name=LAST_EXCHANGE)
        if request.raw:
            raise UsageError("a raw prompt continues no conversation; leave out --raw or --continue")
        return self._service.conversations.latest()

    def _with_recommended_model(self) -> InferRequest:
        from lmstrix.core.answers.recommend import Wish

        request = self._request
        if self._words.request.model is not None:
            raise UsageError("give -m MODEL or --auto-model, not both")
        needed = needed_tokens(generation_request(request), InferenceOptions(out_ctx=request.out_ctx))
        task: WorkKind = "vision" if request.images else "tools" if request.tools else "chat"
        advice = self._service.recommend(Wish(task=task, min_context_length=needed))
        if not advice.ranked:
            raise ModelNotFoundError(f"no model serves this prompt: {advice.obstacles}")
        best = advice.ranked[0].candidate.model_key
        self._service.notify(f"{best} it is: {', '.join(advice.ranked[0].reasons)}")
        return replace(request, model=best)


def tools_of_words(references: Sequence[str]) -> tuple[Tool, ...]:
    """The tools that `module:function,module:other` name."""
    from lmstrix.loaders.user_code import load_object

    functions: list[Callable[..., object]] = []
    for reference in ",".join(references).split(",") if references else ():
        found = load_object(reference.strip())
        if not callable(found):
            raise UsageError(f"{reference.strip()} is no function")
        functions.append(found)
    return tools_of(functions)


def save_text(file: Path, text: str) -> None:
    """Write an answer whole or not at all."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(text.encode("utf-8", "replace"))
        temporary.replace(file)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise LMStrixError(f"{file} cannot be written: {exc.strerror or exc}") from exc
