"""FaultyServer: LM Studio's wire on a real socket, scripted models behind it, and a switch for every way to go wrong.

    with FaultyServer(FaultyModel(loadable=9000)) as server:
        server.faults.predict = "hang after 2 words"
        backend = AsyncLMStudioBackend(server.info)

A token is a word. A model answers "n. <key> is <code>" for each numbered key of the question, with the code of the
"access code" sentence when that is among the words it can recall; asked nothing of the kind it gives its `answer`. The
server runs on a thread with a loop of its own, so blocking and asynchronous tests use it alike; `faults` may be changed
at any time, `seen` and `instances` may be looked at.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import zlib
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from aiohttp import WSMsgType, web

from lmstrix.ground.types import ServerInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

REFUSED = {
    "title": "Model loading was stopped due to insufficient system resources. Under the current settings, this model "
    "requires approximately 12.50 GB of memory, and continuing to load it would likely overload your system. If you "
    "think this is incorrect, you can adjust the model loading guardrails in settings."
}
OUT_OF_MEMORY = {
    "title": "Failed to load model",
    "rootTitle": "Failed to load model",
    "cause": "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 2048000000",
}
DIED = {
    "title": "Error loading model.",
    "cause": "(Exit code: 137). Unknown error. Try a different model and/or config.",
    "errorData": {"exitCode": 137},
}
CRASHED = {"title": "The model has crashed without additional information. (Exit code: 9)"}
UNLOADED = {"title": "Model is unloaded."}
_DRIP_S = 0.05
LOAD_ERRORS = {"refused": REFUSED, "out of memory": OUT_OF_MEMORY, "died": DIED}


@dataclass
class FaultyModel:
    """A model. Lengths are words; None means no such limit.

    `loadable` is the longest context that loads, beyond it loads fail the way `load_failure` names; `prefillable` is
    the longest prompt that does not kill the engine; `recalled` is how many of the last words the model can use;
    `effective` gives the context actually loaded for one asked for; `truncates` cuts long prompts silently, whatever
    the policy, at `window` where that is less than the context it claims: their middle, or with `keeps_end` all but
    their end. Without `counts` no tokens are counted in its answers. One that `guesses` has some code for every key.
    `speed` is what it claims to answer at, in tokens per second, by the lengths of the prompt and of the context.
    """

    key: str = "acme/tiny"
    kind: str = "llm"
    declared: int = 32768
    loadable: int | None = None
    prefillable: int | None = None
    recalled: int | None = None
    load_failure: str = "out of memory"
    effective: Callable[[int], int] = lambda asked: asked
    truncates: bool = False
    window: int | None = None
    keeps_end: bool = False
    counts: bool = True
    speed: Callable[[int, int], float] = lambda prompt_tokens, context_length: 50.0
    guesses: bool = False
    answer: str = "The sum of two and three is five."
    extra: Mapping[str, Any] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """ModelInfo, with every field of the wire."""
        path = f"{self.key}-GGUF/{self.key.rpartition('/')[2]}-q8_0.gguf"
        info: dict[str, Any] = {
            "type": self.kind,
            "modelKey": self.key,
            "format": "gguf",
            "displayName": self.key.rpartition("/")[2].title(),
            "publisher": "acme",
            "path": path,
            "sizeBytes": 1_150_000,
            "indexedModelIdentifier": path,
            "deviceIdentifier": None,
            "paramsString": "1B",
            "architecture": "llama",
            "quantization": {"name": "Q8_0", "bits": 8},
            "maxContextLength": self.declared,
        }
        if self.kind == "llm":
            info |= {"vision": False, "trainedForToolUse": True}
        return info | dict(self.extra)

    def counted(self, prompt_tokens: int, sent: int) -> dict[str, int]:
        """What an answer says of the tokens read."""
        return {"promptTokensCount": prompt_tokens, "totalTokensCount": prompt_tokens + sent} if self.counts else {}

    def reply(self, prompt: str) -> str:
        """What the model answers to a prompt it has read."""
        words = prompt.split()
        remembered = " ".join(words if self.recalled is None else words[-self.recalled :])
        codes = dict(re.findall(r"access code of (\D+?) is (\d{6})", remembered))
        asked = re.findall(r"^\d+\. (.+)$", prompt, re.MULTILINE)
        if not asked:
            return self.answer
        # What it cannot look up it makes of all it has read, as language models do.
        unknown = f"{zlib.crc32(prompt.encode()) % 1_000_000:06d}" if self.guesses else "unknown"
        return "\n".join(f"{number}. {key} is {codes.get(key, unknown)}" for number, key in enumerate(asked, 1))


@dataclass
class Faults:
    """What goes wrong from now on. "" is nothing.

    greeting: "silent", "garbage", "drip" (a byte now and then, without end). auth: "refused", "refused with object",
    "silent", "garbage". load: "refused", "out of memory", "died", "hang", "deaf" (hangs and ignores cancel until
    `let_go`), "drip" (progress without end), "close", "drop", "garbage". predict: "empty", "in-band error",
    "bad stats", "unloaded", "failed", and "hang", "deaf", "crash", "drop", "garbage", "close", each also with
    " after N words". Endpoints in `mute` are never answered; `errors` and `answers` replace the answer of an endpoint,
    `frames` the whole frame it comes in. `cuts` says how many more times a connection is cut at an endpoint, at an HTTP
    path, or at "auth".
    """

    greeting: str = ""
    auth: str = ""
    load: str = ""
    predict: str = ""
    mute: set[str] = field(default_factory=set)
    errors: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    frames: dict[str, str] = field(default_factory=dict)
    pages: dict[str, tuple[int, str]] = field(default_factory=dict)  # path -> status and body, for REST
    listed: list[Any] = field(default_factory=list)  # further entries of listDownloadedModels
    cuts: dict[str, float] = field(default_factory=dict)

    def cut(self, place: str) -> bool:
        """Whether to cut here, this time."""
        left = self.cuts.get(place, 0)
        self.cuts[place] = left - 1
        return left > 0


@dataclass
class Instance:
    """A loaded instance."""

    model: FaultyModel
    identifier: str
    reference: str
    context_length: int
    ttl_ms: int | None
    config: dict[str, Any]
    running: int = 0
    read_tokens: int = 0  # the longest prompt of which it has read so many

    def info(self) -> dict[str, Any]:
        return self.model.info() | {
            "identifier": self.identifier,
            "instanceReference": self.reference,
            "ttlMs": self.ttl_ms,
            "lastUsedTime": None,
            "contextLength": self.context_length,
        }


class ServerError(Exception):
    """An error body for the client."""

    def __init__(self, body: Any) -> None:
        super().__init__(str(body))
        self.body = body


def _not_loaded(name: str) -> ServerError:
    title = f"No model found that fits the query {name}"
    data = {
        "code": "generic.noModelMatchingQuery",
        "query": {"identifier": name},
        "loadedModelsSample": [],
        "totalLoadedModels": 0,
    }
    return ServerError({"title": title, "rootTitle": title, "displayData": data})


def collapse(stack: Mapping[str, Any]) -> dict[str, Any]:
    """KV layers as one dict, later layers winning."""
    return {item["key"]: item.get("value") for layer in stack["layers"] for item in layer["config"]["fields"]}


def switched(value: Any) -> Any:
    """The value behind a checkbox, None when it is off."""
    return value["value"] if isinstance(value, dict) and value.get("checked") else None


class FaultyServer:
    """See the module. `seen` holds every frame received as (namespace, frame); `cancelled` the endpoints cancelled.

    `script`, when set, are the packets of every answer, in place of the model's words. It has the
    namespace of runtimes when `runtime` is set. `replies` are what paths answer, one after the other and then the last
    again; `posted` is what was sent to them.
    """

    def __init__(self, *models: FaultyModel, word_delay_s: float = 0.0, load_delay_s: float = 0.0) -> None:
        self.models = {model.key: model for model in (models or (FaultyModel(),))}
        self.faults = Faults()
        self.script: list[dict[str, Any]] | None = None
        self.runtime = False
        self.instances: dict[str, Instance] = {}
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.cancelled: list[str] = []
        self.paths: Counter[str] = Counter()
        self.replies: dict[str, list[tuple[int, str]]] = {}
        self.posted: list[tuple[str, Any]] = []
        self.address = ""
        self._word_delay_s = word_delay_s
        self._load_delay_s = load_delay_s
        self._references = 0
        self._sockets: set[web.WebSocketResponse] = set()
        self._loop = asyncio.new_event_loop()
        self._let_go = asyncio.Event()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    # --- life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    @property
    def info(self) -> ServerInfo:
        """This server as discovery would return it."""
        return ServerInfo(address=self.address, engine="lmstudio", version="0.4.21", package="lmstudio")

    def let_go(self) -> None:
        """Let what hangs deaf go on."""
        self._loop.call_soon_threadsafe(self._let_go.set)

    def drop_connections(self) -> None:
        """Cut every websocket, as a dying server does."""

        async def drop() -> None:
            for websocket in list(self._sockets):
                _cut(websocket)

        asyncio.run_coroutine_threadsafe(drop(), self._loop).result()

    def endpoints(self) -> list[str]:
        """The endpoints called so far, in order."""
        return [frame["endpoint"] for _, frame in self.seen if "endpoint" in frame]

    def parameters(self, endpoint: str) -> dict[str, Any]:
        """What `endpoint` was last called with."""
        frame = next(frame for _, frame in reversed(self.seen) if frame.get("endpoint") == endpoint)
        found: dict[str, Any] = frame.get("parameter") or frame.get("creationParameter")
        return found

    async def _serve(self) -> None:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/{path:.*}", self._get)
        app.router.add_post("/{path:.*}", self._post)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        for _ in range(3):
            await asyncio.sleep(0)  # connections accepted a moment ago are taken up, so that they are closed too
        for websocket in list(self._sockets):
            _cut(websocket)
        self._let_go.set()
        await runner.cleanup()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def _get(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.paths[path] += 1
        if self.faults.cut(path) and request.transport is not None:
            request.transport.abort()
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request)
        if path in self.replies:
            return self._reply(path)
        if path in self.faults.pages:
            status, text = self.faults.pages[path]
            return web.Response(status=status, text=text, content_type="application/json")
        if path == "/lmstudio-greeting":
            if self.faults.greeting == "silent":
                await self._let_go.wait()
            if self.faults.greeting == "drip":
                return await self._drip(request)
            return web.Response(text="<html>" if self.faults.greeting == "garbage" else '{"lmstudio":true}')
        if path == "/lms-status":
            return web.json_response({"package": "lmstudio", "version": "0.4.21"})
        return web.json_response({"error": f"Unexpected endpoint or method. (GET {path})"})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self.posted.append((request.path, await request.json()))
        if request.path in self.replies:
            return self._reply(request.path)
        return web.json_response({"error": f"Unexpected endpoint or method. (POST {request.path})"})

    def _reply(self, path: str) -> web.StreamResponse:
        replies = self.replies[path]
        status, text = replies.pop(0) if len(replies) > 1 else replies[0]
        return web.Response(status=status, text=text, content_type="application/json")

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionResetError):
            while not self._let_go.is_set():
                await response.write(b" ")
                await asyncio.sleep(_DRIP_S)
        return response

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        namespace = request.path.strip("/")
        # Versions before 0.4 have no runtimes to tell of.
        if namespace not in ("llm", "embedding", "system", "files", "repository", *(["runtime"] * self.runtime)):
            return web.Response(status=404)
        websocket = web.WebSocketResponse(max_msg_size=0, compress=False)
        await websocket.prepare(request)
        self._sockets.add(websocket)
        try:
            if await self._greet(websocket):
                await _Session(self, namespace, websocket).run()
        finally:
            self._sockets.discard(websocket)
        return websocket

    async def _greet(self, websocket: web.WebSocketResponse) -> bool:
        message = await websocket.receive()
        if message.type is not WSMsgType.TEXT:
            return False
        self.seen.append(("auth", json.loads(message.data)))
        if self.faults.cut("auth"):
            _cut(websocket)
            return False
        if self.faults.auth == "silent":
            await self._let_go.wait()
        elif self.faults.auth == "garbage":
            await websocket.send_str("<html>")
        elif self.faults.auth:
            reason = "Invalid passkey for client identifier"
            error: Any = {"title": reason} if "object" in self.faults.auth else reason
            await websocket.send_json({"success": False, "error": error})
            await websocket.close()
        else:
            await websocket.send_json({"success": True})
            return True
        return False

    # --- remote calls ---------------------------------------------------------------------------------------------

    def answer(self, namespace: str, endpoint: str, parameter: Any) -> Any:
        """The result of a remote call; None for a void one."""
        if endpoint in self.faults.errors:
            raise ServerError(self.faults.errors[endpoint])
        if endpoint in self.faults.answers:
            return self.faults.answers[endpoint]
        method = getattr(self, f"_rpc_{endpoint}", None)
        if method is None:
            raise ServerError({"title": f"Unknown endpoint {endpoint}"})
        return method(namespace, parameter)

    def _rpc_listDownloadedModels(self, namespace: str, parameter: Any) -> Any:  # noqa: N802 - the wire's name
        return [model.info() for model in self.models.values()] + self.faults.listed

    def _rpc_listLoaded(self, namespace: str, parameter: Any) -> Any:  # noqa: N802 - the wire's name
        return [instance.info() for instance in self.instances.values() if instance.model.kind == namespace]

    def _rpc_getModelInfo(self, namespace: str, parameter: Any) -> Any:  # noqa: N802 - the wire's name
        return self.find(parameter["specifier"]).info()

    def _rpc_getInstanceProcessingState(self, namespace: str, parameter: Any) -> Any:  # noqa: N802 - the wire's name
        running = self.find(parameter["specifier"]).running
        return {"status": "generating" if running else "idle", "queued": running}

    def _rpc_unloadModel(self, namespace: str, parameter: Any) -> Any:  # noqa: N802 - the wire's name
        if self.instances.pop(parameter["identifier"], None) is None:
            raise _not_loaded(parameter["identifier"])

    def _rpc_countTokens(self, namespace: str, parameter: Any) -> Any:  # noqa: N802 - the wire's name
        self.find(parameter["specifier"])
        return {"tokenCount": len(parameter["inputString"].split())}

    def _rpc_tokenize(self, namespace: str, parameter: Any) -> Any:
        self.find(parameter["specifier"])
        return {"tokens": [len(word) for word in parameter["inputString"].split()]}

    def _rpc_applyPromptTemplate(self, namespace: str, parameter: Any) -> Any:  # noqa: N802 - the wire's name
        self.find(parameter["specifier"])
        return {"formatted": _prompt_text(parameter["history"])}

    def _rpc_embedString(self, namespace: str, parameter: Any) -> Any:  # noqa: N802 - the wire's name
        self.find(parameter["modelSpecifier"])
        return {"embedding": [float(len(parameter["inputString"])), 1.0]}

    def _rpc_uploadFileBase64(self, namespace: str, parameter: Any) -> Any:  # noqa: N802 - the wire's name
        size = len(parameter["contentBase64"]) * 3 // 4
        return {"identifier": f"f-{parameter['name']}", "fileType": "image", "sizeBytes": size}

    def _rpc_estimateModelUsage(self, namespace: str, parameter: Any) -> Any:  # noqa: N802 - the wire's name
        model = self.models[parameter["modelKey"]]
        wanted = collapse(parameter["loadConfigStack"])[f"{namespace}.load.contextLength"]
        memory = {"modelVramBytes": 0, "contextVramBytes": 0, "totalVramBytes": 0, "modelBytes": 1_150_000}
        memory |= {"contextBytes": 1000 * wanted, "totalBytes": 1_150_000 + 1000 * wanted}
        fits = model.loadable is None or wanted <= model.loadable
        return {"memory": {"confidence": "high", **memory}, "passesGuardrails": fits}

    def find(self, specifier: Mapping[str, Any]) -> Instance:
        """The instance a specifier means."""
        if specifier["type"] == "instanceReference":
            reference = specifier["instanceReference"]
            found = next((each for each in self.instances.values() if each.reference == reference), None)
            if found is None:
                raise ServerError({"title": "Gone", "displayData": {"code": "generic.specificModelUnloaded"}})
            return found
        name = specifier["query"].get("identifier", "")
        if name not in self.instances:
            raise _not_loaded(name)
        return self.instances[name]

    # --- channels -------------------------------------------------------------------------------------------------

    async def load(self, namespace: str, parameter: Any, cancelled: asyncio.Event) -> AsyncIterator[dict[str, Any]]:
        """The packets of one load."""
        fault = self.faults.load
        model = self.models.get(parameter["modelKey"])
        if model is None:
            data = {"code": "generic.pathNotFound", "path": parameter["modelKey"], "totalModels": len(self.models)}
            raise ServerError({"title": "Not found", "displayData": data | {"availablePathsSample": list(self.models)}})
        if model.kind != namespace:
            data = {"code": "generic.domainMismatch", "path": model.key}
            raise ServerError({"title": "Wrong domain", "displayData": data})
        config = collapse(parameter["loadConfigStack"])
        wanted = config.get(f"{namespace}.load.contextLength", 4096)
        yield {"type": "resolved", "info": model.info()}
        yield {"type": "progress", "progress": 0.25}
        await asyncio.sleep(self._load_delay_s)
        while fault == "drip" and not cancelled.is_set():
            yield {"type": "progress", "progress": 0.5}
            await asyncio.sleep(_DRIP_S)
        if fault == "hang":
            await cancelled.wait()
        elif fault == "deaf":
            await self._let_go.wait()
        elif fault in LOAD_ERRORS:
            raise ServerError(LOAD_ERRORS[fault])
        if cancelled.is_set() and fault != "deaf":
            raise ServerError({"title": "Model load was cancelled"})
        if model.loadable is not None and wanted > model.loadable:
            raise ServerError(LOAD_ERRORS[model.load_failure])
        yield {"type": "progress", "progress": 1.0}
        identifier = parameter.get("identifier", model.key)
        if identifier in self.instances:
            raise ServerError({"title": f"Model with identifier {identifier} already exists"})
        self._references += 1
        self.instances[identifier] = instance = Instance(
            model=model,
            identifier=identifier,
            reference=f"ref-{self._references}",
            context_length=model.effective(wanted),
            ttl_ms=parameter.get("ttlMs"),
            config=config,
        )
        yield {"type": "success", "info": instance.info()}

    async def predict(self, namespace: str, parameter: Any, cancelled: asyncio.Event) -> AsyncIterator[dict[str, Any]]:
        """The packets of one prediction."""
        instance = self.find(parameter["modelSpecifier"])
        instance.running += 1
        try:
            async for packet in self._predict(instance, parameter, cancelled):
                yield packet
        finally:
            instance.running -= 1

    async def _predict(
        self, instance: Instance, parameter: Any, cancelled: asyncio.Event
    ) -> AsyncIterator[dict[str, Any]]:
        fault, _, after = self.faults.predict.partition(" after ")
        fault_at = int(after.split()[0]) if after else 0
        config = collapse(parameter["predictionConfigStack"])
        prompt = _fit(_prompt_text(parameter["history"]), instance, config)
        prompt_tokens = len(prompt.split())
        if fault == "empty":
            return
        if fault == "in-band error":
            yield {"type": "error", "error": {"title": "Sampler failed"}}
            return
        if fault == "unloaded":
            raise ServerError(UNLOADED)
        for packet in self._prefill(instance, prompt_tokens):
            yield packet
        limit = switched(config.get("llm.prediction.maxPredictedTokens"))
        room = instance.context_length - prompt_tokens
        pieces = re.findall(r"\S+\s*", instance.model.reply(prompt))
        for packet in self.script or ():
            yield packet
        if self.script is not None:
            pieces = []
        stop_reason = "eosFound"
        sent = 0
        for piece in [*pieces, None]:
            if fault and sent == fault_at:
                await self._go_wrong(fault, cancelled)
                if fault == "close":
                    return
            if cancelled.is_set():
                stop_reason = "userStopped"
                break
            if piece is None:
                break
            if sent in (limit, room):
                stop_reason = "maxPredictedTokensReached" if sent == limit else "contextLengthReached"
                break
            fragment = {"content": piece, "tokensCount": 1, "containsDrafted": False, "reasoningType": "none"}
            yield {"type": "fragment", "fragment": fragment | {"isStructural": False}}
            sent += 1
            await asyncio.sleep(self._word_delay_s)
        stats: dict[str, Any] = {
            "stopReason": "failed" if fault == "failed" else stop_reason,
            "tokensPerSecond": instance.model.speed(prompt_tokens, instance.context_length),
            "numGpuLayers": -1,
            "timeToFirstTokenSec": 0.01,
            "totalTimeSec": 0.02,
            "predictedTokensCount": sent,
            **instance.model.counted(prompt_tokens, sent),
        }
        if fault == "bad stats":
            stats |= {"stopReason": "tiredOfIt", "promptTokensCount": 7.5, "predictedTokensCount": "many"}
        configs: dict[str, Any] = {"loadModelConfig": {"fields": []}, "predictionConfig": {"fields": []}}
        yield {"type": "success", "stats": stats, "modelInfo": instance.info(), **configs}

    def _prefill(self, instance: Instance, prompt_tokens: int) -> Iterator[dict[str, Any]]:
        for ratio in (0.0, 0.5, 1.0):
            done = int(prompt_tokens * ratio)
            instance.read_tokens = max(instance.read_tokens, done)
            details = {"cachedTokenCount": 0, "totalPromptTokenCount": prompt_tokens, "processedPromptTokenCount": done}
            yield {"type": "promptProcessingProgress", "progress": ratio, "details": details}
            if instance.model.prefillable is not None and done > instance.model.prefillable:
                self.instances.pop(instance.identifier, None)
                raise ServerError(CRASHED)

    async def _go_wrong(self, fault: str, cancelled: asyncio.Event) -> None:
        if fault == "hang":
            await cancelled.wait()
        elif fault == "deaf":
            await self._let_go.wait()
        elif fault == "crash":
            raise ServerError(CRASHED)
        elif fault == "drop":
            raise ConnectionResetError
        elif fault == "garbage":
            raise ValueError


class _Session:
    """One websocket after its greeting: remote calls answered at once, a task for each channel."""

    def __init__(self, server: FaultyServer, namespace: str, websocket: web.WebSocketResponse) -> None:
        self._server = server
        self._namespace = namespace
        self._websocket = websocket
        self._channels: dict[int, tuple[str, asyncio.Event]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        async for message in self._websocket:
            if message.type is WSMsgType.TEXT:
                frame = json.loads(message.data)
                self._server.seen.append((self._namespace, frame))
                with suppress(ConnectionResetError):
                    await self._handle(frame)
        for _, cancelled in self._channels.values():
            cancelled.set()  # a client that hangs up has cancelled

    async def _handle(self, frame: dict[str, Any]) -> None:
        if self._server.faults.cut(frame.get("endpoint", "")):
            _cut(self._websocket)
            return
        if frame["type"] == "rpcCall":
            await self._call(frame)
        elif frame["type"] == "channelCreate":
            task = asyncio.create_task(self._channel(frame))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif frame["type"] == "channelSend" and frame["message"] == {"type": "cancel"}:
            endpoint, cancelled = self._channels.get(frame["channelId"], ("", asyncio.Event()))
            self._server.cancelled.append(endpoint)
            cancelled.set()

    async def _call(self, frame: dict[str, Any]) -> None:
        endpoint, call_id = frame["endpoint"], frame["callId"]
        if endpoint in self._server.faults.mute:
            return
        if endpoint in self._server.faults.frames:
            await self._websocket.send_str(self._server.faults.frames[endpoint])
            return
        try:
            result = self._server.answer(self._namespace, endpoint, frame.get("parameter"))
        except ServerError as exc:
            await self._websocket.send_json({"type": "rpcError", "callId": call_id, "error": exc.body})
            return
        answer = {"type": "rpcResult", "callId": call_id}
        await self._websocket.send_json(answer if result is None else answer | {"result": result})

    async def _channel(self, frame: dict[str, Any]) -> None:
        channel_id, endpoint = frame["channelId"], frame["endpoint"]
        cancelled = asyncio.Event()
        self._channels[channel_id] = (endpoint, cancelled)
        packets = {"loadModel": self._server.load, "predict": self._server.predict}[endpoint]
        fault = self._server.faults.load if endpoint == "loadModel" else ""
        if endpoint in self._server.faults.frames:
            await self._websocket.send_str(self._server.faults.frames[endpoint])
            return
        try:
            async for packet in packets(self._namespace, frame["creationParameter"], cancelled):
                if fault == "close" and packet["type"] == "progress":
                    break
                if fault in ("drop", "garbage") and packet["type"] == "progress":
                    raise ConnectionResetError if fault == "drop" else ValueError
                await self._websocket.send_json({"type": "channelSend", "channelId": channel_id, "message": packet})
            await self._websocket.send_json({"type": "channelClose", "channelId": channel_id})
        except ServerError as exc:
            with suppress(ConnectionResetError):
                await self._websocket.send_json({"type": "channelError", "channelId": channel_id, "error": exc.body})
        except ConnectionResetError:
            _cut(self._websocket)
        except ValueError:
            await self._websocket.send_str("<html>out of paper</html>")
        finally:
            self._channels.pop(channel_id, None)


def _cut(websocket: web.WebSocketResponse) -> None:
    """End a connection without a goodbye."""
    transport = websocket._req.transport if websocket._req is not None else None
    if transport is not None:
        transport.abort()


def _prompt_text(history: Mapping[str, Any]) -> str:
    parts = (part for message in history["messages"] for part in message["content"])
    return "\n".join(part.get("text") or part.get("content") or "" for part in parts)


def _fit(prompt: str, instance: Instance, config: Mapping[str, Any]) -> str:
    """The prompt as the model gets to see it: whole, its middle cut out, or an error."""
    words = prompt.split()
    context_length = min(instance.context_length, instance.model.window or instance.context_length)
    if len(words) < context_length:
        return prompt
    if config.get("llm.prediction.contextOverflowPolicy") == "stopAtLimit" and not instance.model.truncates:
        title = (
            f"Trying to keep the first {len(words)} tokens when context the overflows. However, the model is loaded "
            f"with context length of only {context_length} tokens, which is not enough."
        )
        data = {"promptTokens": len(words), "contextLength": context_length}
        raise ServerError({"title": title, "rootTitle": title, "errorData": data})
    pieces = re.findall(r"\S+\s*", prompt)
    room = context_length - 1
    if instance.model.keeps_end:
        return "".join(pieces[-room:])
    return "".join(pieces[: room // 2] + pieces[len(pieces) - (room - room // 2) :])


# --- other things that may sit on a port ----------------------------------------------------------------------------


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """The address of something that answers every connection with these bytes, or with silence when None."""
    accepted: list[socket.socket] = []
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                accepted.append(connection)
                if answer is not None:
                    connection.settimeout(1.0)
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        host, port = listener.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            stop.set()
            thread.join()
            for connection in accepted:
                connection.close()


def http_answer(body: str, status: str = "200 OK") -> bytes:
    """A whole HTTP answer, for `listening`."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\nConnection: close\r\n\r\n{body}".encode()


def closed_port() -> int:
    """A port nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
