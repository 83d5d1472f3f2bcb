"""`/v1`: models, chat completions, completions and embeddings as OpenAI has them, and the same with details for v0."""

from __future__ import annotations

import base64
import json
import secrets
import struct
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.records import PredictionInput
from lmstrix.engine.rest import bodies
from lmstrix.engine.rest.answers import Answer, finish_reason, gathered, usage, v0_details
from lmstrix.engine.rest.context_told import telling_context
from lmstrix.engine.rest.errors import Handler, answering, error_body, read_body
from lmstrix.engine.rest.sse import EventStream

if TYPE_CHECKING:
    from lmstrix.engine.instance import Instance
    from lmstrix.engine.state import EngineState
    from lmstrix.ground.types import ModelKind


async def instance_for(state: EngineState, body: bodies.Body, kind: ModelKind) -> Instance:
    """The model a request means: a loaded one, or one on disk, which is loaded now."""
    name = bodies.model_name(body)
    # LM Studio answers with whatever is loaded when a body names no model.
    if name is None:
        return state.pool.find(None, kind=kind)
    ttl = bodies.ttl_s(body, state.jit_ttl_s)
    instance, _ = await state.just_in_time.find_or_load(name, kind=kind, ttl_s=ttl)
    return instance


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """How chats and plain completions differ on the wire."""

    prefix: str
    whole: str
    piece: str
    chat: bool


_CHAT = _Shape(prefix="chatcmpl", whole="chat.completion", piece="chat.completion.chunk", chat=True)
_TEXT = _Shape(prefix="cmpl", whole="text_completion", piece="text_completion", chat=False)


class OpenAiRoutes:
    """Handlers under `prefix`; `detailed` adds what `/api/v0` has over OpenAI."""

    prefix = "/v1"
    detailed = False

    def __init__(self, state: EngineState) -> None:
        self._state = state

    def table(self) -> list[tuple[str, str, Handler]]:
        """(method, path, handler)."""
        rows = [
            ("GET", "/models", self.list_models),
            ("GET", "/models/{model:.+}", self.get_model),
            ("POST", "/chat/completions", self.chat_completions),
            ("POST", "/completions", self.completions),
            ("POST", "/embeddings", self.embeddings),
        ]
        return [(method, self.prefix + path, answering("openai", handler)) for method, path, handler in rows]

    async def list_models(self, _request: web.Request) -> web.StreamResponse:
        """Loaded instances and, since they load when asked, models on disk."""
        return web.json_response({"object": "list", "data": self.model_rows()})

    async def get_model(self, request: web.Request) -> web.StreamResponse:
        """One row of the list."""
        name = request.match_info["model"]
        for row in self.model_rows():
            if row["id"] == name:
                return web.json_response(row)
        raise EngineFault(f"Model not found: {name}", kind="not_found")

    def model_rows(self) -> list[dict[str, Any]]:
        """The list."""
        loaded = [instance.identifier for instance in self._state.pool.list_loaded()]
        on_disk = [entry.model_key for entry in self._state.pool.catalog.entries]
        # A loaded model and its file often have the same name; once is enough, loaded ones first.
        names = dict.fromkeys([*loaded, *on_disk])
        return [{"id": name, "object": "model", "owned_by": "organization_owner"} for name in names]

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        """Answer a chat."""
        body = await read_body(request)
        prompt = PredictionInput(turns=bodies.message_turns(body), settings=bodies.prediction_settings(body))
        return await self._predict(request, body, prompt, _CHAT)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """Continue a text."""
        body = await read_body(request)
        prompt = PredictionInput(raw_prompt=bodies.prompt(body), settings=bodies.prediction_settings(body))
        return await self._predict(request, body, prompt, _TEXT)

    async def _predict(
        self, request: web.Request, body: bodies.Body, prompt: PredictionInput, shape: _Shape
    ) -> web.StreamResponse:
        stream = bodies.wants_stream(body)
        instance = await instance_for(self._state, body, "llm")
        head = {
            "id": f"{shape.prefix}-{secrets.token_hex(12)}",
            "object": shape.piece if stream else shape.whole,
            "created": int(time.time()),
            "model": instance.identifier,
            "system_fingerprint": instance.identifier,
        }
        if stream:
            return await self._stream(EventStream(request), instance, prompt, shape, head, body)
        async with aclosing(instance.predict(prompt)) as prediction:
            answer = await gathered(prediction)
        stats = answer.done
        content = {"message": answer.message()} if shape.chat else {"text": "".join(answer.text)}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason(stats)}
        whole = {**head, "choices": [choice], "usage": usage(stats), **self._details(instance, answer)}
        return telling_context(web.json_response(whole), instance)

    async def _stream(
        self,
        events: EventStream,
        instance: Instance,
        prompt: PredictionInput,
        shape: _Shape,
        head: dict[str, Any],
        body: bodies.Body,
    ) -> web.StreamResponse:
        answer = Answer()
        telling_context(events.response, instance)
        try:
            async with aclosing(instance.predict(prompt)) as prediction:
                async for event in prediction:
                    delta = answer.take(event)
                    if delta is not None:
                        # Only the first delta of a chat names the role.
                        first = {} if events.started or not shape.chat else {"role": "assistant"}
                        await events.send({**head, "choices": [_piece(shape, {**first, **delta})]})
            stats = answer.done
            last = _piece(shape, {}) | {"finish_reason": finish_reason(stats)}
            await events.send({**head, "choices": [last], **self._details(instance, answer)})
            if bodies.wants_usage(body):
                await events.send({**head, "choices": [], "usage": usage(stats)})
            await events.send("[DONE]")
        except EngineFault as fault:
            # Nothing has gone out: the failure can still have its own status.
            if not events.started:
                raise
            await events.send(error_body(fault, "openai"), event="error")
        return await events.end()

    def _details(self, instance: Instance, answer: Answer) -> dict[str, Any]:
        return v0_details(instance, answer.done) if self.detailed else {}

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """Vectors of texts."""
        body = await read_body(request)
        texts = bodies.embedding_inputs(body)
        instance = await instance_for(self._state, body, "embedding")
        packed = body.get("encoding_format") == "base64"
        rows: list[str] = []
        tokens = 0
        # One after the other: together they would take slots from others that wait.
        for index, text in enumerate(texts):
            vector = await instance.model.embed(text)
            tokens += await instance.model.count_tokens(text)
            row = {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
            # Written one by one: millions of numbers at once would hold everybody else up for seconds.
            rows.append(json.dumps(row))
        counts = {"prompt_tokens": tokens, "total_tokens": tokens}
        rest = json.dumps({"object": "list", "model": instance.identifier, "usage": counts})
        whole = f'{{"data": [{", ".join(rows)}], {rest[1:]}'
        return telling_context(web.json_response(text=whole), instance)


def _piece(shape: _Shape, delta: dict[str, Any]) -> dict[str, Any]:
    content = {"delta": delta} if shape.chat else {"text": delta.get("content", "")}
    return {"index": 0, **content, "logprobs": None, "finish_reason": None}


def _packed(vector: list[float]) -> str:
    """Little-endian 32-bit floats in base64, which OpenAI's Python client asks for by default."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
