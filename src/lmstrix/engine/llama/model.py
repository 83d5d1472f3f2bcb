"""What a loaded model can be asked for: tokens, prompts, vectors, and why it no longer answers."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any, TypeVar

from lmstrix.engine.faults import EngineFault, unloaded_fault
from lmstrix.engine.llama.client import LlamaGoneError, LlamaRefusalError
from lmstrix.engine.llama.images import check_images, without_contents
from lmstrix.engine.llama.request import (
    chat_messages,
    image_bytes,
    overflow_fault,
    template_fields,
    template_variables,
)
from lmstrix.engine.llama.templates import RunawayTemplateError, rendered, runaway_fault, template_fault
from lmstrix.engine.records import PredictionSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from lmstrix.engine.llama.client import LlamaClient
    from lmstrix.engine.llama.process import LlamaProcess
    from lmstrix.engine.llama.slots import Slots
    from lmstrix.engine.records import CatalogEntry, ChatTurn, LoadSettings
    from lmstrix.engine.uploads import FileStore

T = TypeVar("T")
_MOST_TOKENS = 2_000_000
"""Of one text, to be parsed: 0.1 s. A model whose context is longer takes as many as that."""
_RENDERINGS = 2
"""Templates of requests that are rendered at once."""
_CRASH_GRACE_S = 5.0
"""How long a child whose connection broke may take to end before the breakage counts as something else."""


class LlamaModel:
    """A model in a process of its own, and its slots. `settings` are effective, so `context_length` is exact."""

    def __init__(self, entry: CatalogEntry, settings: LoadSettings, process: LlamaProcess, slots: Slots) -> None:
        assert settings.context_length is not None
        self.entry = entry
        self.settings = settings
        self.context_length: int = settings.context_length
        self.process = process
        self.slots = slots
        # Each is a process; those of other models do not wait for them.
        self._renderings = asyncio.Semaphore(_RENDERINGS)

    @property
    def client(self) -> LlamaClient:
        """HTTP to its llama.cpp."""
        return self.process.client

    async def tokenize(self, text: str, *, as_prompt: bool = False) -> list[int]:
        """The tokens of `text`; `as_prompt` adds what the model wants at the beginning (BOS)."""
        answer = await self._tokenized(text, as_prompt=as_prompt)
        # Parsing holds everybody else up, and so many fit into no context.
        if (count := _token_count(answer)) > max(_MOST_TOKENS, self.context_length):
            raise overflow_fault(count, self.context_length)
        return list(json.loads(answer)["tokens"])

    async def count_tokens(self, text: str) -> int:
        """How many tokens `text` has."""
        return _token_count(await self._tokenized(text, as_prompt=False))

    async def _tokenized(self, text: str, *, as_prompt: bool) -> bytes:
        """llama.cpp's answer, {"tokens":[…]}."""
        body = {"content": text, "add_special": as_prompt, "parse_special": True}
        return await self._ask(self.client.post_text("/tokenize", body))

    async def apply_template(
        self,
        turns: Sequence[ChatTurn],
        *,
        tools: Sequence[Any] = (),
        prompt_template: str | None = None,
        omit_bos: bool = True,
        files: FileStore | None = None,
    ) -> str:
        """The prompt the model gets for `turns`. llama.cpp adds BOS as a token; its text is there on request only.

        A model whose tokenizer adds none gets none, so that counting the text counts the prompt.
        """
        settings = PredictionSettings(tools=tuple(tools), prompt_template=prompt_template)
        text = await self.render(turns, settings, files)
        if omit_bos or not await self.tokenize("", as_prompt=True):
            return text
        bos = str((await self._properties())["bos_token"])
        return text if text.startswith(bos) else bos + text

    async def render(self, turns: Sequence[ChatTurn], settings: PredictionSettings, files: FileStore | None) -> str:
        """The prompt text for a chat, through the model's template or the one in `settings`."""
        images = image_bytes(turns, files)
        check_images(images, self.entry)
        messages = chat_messages(without_contents(turns), files)
        if settings.prompt_template is not None:
            if images:
                # Only llama.cpp knows the mark that stands for an image in a prompt.
                raise EngineFault(
                    "Images cannot be shown through a prompt template of the request",
                    kind="unsupported",
                    suggestion="Leave the template out, or give it when the model is loaded.",
                )
            # llama.cpp takes a template only when it loads; one that comes with a request is rendered here.
            async with self._renderings:
                return await rendered(
                    settings.prompt_template, template_variables(messages, settings, await self._properties())
                )
        body: dict[str, Any] = {**template_fields(settings), "messages": messages}
        if settings.tools:
            body |= {"tools": list(settings.tools), "tool_choice": settings.tool_choice}
        try:
            rendering = self.process.within_template_limits(self._reached(self.client.post("/apply-template", body)))
            return str((await rendering)["prompt"])
        except LlamaRefusalError as exc:
            raise template_fault(exc.message) from exc
        except RunawayTemplateError as exc:
            await self.process.stop()
            raise runaway_fault(self.entry.model_key, exc, kind="crashed") from exc

    async def embed(self, text: str) -> list[float]:
        """The embedding of `text`."""
        if self.entry.kind != "embedding":
            raise EngineFault(f"{self.entry.model_key} is no embedding model", kind="invalid")
        with self.slots.request() as turn:
            tokens = await self.tokenize(text, as_prompt=True)
            if len(tokens) > self.context_length:
                raise overflow_fault(len(tokens), self.context_length)
            async with self.slots.slot(turn, "computingEmbedding"):
                answer = await self._ask(self.client.post("/embedding", {"content": tokens}))
                turn.embed(len(tokens))
        return _pooled(answer[0]["embedding"])

    async def _ask(self, answer: Awaitable[T]) -> T:
        """The answer to a client's text or tokens; a refusal is the client's fault unless llama.cpp says otherwise."""
        try:
            return await self._reached(answer)
        except LlamaRefusalError as exc:
            raise EngineFault(exc.message, kind="invalid" if exc.code < 500 else "internal") from exc

    async def _properties(self) -> dict[str, Any]:
        return dict(await self._reached(self.client.get("/props")))

    async def _reached(self, answer: Awaitable[T]) -> T:
        """The answer of a child that is still there to give one."""
        try:
            return await answer
        except LlamaGoneError as exc:
            raise await self.gone_fault() from exc

    async def gone_fault(self) -> EngineFault:
        """Why a connection broke: unloaded, crashed, or neither."""
        if self.slots.unloaded:
            return unloaded_fault()
        try:
            async with asyncio.timeout(_CRASH_GRACE_S):
                return await self.process.crash_fault()
        except TimeoutError:
            return EngineFault("The connection to the model was lost", kind="internal", suggestion="Try again.")


def _token_count(answer: bytes) -> int:
    """How many tokens llama.cpp's answer lists, which its commas tell."""
    return 0 if b"[]" in answer[-20:] else answer.count(b",") + 1


def _pooled(rows: list[list[float]]) -> list[float]:
    """One vector of length 1; a model that does not pool gives one per token, of which this is the mean."""
    if len(rows) == 1:
        return [float(value) for value in rows[0]]
    # The sum points where the mean does, and only the direction is left once the length is 1.
    sums = [math.fsum(column) for column in zip(*rows, strict=True)]
    length = math.hypot(*sums) or 1.0
    return [value / length for value in sums]
