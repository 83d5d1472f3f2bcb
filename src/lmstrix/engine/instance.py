"""A loaded model: its process, its slots, who waits for them, and what one can ask of it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

from lmstrix.engine.llama.client import LlamaGoneError, LlamaRefusalError
from lmstrix.engine.llama.prediction import Prediction
from lmstrix.engine.llama.request import chat_messages, overflow_fault, template_fields
from lmstrix.engine.records import (
    CatalogEntry,
    ChatTurn,
    EngineFault,
    LoadSettings,
    LogEvent,
    PredictionInput,
    PredictionSettings,
    PredictionStats,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from lmstrix.engine.files import FileStore
    from lmstrix.engine.llama.client import LlamaClient
    from lmstrix.engine.llama.process import LlamaProcess

Status = Literal["idle", "processingPrompt", "generating", "computingEmbedding"]

_EXIT_GRACE_S = 5.0
"""How long a child whose connection broke may take to end before the breakage counts as something else."""


class Instance:
    """A loaded model. Made by the pool, which also unloads it; `settings` are effective, `context_length` is exact."""

    def __init__(
        self,
        *,
        identifier: str,
        entry: CatalogEntry,
        settings: LoadSettings,
        process: LlamaProcess,
        memory_bytes: int,
        ttl_s: float | None,
        jit: bool,
        on_idle: Callable[[Instance], None],
        on_log: Callable[[LogEvent], None],
    ) -> None:
        assert settings.context_length is not None
        self.identifier = identifier
        self.reference = f"i-{secrets.token_hex(12)}"
        self.entry = entry
        self.settings = settings
        self.context_length: int = settings.context_length
        self.ttl_s = ttl_s
        self.jit = jit
        self.last_used_ms: int | None = None
        self.memory_bytes = memory_bytes
        self.process = process
        self.unloaded = False
        self._on_idle = on_idle
        self._on_log = on_log
        self._free_slots = asyncio.Semaphore(settings.parallel_slots)
        self._running: dict[object, Status] = {}
        self._waiting = 0

    @property
    def client(self) -> LlamaClient:
        """HTTP to its llama.cpp."""
        return self.process.client

    @property
    def status(self) -> Status:
        """What it does; with several requests, the furthest."""
        order: tuple[Status, ...] = ("generating", "processingPrompt", "computingEmbedding")
        return next((status for status in order if status in self._running.values()), "idle")

    @property
    def queued(self) -> int:
        """Requests not yet answered, the running ones included."""
        return self._waiting

    def predict(self, request: PredictionInput, *, files: FileStore | None = None) -> Prediction:
        """Begin a prediction; iterate over what it returns."""
        if self.entry.kind != "llm":
            raise EngineFault(f"{self.entry.model_key} is an embedding model: it cannot predict", kind="invalid")
        return Prediction(self, request, files)

    async def tokenize(self, text: str, *, as_prompt: bool = False) -> list[int]:
        """The tokens of `text`; `as_prompt` adds what the model wants at the beginning (BOS)."""
        body = {"content": text, "add_special": as_prompt, "parse_special": True}
        answer = await self._ask("/tokenize", body)
        return list(answer["tokens"])

    async def count_tokens(self, text: str) -> int:
        """How many tokens `text` has."""
        return len(await self.tokenize(text))

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
        messages = chat_messages(turns, files)
        if settings.prompt_template is not None:
            return _render(settings.prompt_template, messages, settings, await self._properties())
        body: dict[str, Any] = {**template_fields(settings), "messages": messages}
        if settings.tools:
            body |= {"tools": list(settings.tools), "tool_choice": settings.tool_choice}
        try:
            return str((await self.client.post("/apply-template", body))["prompt"])
        except LlamaRefusalError as exc:
            raise _template_fault(exc.message) from exc
        except LlamaGoneError as exc:
            raise await self.gone_fault() from exc

    async def embed(self, text: str) -> list[float]:
        """The embedding of `text`."""
        if self.entry.kind != "embedding":
            raise EngineFault(f"{self.entry.model_key} is no embedding model", kind="invalid")
        turn = object()
        with self.request(turn):
            tokens = await self.tokenize(text, as_prompt=True)
            if len(tokens) > self.context_length:
                raise overflow_fault(len(tokens), self.context_length)
            async with self.slot(turn, "computingEmbedding"):
                answer = await self._ask("/embedding", {"content": tokens})
        return _pooled(answer[0]["embedding"])

    async def _ask(self, path: str, body: dict[str, Any]) -> Any:
        try:
            return await self.client.post(path, body)
        except LlamaRefusalError as exc:
            raise EngineFault(exc.message, kind="invalid" if exc.code < 500 else "internal") from exc
        except LlamaGoneError as exc:
            raise await self.gone_fault() from exc

    async def _properties(self) -> dict[str, Any]:
        try:
            return dict(await self.client.get("/props"))
        except LlamaGoneError as exc:
            raise await self.gone_fault() from exc

    @contextlib.contextmanager
    def request(self, who: object) -> Iterator[None]:
        """Counts as waiting, then running, until answered."""
        if self.unloaded:
            raise _unloaded_fault()
        self._waiting += 1
        self.last_used_ms = _now_ms()
        try:
            yield
        finally:
            self._waiting -= 1
            self._running.pop(who, None)
            self.last_used_ms = _now_ms()
            if not self._waiting:
                self._on_idle(self)

    @asynccontextmanager
    async def slot(self, who: object, status: Status = "processingPrompt") -> AsyncIterator[None]:
        """One of llama.cpp's slots, in order of asking."""
        async with self._free_slots:
            if self.unloaded:
                raise _unloaded_fault()
            self._running[who] = status
            try:
                yield
            finally:
                self._running.pop(who, None)

    def generating(self, who: object) -> None:
        """`who`'s prompt is processed."""
        if who in self._running:
            self._running[who] = "generating"

    def mark_unloaded(self) -> None:
        """Turn newcomers away, and end what runs as unloaded."""
        self.unloaded = True
        for who in list(self._running):
            if isinstance(who, Prediction):
                who.stop("modelUnloaded")

    async def gone_fault(self) -> EngineFault:
        """Why a connection broke: unloaded, crashed, or neither."""
        if self.unloaded:
            return _unloaded_fault()
        try:
            async with asyncio.timeout(_EXIT_GRACE_S):
                return await self.process.crash_fault()
        except TimeoutError:
            return EngineFault("The connection to the model was lost", kind="internal", suggestion="Try again.")

    def log(
        self,
        kind: Literal["llm.prediction.input", "llm.prediction.output"],
        text: str,
        *,
        stats: PredictionStats | None = None,
    ) -> None:
        """Tell what goes in or came out."""
        self._on_log(
            LogEvent(
                type=kind,
                time_ms=_now_ms(),
                text=text,
                model_path=self.entry.path,
                identifier=self.identifier,
                instance_reference=self.reference,
                stats=stats,
            )
        )


def _now_ms() -> int:
    return int(time.time() * 1000)


def _pooled(rows: list[list[float]]) -> list[float]:
    """One vector of length 1; a model that does not pool gives one a token, of which this is the mean."""
    if len(rows) == 1:
        return [float(value) for value in rows[0]]
    sums = [math.fsum(column) for column in zip(*rows, strict=True)]
    length = math.hypot(*sums) or 1.0
    return [value / length for value in sums]


def _unloaded_fault() -> EngineFault:
    return EngineFault("Model is unloaded.", kind="unloaded", display_data={"code": "generic.specificModelUnloaded"})


def _template_fault(message: str) -> EngineFault:
    return EngineFault("Error rendering prompt with jinja template", kind="invalid", cause=message)


def _render(
    template: str, messages: list[dict[str, Any]], settings: PredictionSettings, properties: dict[str, Any]
) -> str:
    import minijinja

    environment = minijinja.Environment(trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.render_str(
            template,
            messages=messages,
            tools=list(settings.tools) or None,
            bos_token=properties["bos_token"],
            eos_token=properties["eos_token"],
            add_generation_prompt=True,
        )
    except minijinja.TemplateError as exc:
        raise _template_fault(str(exc)) from exc
