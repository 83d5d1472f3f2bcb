"""AsyncLMStudioBackend: LM Studio, or anything that speaks its wire, as a `ModelBackend`.

Every wait has a deadline, except the wait for the next event of a stream: the StreamingManager limits that one. What
passes its deadline is cancelled on the server; a load that the server finishes all the same is unloaded when it does.
Instances that this backend loaded are addressed by their reference: the server may unload one and load it again by
itself, with a context of its own choice, and that one must not be mistaken for ours.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lmstrix.api import convert
from lmstrix.api.failures import is_broken_connection, timed_out, translated
from lmstrix.api.faults import ServerRequest
from lmstrix.api.images import upload_images
from lmstrix.api.linked_device import loaded_elsewhere
from lmstrix.api.loading import Loading
from lmstrix.api.prediction import PredictionReader
from lmstrix.api.reasoning import steerable
from lmstrix.api.retry import with_retries
from lmstrix.ground.access import ANY_SERVER, ServerAccess
from lmstrix.ground.errors import LMStrixError, ModelNotFoundError, ModelUnloadedError
from lmstrix.ground.tasks import CLEAN_UP_S, within
from lmstrix.ground.types import (
    Deadlines,
    Finished,
    GenerationRequest,
    HardwareSurvey,
    InstanceMemory,
    LoadedModel,
    MemoryShortage,
    Message,
    ModelInfo,
    ModelKind,
    ResourceEstimate,
    RuntimeVersion,
    ServerInfo,
    ServerMemory,
    StreamEvent,
    ToolDefinition,
)

__path__: list[str] = []  # Python asks for names that a package lacks, and so those of LMStrix 1 are told here too

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from types import TracebackType

    from lmstrix.api.connection import WireConnection, WireNamespace
    from lmstrix.api.convert import Json, JsonView
    from lmstrix.ground.backend import LoadProgress
    from lmstrix.ground.loads import LoadConfig

CANCEL_GRACE_S = 0.2  # how long a cancelled load or prediction may take to say it has ended
_CHECK_S = 0.2  # how long the search for what it left behind may then take
_STATE_S = 1.0  # short, because older servers never answer the question, and a listing waits for it
_RUNTIME_S = 2.0  # the same, for a question that needs a session of its own first
_EMBEDDINGS_AT_ONCE = 16
_KINDS: tuple[ModelKind, ...] = ("llm", "embedding")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Known:
    """An instance this backend loaded or listed. `reference` is set for its own."""

    kind: ModelKind
    model_key: str
    context_length: int
    reference: str | None


class AsyncLMStudioBackend:
    """See `lmstrix.ground.backend.ModelBackend`. Connects when first used, and stays on the event loop of that use."""

    def __init__(
        self, server: ServerInfo, *, access: ServerAccess = ANY_SERVER, deadlines: Deadlines | None = None
    ) -> None:
        self._server = server
        self._access = access
        self._deadlines = deadlines or Deadlines(connect_s=access.connect_s or Deadlines().connect_s)
        self._opened: WireConnection | None = None
        self._known: dict[str, _Known] = {}
        self._kinds: dict[str, ModelKind] = {}
        self._strays: dict[asyncio.Task[None], Loading] = {}
        self._survey: tuple[HardwareSurvey | None] | None = None  # once asked: capacities stay as they are
        self._tells_state = True  # until the server once fails to answer

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def server(self) -> ServerInfo:
        return self._server

    async def connect(self) -> None:
        """Connect now rather than at the first call; says at once what is wrong."""
        await asyncio.gather(self._connection("system"), self._connection("llm"))

    async def close(self) -> None:
        """Unload what cancelled loads have left, and hang up; within a few seconds, however the server behaves."""
        # A cancelled load may still end as a loaded model, which nobody would ever unload again.
        strays = dict(self._strays)
        for task in strays:
            task.cancel()
        await asyncio.gather(*(within(CLEAN_UP_S, self._unload_what_came_of(loading)) for loading in strays.values()))
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    # --- asking ---------------------------------------------------------------------------------------------------

    async def _connection(self, namespace: WireNamespace) -> WireConnection:
        """The connection, with this namespace's session connected."""
        from lmstrix.api.connection import WireConnection

        limit_s = self._deadlines.connect_s
        if self._opened is None:
            self._opened = WireConnection(self._server, access=self._access, connect_s=limit_s)
        with translated(
            ServerRequest(operation="connect", address=self._server.address, what="connect", limit_s=limit_s)
        ):
            await self._opened.session(namespace)
        return self._opened

    async def _ask(
        self,
        namespace: WireNamespace,
        endpoint: str,
        parameters: Json | None,
        read: Callable[[Any], T],
        *,
        what: str,
        model: str | None = None,
        limit_s: float | None = None,
        again: bool = False,
    ) -> T:
        """Send one request; return what `read` makes of the answer. `what` completes "the server was asked to …".

        `again` repeats the request over a new connection when this one breaks. It is only for requests that change
        nothing on the server.
        """
        limit_s = self._deadlines.request_s if limit_s is None else limit_s
        connection = await self._connection(namespace)
        asked = ServerRequest(
            operation="ask", address=self._server.address, what=what, model_key=model, limit_s=limit_s
        )
        call = partial(connection.call, namespace, endpoint, parameters)
        # `read` runs inside too: an answer of an unexpected shape is a failure of the server, not of the caller.
        with translated(asked):
            if again:
                return read(
                    await with_retries(call, passes=is_broken_connection, limit_s=limit_s, retries=self._access.retries)
                )
            async with asyncio.timeout(limit_s):
                return read(await call())

    def _specifier(self, instance_id: str) -> Json:
        known = self._known.get(instance_id)
        if known is not None and known.reference:
            return convert.by_reference(known.reference)
        return {"type": "query", "query": {"identifier": instance_id}}

    def _namespace(self, instance_id: str) -> ModelKind:
        known = self._known.get(instance_id)
        return known.kind if known else "llm"

    # --- listing --------------------------------------------------------------------------------------------------

    async def list_downloaded(self) -> list[ModelInfo]:
        """The models on the server's own machine; kinds it alone knows are left out."""
        what = "list its models"
        models = await self._ask(
            "system", "listDownloadedModels", None, convert.downloaded_models, what=what, again=True
        )
        # Kept for `estimate`, whose request goes to the namespace of the model's kind.
        self._kinds = {model.model_key: model.kind for model in models}
        return models

    async def reasoning_options(self, model_key: str) -> tuple[str, ...] | None:
        """How a model can be told to reason, where the server says it."""
        from lmstrix.api.rest import fetch_capabilities

        with suppress(LMStrixError):
            told = await fetch_capabilities(self._server, access=self._access, timeout_s=self._deadlines.request_s)
            if (found := told.get(model_key)) is not None:
                return steerable(found.reasoning_options, model_key, self._server)
        return None

    async def list_loaded(self) -> list[LoadedModel]:
        """Every loaded instance, of both kinds, with what it is doing where the server tells."""
        entries = [entry for listing in await asyncio.gather(*map(self._listing, _KINDS)) for entry in listing]
        states = await asyncio.gather(*map(self._state, entries))
        loaded = [convert.loaded_model(entry, state) for entry, state in zip(entries, states, strict=True)]
        for model in loaded:
            # Not over an instance of our own, whose reference would be lost.
            self._known.setdefault(model.instance_id, _Known(model.kind, model.model_key, model.context_length, None))
        return loaded

    async def _listing(self, kind: ModelKind) -> list[JsonView]:
        what = "list its loaded models"
        return await self._ask(kind, "listLoaded", None, convert.local_instances, what=what, again=True)

    async def _state(self, entry: JsonView) -> JsonView | None:
        """What an instance is doing; older servers do not know the question, and never answer it."""
        if not self._tells_state:
            return None
        parameters = {"specifier": convert.by_reference(entry["instanceReference"]), "throwIfNotFound": False}
        kind: WireNamespace = "embedding" if entry["type"] == "embedding" else "llm"
        try:
            return await self._ask(
                kind,
                "getInstanceProcessingState",
                parameters,
                convert.mapping_or_none,
                what="tell what an instance is doing",
                limit_s=_STATE_S,
            )
        except (ModelNotFoundError, ModelUnloadedError):
            return None  # gone since it was listed
        except LMStrixError:
            self._tells_state = False  # each further question would wait for its whole deadline
            return None

    # --- loading --------------------------------------------------------------------------------------------------

    async def load(
        self,
        model_key: str,
        config: LoadConfig | None,
        *,
        instance_id: str,
        kind: ModelKind = "llm",
        ttl_s: float | None = None,
        deadlines: Deadlines | None = None,
        on_progress: LoadProgress | None = None,
    ) -> LoadedModel:
        """Load a new instance with exactly this config; return it with its effective context length read back.

        With `config` None nothing is asked for: the server loads the model as its own defaults for it say.
        A caller that stops waiting, by deadline, cancellation or a failing `on_progress`, leaves no instance behind.
        """
        asked = ServerRequest(
            operation="load",
            address=self._server.address,
            what=f"load {model_key}",
            model_key=model_key,
            context_length=config.context_length if config else None,
            limit_s=(deadlines or self._deadlines).load_s,
        )
        parameters = convert.load_parameters(model_key, config, instance_id=instance_id, kind=kind, ttl_s=ttl_s)
        # If this load fails, only what was not there before it is ours to unload.
        before = await self._references(instance_id, kind)
        loading = Loading(
            await self._connection(kind), asked, parameters, instance_id=instance_id, kind=kind, before=before
        )
        try:
            async with asyncio.timeout(asked.limit_s) as patience:
                async for ratio in loading.progress():
                    if on_progress is not None:
                        on_progress(ratio)
            loaded = await self._read_back(loading.result(), asked)
            if loaded.device is not None:
                device = {"identifier": instance_id, "deviceIdentifier": loaded.device}
                await self._ask(kind, "unloadModel", device, _nothing, what="unload a model", model=instance_id)
                raise loaded_elsewhere(loaded)
        except TimeoutError as exc:
            await self._abandon(loading)
            # Only our own deadline becomes LoadTimeoutError: `on_progress` may raise a TimeoutError too.
            if patience.expired():
                raise timed_out(asked) from exc
            raise
        except BaseException:  # an interrupt too must leave no model behind
            await self._abandon(loading)
            raise
        self._known[instance_id] = _Known(kind, loaded.model_key, loaded.context_length, loaded.instance_reference)
        return loaded

    async def _read_back(self, announced: LoadedModel, asked: ServerRequest) -> LoadedModel:
        """The instance as the server sees it now, not as it was announced."""
        parameters = {"specifier": convert.by_reference(announced.instance_reference), "throwIfNotFound": True}
        what = "describe the loaded model"
        return await self._ask(
            announced.kind, "getModelInfo", parameters, convert.loaded_model, what=what, model=asked.model_key
        )

    async def _abandon(self, loading: Loading) -> None:
        """Cancel a load on the server; unload the instance if it came to be, now or whenever the server is done."""
        await loading.cancel(CANCEL_GRACE_S)
        with suppress(LMStrixError, TimeoutError):
            async with asyncio.timeout(_CHECK_S):
                await self._unload_what_came_of(loading)
        if not loading.ended:
            # The server goes on. Nobody else would unload the model that comes of it.
            stray = asyncio.create_task(self._clean_up(loading))
            self._strays[stray] = loading
            stray.add_done_callback(self._strays.pop)

    async def _clean_up(self, loading: Loading) -> None:
        await loading.wait()
        with suppress(LMStrixError):
            await self._unload_what_came_of(loading)

    async def _unload_what_came_of(self, loading: Loading) -> None:
        """Unload the instance of the wanted name, unless it was there before: then it is somebody else's."""
        if await self._references(loading.instance_id, loading.kind) - loading.before:
            await self.unload(loading.instance_id, kind=loading.kind)

    async def _references(self, instance_id: str, kind: ModelKind) -> frozenset[str]:
        """What is loaded under this name, none or one."""
        entries = await self._listing(kind)
        return frozenset(entry["instanceReference"] for entry in entries if entry["identifier"] == instance_id)

    async def unload(self, instance_id: str, *, kind: ModelKind = "llm") -> None:
        """Unload one instance; no error when it is gone already."""
        parameters = {"identifier": instance_id}
        with suppress(ModelNotFoundError):
            await self._ask(kind, "unloadModel", parameters, _nothing, what="unload a model", model=instance_id)
        self._known.pop(instance_id, None)

    # --- predicting -----------------------------------------------------------------------------------------------

    async def stream(self, instance_id: str, request: GenerationRequest) -> AsyncGenerator[StreamEvent]:
        """Events of one prediction; the last is `Finished`. Leaving early cancels it on the server."""
        known = self._known.get(instance_id)
        asked = ServerRequest(
            operation="predict",
            address=self._server.address,
            what="answer",
            model_key=known.model_key if known else instance_id,
            context_length=known.context_length if known else None,
        )
        # Images go first: the request names them by the handles that the server gives for them.
        images = await upload_images(request.messages, self._take_file)
        parameters = convert.prediction_parameters(
            self._specifier(instance_id), request, images, model_key=asked.model_key or ""
        )
        connection = await self._connection("llm")
        reader = PredictionReader(asked, instance_id=instance_id, started_at=time.perf_counter())
        with translated(asked):
            async with connection.channel("llm", "predict", parameters) as channel:
                try:
                    while not channel.ended:
                        packet = await channel.receive()
                        if packet is None:
                            raise reader.closed_early()
                        event = reader.read(packet, time.perf_counter())
                        # Nobody waits for the close after the last packet: it would cost a round trip.
                        channel.ended = isinstance(event, Finished)
                        yield event
                finally:
                    await channel.cancel(CANCEL_GRACE_S)

    async def _take_file(self, name: str, parameters: Json) -> Json:
        return await self._ask("files", "uploadFileBase64", parameters, dict, what=f"take the image {name}")

    # --- tokens, templates, embeddings, estimates -----------------------------------------------------------------

    async def count_tokens(self, instance_id: str, text: str) -> int:
        """How many tokens `text` is to this model."""
        parameters = {"specifier": self._specifier(instance_id), "inputString": text}
        return await self._ask(
            self._namespace(instance_id),
            "countTokens",
            parameters,
            lambda answer: int(answer["tokenCount"]),
            what="count tokens",
            model=instance_id,
        )

    async def tokenize(self, instance_id: str, text: str) -> list[int]:
        """The tokens of `text`."""
        parameters = {"specifier": self._specifier(instance_id), "inputString": text}
        return await self._ask(
            self._namespace(instance_id),
            "tokenize",
            parameters,
            lambda answer: [int(token) for token in answer["tokens"]],
            what="tokenize",
            model=instance_id,
        )

    async def apply_template(
        self, instance_id: str, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> str:
        """The prompt the model would see for this chat."""
        images = await upload_images(messages, self._take_file)
        return await self._ask(
            "llm",
            "applyPromptTemplate",
            convert.template_parameters(self._specifier(instance_id), messages, tools, images),
            lambda answer: str(answer["formatted"]),
            what="apply the chat template",
            model=instance_id,
        )

    async def embed(self, instance_id: str, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text."""
        specifier = self._specifier(instance_id)

        async def embed_one(text: str) -> list[float]:
            return await self._ask(
                "embedding",
                "embedString",
                {"modelSpecifier": specifier, "inputString": text},
                lambda answer: [float(value) for value in answer["embedding"]],
                what="embed a text",
                model=instance_id,
            )

        vectors: list[list[float]] = []
        # The wire takes one text per request: a few at once hide the round trips, all at once would flood the server.
        for start in range(0, len(texts), _EMBEDDINGS_AT_ONCE):
            vectors += await asyncio.gather(*map(embed_one, texts[start : start + _EMBEDDINGS_AT_ONCE]))
        return vectors

    async def estimate(self, model_key: str, config: LoadConfig) -> ResourceEstimate:
        """What the server thinks this load takes."""
        kind = self._kinds.get(model_key, "llm")
        return await self._ask(
            kind,
            "estimateModelUsage",
            {"modelKey": model_key, "loadConfigStack": convert.load_config_stack(config, kind)},
            convert.resource_estimate,
            what=f"estimate {model_key}",
            model=model_key,
        )

    # --- runtimes and memory ------------------------------------------------------------------------------------------

    async def runtime(self, model_format: str) -> RuntimeVersion | None:
        """What the server has chosen to load models of this format, where it says it."""
        from lmstrix.api.runtimes import chosen_runtime, format_name, only_runtime

        name, what = format_name(model_format), "name its runtimes"
        for endpoint, read in (("getEngineSelections", chosen_runtime), ("listEngines", only_runtime)):
            # Each may be missing, and the whole namespace on older servers.
            with suppress(LMStrixError, TimeoutError):
                async with asyncio.timeout(_RUNTIME_S):
                    found = await self._ask("runtime", endpoint, None, partial(read, name=name), what=what)
                if found is not None:
                    return found
        return None

    async def memory(self) -> ServerMemory | None:
        """What one more model may take now, where the server says it."""
        from lmstrix.api.engine_memory import server_memory

        return await server_memory(self._server, access=self._access)

    async def survey(self) -> HardwareSurvey | None:
        """What the server's runtime has found to compute on, where the server says it."""
        from lmstrix.api.survey import SURVEY_S, hardware_survey

        if self._survey is None:
            found, what = None, "survey its hardware"
            with suppress(LMStrixError):
                found = await self._ask("runtime", "surveyHardware", None, hardware_survey, what=what, limit_s=SURVEY_S)
            self._survey = (found,)
        return self._survey[0]

    async def loaded_with(self, instance_id: str, *, kind: ModelKind = "llm") -> LoadConfig | None:
        """How a loaded instance was loaded, where the server says it."""
        from lmstrix.api.load_settings import told_load

        with suppress(LMStrixError):
            asked, read = {"specifier": self._specifier(instance_id)}, partial(told_load, kind=kind)
            return await self._ask(kind, "getLoadConfig", asked, read, what="tell how a model was loaded", again=True)
        return None

    async def instance_memory(self, instance_id: str) -> InstanceMemory | None:
        """What a loaded instance takes, where the server says it."""
        from lmstrix.api.engine_memory import instance_memory

        return await instance_memory(self._server, instance_id, access=self._access)

    async def memory_shortage(self, instance_id: str) -> MemoryShortage | None:
        """How an instance was ended for lack of memory, where the server says it."""
        from lmstrix.api.engine_memory import memory_shortage

        return await memory_shortage(self._server, instance_id, access=self._access)


def _nothing(_answer: object) -> None:
    """For requests whose answer says nothing."""
