"""`/api/v1`: models with their loaded instances, explicit loading and unloading, and the chat with named events."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.records import (
    ChatPart,
    ChatTurn,
    LoadSettings,
    PredictionInput,
    PredictionSettings,
    PromptProgressEvent,
)
from lmstrix.engine.rest import bodies
from lmstrix.engine.rest.answers import Answer
from lmstrix.engine.rest.context_told import telling_context
from lmstrix.engine.rest.errors import Handler, answering, error_body, read_body
from lmstrix.engine.rest.kept_chats import KeptChats
from lmstrix.engine.rest.sse import EventStream
from lmstrix.engine.values import field, read_bool, read_context_length, read_int, read_positive, read_text, unsupported

if TYPE_CHECKING:
    from lmstrix.engine.instance import Instance
    from lmstrix.engine.records import CatalogEntry, PredictionEvent
    from lmstrix.engine.state import EngineState

_LOAD_FIELDS: Final = {
    "model",
    "context_length",
    "eval_batch_size",
    "flash_attention",
    "num_experts",
    "offload_kv_cache_to_gpu",
    "echo_load_config",
}


class V1Routes:
    """Handlers under `/api/v1`."""

    def __init__(self, state: EngineState) -> None:
        self._state = state
        self._chats = KeptChats()

    def table(self) -> list[tuple[str, str, Handler]]:
        """(method, path, handler)."""
        rows = [
            ("GET", "/models", self.list_models),
            ("POST", "/models/load", self.load),
            ("POST", "/models/unload", self.unload),
            ("POST", "/chat", self.chat),
        ]
        return [(method, f"/api/v1{path}", answering("v1", handler)) for method, path, handler in rows]

    async def list_models(self, _request: web.Request) -> web.StreamResponse:
        """Every model on disk, with its loaded instances."""
        pool = self._state.pool
        loaded = pool.list_loaded()
        rows = [
            _row(entry, [each for each in loaded if each.entry.model_key == entry.model_key])
            for entry in pool.catalog.entries
        ]
        return web.json_response({"models": rows})

    async def load(self, request: web.Request) -> web.StreamResponse:
        """Load a further instance, and answer when it is there."""
        body = await read_body(request)
        # Unlike OpenAI's endpoints: a load that ignores a misspelt setting measures something else.
        unknown = sorted(set(body) - _LOAD_FIELDS)
        if unknown:
            raise EngineFault(f"Unknown fields: {', '.join(unknown)}.", kind="invalid")
        entry = self._state.pool.catalog.find(_required_text(body, "model"))
        started_at = time.perf_counter()
        instance = await self._state.pool.load(entry.model_key, _load_settings(body), kind=entry.kind)
        answer: dict[str, Any] = {
            "type": entry.kind,
            "instance_id": instance.identifier,
            "load_time_seconds": round(time.perf_counter() - started_at, 3),
            "status": "loaded",
        }
        if field(body, "echo_load_config", read_bool, False):
            answer["load_config"] = _instance_config(instance)
        return web.json_response(answer)

    async def unload(self, request: web.Request) -> web.StreamResponse:
        """Unload an instance."""
        identifier = _required_text(await read_body(request), "instance_id")
        await self._state.pool.unload(identifier)
        return web.json_response({"instance_id": identifier})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer a message, in a conversation this engine remembers unless asked not to."""
        body = await read_body(request)
        # Everything is read before the first event goes out, so that a bad body still gets a status.
        earlier, turns = self._conversation(body)
        settings = _chat_settings(body)
        stored = field(body, "store", read_bool, True)
        if stored:
            self._chats.check((*earlier, *turns))
        events = EventStream(request) if bodies.wants_stream(body) else None
        chat = _Chat(events)
        try:
            instance = await self._chat_instance(body, chat)
            chat.instance = instance
            prompt = PredictionInput(turns=(*earlier, *turns), settings=settings)
            async with aclosing(instance.predict(prompt)) as prediction:
                async for event in prediction:
                    await chat.take(event)
            result = chat.result(instance)
        except EngineFault as fault:
            # After the first event the status is gone; the failure follows as an event of its own.
            if events is None or not events.started:
                raise
            await events.send({"type": "error", **error_body(fault, "v1")}, event="error")
            result = chat.partial_result()
        else:
            if stored:
                result["response_id"] = self._chats.keep((*prompt.turns, chat.turn()))
        return await chat.finish(result)

    def _conversation(self, body: bodies.Body) -> tuple[tuple[ChatTurn, ...], tuple[ChatTurn, ...]]:
        """What was said before, and what is said now."""
        if body.get("integrations"):
            raise unsupported("integrations", "there are no plugins and no MCP servers")
        parts = bodies.content_parts(body.get("input"))
        if not parts:
            raise EngineFault("input must be a text or a list of items.", kind="invalid")
        said = ChatTurn(role="user", parts=parts)
        previous = field(body, "previous_response_id", read_text)
        system_prompt = field(body, "system_prompt", read_text)
        earlier = () if previous is None else self._chats.turns(previous)
        # A new system prompt replaces the one the conversation was begun with.
        if system_prompt:
            opening = ChatTurn(role="system", parts=(ChatPart(type="text", text=system_prompt),))
            earlier = (opening, *(turn for turn in earlier if turn.role != "system"))
        return earlier, (said,)

    async def _chat_instance(self, body: bodies.Body, chat: _Chat) -> Instance:
        """The model asked for, loaded now if need be, which the stream tells."""
        name = _required_text(body, "model")
        context_length = field(body, "context_length", read_context_length)
        started_at = time.perf_counter()

        async def start(identifier: str, _entry: CatalogEntry) -> None:
            await chat.send("chat.start", model_instance_id=identifier)
            await chat.send("model_load.start", model_instance_id=identifier)
            # An answer that fails during the load still names the instance.
            chat.loading = identifier

        async def progress(ratio: float) -> None:
            await chat.send("model_load.progress", model_instance_id=chat.loading, progress=ratio)

        instance, loaded_now = await self._state.just_in_time.find_or_load(
            name,
            kind="llm",
            ttl_s=self._state.jit_ttl_s,
            context_length=context_length,
            on_start=start,
            on_progress=progress,
        )
        if loaded_now:
            chat.load_time_s = time.perf_counter() - started_at
            await chat.send(
                "model_load.end",
                model_instance_id=instance.identifier,
                load_time_seconds=round(chat.load_time_s, 3),
                context_length=instance.context_length,
                context_source=instance.context_source,
            )
        else:
            await chat.start(instance)
        return instance


class _Chat:
    """One answer on its way: named events, if somebody listens, and what they add up to."""

    def __init__(self, events: EventStream | None) -> None:
        self._events = events
        self._answer = Answer()
        self._phase: str | None = None
        self._output: list[dict[str, str]] = []
        self.loading = ""
        self.instance: Instance | None = None
        self.load_time_s: float | None = None

    async def start(self, instance: Instance) -> None:
        """The first event, where the model is loaded already, so that headers can say how."""
        if self._events is not None:
            telling_context(self._events.response, instance)
        await self.send("chat.start", model_instance_id=instance.identifier)

    async def send(self, event: str, **payload: Any) -> None:
        """Send one event."""
        if self._events is not None:
            await self._events.send({"type": event, **payload}, event=event)

    async def take(self, event: PredictionEvent) -> None:
        """Turn an event of the prediction into events of the stream."""
        if isinstance(event, PromptProgressEvent):
            await self._enter("prompt_processing")
            await self.send("prompt_processing.progress", progress=event.ratio)
            return
        delta = self._answer.take(event) or {}
        for name, phase in (("reasoning_content", "reasoning"), ("content", "message")):
            if delta.get(name):
                await self._enter(phase)
                # A phase is one item of the output, however many events it comes in.
                self._output[-1]["content"] += delta[name]
                await self.send(f"{phase}.delta", content=delta[name])

    async def _enter(self, phase: str | None) -> None:
        if phase == self._phase:
            return
        if self._phase is not None:
            await self.send(f"{self._phase}.end")
        self._phase = phase
        if phase in ("message", "reasoning"):
            self._output.append({"type": phase, "content": ""})
        if phase is not None:
            await self.send(f"{phase}.start")

    def turn(self) -> ChatTurn:
        """The answer as a part of the conversation."""
        return ChatTurn(role="assistant", parts=(ChatPart(type="text", text="".join(self._answer.text).strip()),))

    def result(self, instance: Instance) -> dict[str, Any]:
        """The whole answer."""
        stats = self._answer.done
        figures = {
            "input_tokens": stats.prompt_tokens,
            "total_output_tokens": stats.predicted_tokens,
            "reasoning_output_tokens": stats.reasoning_tokens or 0,
            "tokens_per_second": stats.tokens_per_second,
            "time_to_first_token_seconds": stats.ttft_s,
            "model_load_time_seconds": self.load_time_s,
        }
        known = {name: value for name, value in figures.items() if value is not None}
        return {"model_instance_id": instance.identifier, "output": self._output, "stats": known}

    def partial_result(self) -> dict[str, Any]:
        """What there is of an answer that failed."""
        return {"model_instance_id": self.loading, "output": self._output, "stats": {}}

    async def finish(self, result: dict[str, Any]) -> web.StreamResponse:
        """The last event, or the body."""
        if self._events is None:
            response = web.json_response(result)
            return response if self.instance is None else telling_context(response, self.instance)
        await self._enter(None)
        await self.send("chat.end", result=result)
        return await self._events.end()


def _required_text(body: bodies.Body, name: str) -> str:
    value = field(body, name, read_text)
    if not value:
        raise EngineFault(f"{name} is missing.", kind="invalid")
    return str(value)


def _chat_settings(body: bodies.Body) -> PredictionSettings:
    reasoning = field(body, "reasoning", read_text)
    if reasoning not in (None, "off", "on", "low", "medium", "high"):
        raise EngineFault("reasoning must be off, on, low, medium or high.", kind="invalid")
    return PredictionSettings(
        **bodies.sampling(body),
        max_tokens=bodies.max_tokens(body, "max_output_tokens"),
        overflow_policy="stopAtLimit",
        enable_thinking=None if reasoning is None else reasoning != "off",
        reasoning_effort=reasoning if reasoning in ("low", "medium", "high") else None,
    )


def _load_settings(body: bodies.Body) -> LoadSettings:
    if field(body, "num_experts", read_int, 0):
        raise unsupported("num_experts", "the number of experts is the model's own")
    defaults = LoadSettings()
    batch = field(body, "eval_batch_size", read_positive, defaults.eval_batch_size)
    return LoadSettings(
        context_length=field(body, "context_length", read_context_length),
        eval_batch_size=batch,
        # llama.cpp does not take a physical batch larger than the logical one.
        physical_batch_size=min(batch, defaults.physical_batch_size),
        flash_attention=field(body, "flash_attention", read_bool),
        offload_kv_cache=field(body, "offload_kv_cache_to_gpu", read_bool, defaults.offload_kv_cache),
    )


def _instance_config(instance: Instance) -> dict[str, Any]:
    if instance.entry.kind == "embedding":
        return {"context_length": instance.context_length}
    settings = instance.settings
    return {
        "context_length": instance.context_length,
        "eval_batch_size": settings.eval_batch_size,
        "parallel": settings.parallel_slots,
        "flash_attention": settings.flash_attention is not False,
        "offload_kv_cache_to_gpu": settings.offload_kv_cache,
    }


def _row(entry: CatalogEntry, loaded: list[Instance]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "type": entry.kind,
        "publisher": entry.publisher,
        "key": entry.model_key,
        "display_name": entry.display_name,
        "quantization": {"name": entry.quantization, "bits_per_weight": entry.bits},
        "size_bytes": entry.size_bytes,
        "params_string": entry.params,
        "loaded_instances": [
            {"id": each.identifier, "config": _instance_config(each), "context_source": each.context_source}
            for each in loaded
        ],
        "max_context_length": entry.max_context_length,
        "format": "gguf",
    }
    if entry.kind == "llm":
        row["architecture"] = entry.architecture
        row["capabilities"] = {"vision": entry.vision, "trained_for_tool_use": entry.trained_for_tool_use}
        if entry.reasoning_options:
            # Templates reason unless they are told otherwise, those with levels at the middle one.
            default = "medium" if "medium" in entry.reasoning_options else "on"
            options = list(entry.reasoning_options)
            row["capabilities"]["reasoning"] = {"allowed_options": options, "default": default}
    return row
