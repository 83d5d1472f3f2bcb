"""`/llm` and `/embedding`: loading, listing and asking models."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from lmstrix.engine.answer_form import read_tools
from lmstrix.engine.faults import SAMPLE_SIZE, EngineFault, nothing_loaded_fault
from lmstrix.engine.protocol import wire
from lmstrix.engine.protocol.endpoints import parameters
from lmstrix.engine.protocol.history import history_turns, joined_text
from lmstrix.engine.protocol.load_config import is_custom_field, load_config, load_request
from lmstrix.engine.protocol.prediction_config import (
    PredictionRequest,
    prediction_config,
    prediction_request,
)
from lmstrix.engine.protocol.presentation import (
    instance_info,
    model_info,
    packet,
    prediction_stats,
    resource_estimate,
)
from lmstrix.engine.protocol.session import EndpointNamespace, RpcRequest, ServerChannel
from lmstrix.engine.records import (
    CatalogEntry,
    FragmentEvent,
    LoadSettings,
    PredictionDone,
    PredictionInput,
    PredictionSettings,
    PredictionStats,
)

if TYPE_CHECKING:
    from lmstrix.engine.instance import Instance
    from lmstrix.engine.protocol.session import ChannelHandler, RpcHandler
    from lmstrix.engine.records import ChatPart, ChatTurn
    from lmstrix.engine.state import EngineState
    from lmstrix.engine.uploads import FileStore
    from lmstrix.ground.types import ModelKind

_T = TypeVar("_T")


def llm_namespace(state: EngineState) -> EndpointNamespace:
    """`/llm`."""
    models = LanguageModels(state, "llm")
    return EndpointNamespace(
        calls={
            **models.calls(),
            "applyPromptTemplate": models.apply_prompt_template,
            "preloadDraftModel": models.preload_draft_model,
        },
        channels={
            **models.channels(),
            "predict": models.predict,
            "completeRawText": models.complete_raw_text,
        },
    )


def embedding_namespace(state: EngineState) -> EndpointNamespace:
    """`/embedding`."""
    models = EmbeddingModels(state, "embedding")
    return EndpointNamespace(calls={**models.calls(), "embedString": models.embed_string}, channels=models.channels())


class Models:
    """What both kinds of models have in common."""

    def __init__(self, state: EngineState, kind: ModelKind) -> None:
        self._state = state
        self._pool = state.pool
        self._kind = kind

    def calls(self) -> dict[str, RpcHandler]:
        """Remote calls by name."""
        return {
            "unloadModel": self.unload_model,
            "listLoaded": self.list_loaded,
            "getModelInfo": self.get_model_info,
            "getLoadConfig": self.get_load_config,
            "getBasePredictionConfig": self.get_base_prediction_config,
            "getInstanceProcessingState": self.get_instance_processing_state,
            "estimateModelUsage": self.estimate_model_usage,
            "tokenize": self.tokenize,
            "countTokens": self.count_tokens,
        }

    def channels(self) -> dict[str, ChannelHandler]:
        """Channels by name."""
        return {"loadModel": self.load_model, "getOrLoad": self.get_or_load}

    async def load_model(self, channel: ServerChannel) -> None:
        """Load a further instance of a model."""
        parameter = channel.parameter
        parameters.this_machine(parameter)
        settings = self._load_settings(parameter)
        await self._state.catalog_ready()
        entry = self._pool.catalog.find(parameters.required_text(parameter, "modelKey"), kind=self._kind)
        # Before the load begins, which may take minutes or fail.
        await channel.send({"type": "resolved", "info": model_info(entry)})

        async def progress(ratio: float) -> None:
            await channel.send({"type": "progress", "progress": ratio})

        loading = self._pool.load(
            entry.model_key,
            settings,
            kind=self._kind,
            identifier=parameters.optional_text(parameter, "identifier"),
            ttl_s=parameters.optional_seconds(parameter, "ttlMs"),
            on_progress=progress,
        )
        instance = await _unless_cancelled(channel, loading)
        self._tell_loaded(instance)
        await channel.send({"type": "success", "info": instance_info(instance)})

    async def get_or_load(self, channel: ServerChannel) -> None:
        """The instance that answers to a name, loaded when there is none."""
        parameter = channel.parameter
        parameters.this_machine(parameter)
        await self._state.catalog_ready()

        async def start(identifier: str, entry: CatalogEntry) -> None:
            await channel.send({"type": "startLoading", "identifier": identifier, "info": model_info(entry)})

        async def evict(instance: Instance) -> None:
            await channel.send({"type": "unloadingOtherJITModel", "info": instance_info(instance)})

        async def progress(ratio: float) -> None:
            await channel.send({"type": "loadProgress", "progress": ratio})

        finding = self._pool.get_or_load(
            parameters.required_text(parameter, "identifier"),
            self._load_settings(parameter),
            kind=self._kind,
            ttl_s=parameters.optional_seconds(parameter, "loadTtlMs"),
            on_start=start,
            on_evict=evict,
            on_progress=progress,
        )
        instance, loaded_now = await _unless_cancelled(channel, finding)
        if loaded_now:
            self._tell_loaded(instance)
        outcome = "loadSuccess" if loaded_now else "alreadyLoaded"
        await channel.send({"type": outcome, "info": instance_info(instance)})

    async def unload_model(self, request: RpcRequest) -> object:
        """Unload the instance of exactly that identifier."""
        parameters.this_machine(request.parameter)
        identifier = parameters.required_text(request.parameter, "identifier")
        await self._pool.unload(identifier)
        self._state.logs.server(f"unloaded {identifier}")
        return wire.ABSENT

    async def list_loaded(self, _request: RpcRequest) -> object:
        """Every loaded instance of this kind."""
        return [instance_info(instance) for instance in self._pool.list_loaded(self._kind)]

    async def get_model_info(self, request: RpcRequest) -> object:
        """One instance; absent when there is none and the caller asked not to fail."""
        instance = self._instance_if_any(request.parameter)
        return wire.ABSENT if instance is None else instance_info(instance)

    async def get_load_config(self, request: RpcRequest) -> object:
        """The load settings in effect."""
        return _load_config(self._instance(request.parameter))

    async def get_base_prediction_config(self, request: RpcRequest) -> object:
        """The settings a prediction starts from."""
        self._instance(request.parameter)
        return prediction_config(PredictionRequest(settings=PredictionSettings()))

    async def get_instance_processing_state(self, request: RpcRequest) -> object:
        """What an instance does now; absent when there is none and the caller asked not to fail."""
        instance = self._instance_if_any(request.parameter)
        if instance is None:
            return wire.ABSENT
        return {"status": instance.slots.status, "queued": instance.slots.queued}

    async def estimate_model_usage(self, request: RpcRequest) -> object:
        """What a load would take."""
        parameters.this_machine(request.parameter)
        await self._state.catalog_ready()
        entry = self._pool.catalog.find(parameters.required_text(request.parameter, "modelKey"), kind=self._kind)
        estimate = self._pool.estimate(entry.model_key, self._load_settings(request.parameter))
        return resource_estimate(estimate, gpu=False)

    async def tokenize(self, request: RpcRequest) -> object:
        """The tokens of exactly this text."""
        instance = self._instance(request.parameter)
        return {"tokens": await instance.model.tokenize(parameters.required_text(request.parameter, "inputString"))}

    async def count_tokens(self, request: RpcRequest) -> object:
        """How many tokens exactly this text has."""
        instance = self._instance(request.parameter)
        return {
            "tokenCount": await instance.model.count_tokens(parameters.required_text(request.parameter, "inputString"))
        }

    def _instance_if_any(self, parameter: Mapping[str, Any]) -> Instance | None:
        """The loaded instance a specifier means; None when there is none and the caller asked not to fail."""
        try:
            return self._instance(parameter)
        except EngineFault as fault:
            # Only this one failure is asked about; a malformed specifier fails in any case.
            if fault.kind == "not_found" and not parameters.flag(parameter, "throwIfNotFound", default=True):
                return None
            raise

    def _instance(self, parameter: Mapping[str, Any], name: str = "specifier") -> Instance:
        """The loaded instance a specifier means."""
        match parameter.get(name):
            case {"type": "instanceReference", "instanceReference": str(reference)}:
                return self._pool.by_reference(reference)
            case {"type": "query", "query": Mapping() as query}:
                return self._queried(query)
        raise EngineFault(f"{name} must be a query or an instance reference.", kind="invalid")

    def _queried(self, query: Mapping[str, Any]) -> Instance:
        parameters.this_machine(query)
        domain, vision = query.get("domain"), query.get("vision")
        # A namespace sees models of its kind only, so another domain can match nothing.
        if domain is not None and domain != self._kind:
            raise self._nothing_answers(query)
        name = parameters.optional_text(query, "identifier") or parameters.optional_text(query, "path")
        if vision is None:
            return self._pool.find(name, kind=self._kind)
        for instance in [self._pool.find(name, kind=self._kind)] if name else self._pool.list_loaded(self._kind):
            if instance.entry.vision == vision:
                return instance
        raise self._nothing_answers(query)

    def _nothing_answers(self, query: Mapping[str, Any]) -> EngineFault:
        loaded = [instance.identifier for instance in self._pool.list_loaded(self._kind)]
        return nothing_loaded_fault(
            "No loaded model answers to the query.",
            query=query,
            loaded=loaded,
            suggestion=f"Loaded models: {', '.join(loaded[:SAMPLE_SIZE])}" if loaded else "Load it first.",
        )

    def _load_settings(self, parameter: Mapping[str, Any]) -> LoadSettings:
        request = load_request(parameter.get("loadConfigStack"))
        self._tell_ignored(request.ignored_keys)
        return request.settings

    def _tell_loaded(self, instance: Instance) -> None:
        self._state.logs.server(f"loaded {instance.identifier} with a context of {instance.context_length} tokens")

    def _tell_ignored(self, keys: tuple[str, ...]) -> None:
        # A misspelt key would otherwise be a setting that silently does nothing.
        unknown = [key for key in keys if not is_custom_field(key)]
        if unknown:
            self._state.logs.server(f"ignored unknown settings: {', '.join(unknown)}", "warn")


class LanguageModels(Models):
    """Generating text."""

    async def predict(self, channel: ServerChannel) -> None:
        """Answer a chat, or continue a text sent as one with the raw formatting layer."""
        parameter = channel.parameter
        request = self._prediction_request(parameter)
        turns = history_turns(parameter.get("history"), system_prompt=request.system_prompt)
        if request.raw:
            prompt = PredictionInput(raw_prompt=joined_text(turns), settings=request.settings)
        else:
            turns = await self._state.documents.put_into(turns, self._state.files.of(channel.client))
            prompt = PredictionInput(turns=turns, settings=request.settings)
        await self._run(channel, self._instance(parameter, "modelSpecifier"), request, prompt)

    async def complete_raw_text(self, channel: ServerChannel) -> None:
        """Continue a text."""
        request = self._prediction_request(channel.parameter)
        prompt = PredictionInput(
            raw_prompt=parameters.required_text(channel.parameter, "rawPrompt"), settings=request.settings
        )
        await self._run(channel, self._instance(channel.parameter, "modelSpecifier"), request, prompt)

    async def apply_prompt_template(self, request: RpcRequest) -> object:
        """A chat as the text the model would see. It ends where the answer begins, so there is no EOS to omit."""
        instance = self._instance(request.parameter)
        asked = self._prediction_request(request.parameter)
        options = parameters.optional_object(request.parameter, "opts")
        tools = read_tools("toolDefinitions", options.get("toolDefinitions") or [])
        files = self._state.files.of(request.client)
        turns = history_turns(request.parameter.get("history"), system_prompt=asked.system_prompt)
        formatted = await instance.model.apply_template(
            await self._state.documents.put_into(self._without_unknown_files(turns, files), files),
            tools=tools or asked.settings.tools,
            omit_bos=parameters.flag(options, "omitBosToken", default=False),
            prompt_template=asked.settings.prompt_template,
            files=files,
        )
        return {"formatted": formatted}

    def _without_unknown_files(self, turns: Sequence[ChatTurn], files: FileStore) -> tuple[ChatTurn, ...]:
        """The history without files nobody uploaded: LM Studio shows what the template makes of the rest."""
        missing = [part.file_id for turn in turns for part in turn.parts if _is_missing(part, files)]
        if missing:
            self._state.logs.server(
                f"left out of a template: files nobody uploaded, {', '.join(map(str, missing))}", "warn"
            )
        return tuple(
            dataclasses.replace(turn, parts=tuple(part for part in turn.parts if not _is_missing(part, files)))
            for turn in turns
        )

    async def preload_draft_model(self, _request: RpcRequest) -> object:
        """Refused: there is no speculative decoding."""
        raise EngineFault("The embedded engine has no speculative decoding.", kind="unsupported")

    def _prediction_request(self, parameter: Mapping[str, Any]) -> PredictionRequest:
        preset = parameter.get("fuzzyPresetIdentifier")
        if preset is not None:
            raise _no_presets(preset)
        request = prediction_request(parameter.get("predictionConfigStack"))
        self._tell_ignored(request.ignored_keys)
        return request

    async def _run(
        self, channel: ServerChannel, instance: Instance, request: PredictionRequest, prompt: PredictionInput
    ) -> None:
        with_tokens = request.settings.log_probs is not None
        stats: PredictionStats | None = None
        prediction = instance.predict(prompt, files=self._state.files.of(channel.client))
        async with aclosing(prediction):
            # A stop ends it regularly, with figures; only a client that goes cancels it.
            channel.on_stop(prediction.stop)
            async for event in prediction:
                if isinstance(event, FragmentEvent):
                    await channel.send_fragment(event, tokens=with_tokens)
                elif isinstance(event, PredictionDone):
                    stats = event.stats
                else:
                    message = packet(event, request.tool_names)
                    if message is not None:
                        await channel.send(message)
        # A cancelled prediction ends without figures; nobody must take it for a success.
        if stats is None:
            raise EngineFault("The prediction ended without a result.", kind="internal")
        await channel.send(
            {
                "type": "success",
                "stats": prediction_stats(stats),
                "modelInfo": instance_info(instance),
                "loadModelConfig": _load_config(instance),
                "predictionConfig": prediction_config(request),
            }
        )


class EmbeddingModels(Models):
    """Turning text into vectors."""

    async def tokenize(self, request: RpcRequest) -> object:
        """The tokens a text is embedded as, with the markers around it; LM Studio's `countTokens` leaves those out."""
        instance = self._instance(request.parameter)
        text = parameters.required_text(request.parameter, "inputString")
        return {"tokens": await instance.model.tokenize(text, as_prompt=True)}

    async def embed_string(self, request: RpcRequest) -> object:
        """The vector of one text."""
        instance = self._instance(request.parameter, "modelSpecifier")
        return {"embedding": await instance.model.embed(parameters.required_text(request.parameter, "inputString"))}


def _is_missing(part: ChatPart, files: FileStore) -> bool:
    return part.type == "file" and part.file_id is not None and part.file_id not in files


def _load_config(instance: Instance) -> dict[str, Any]:
    return load_config(instance.settings, instance.entry.kind)


def _no_presets(preset: object) -> EngineFault:
    return EngineFault(
        f"The embedded engine has no presets: {preset}",
        kind="not_found",
        display_data={
            "code": "generic.presetNotFound",
            "specifiedFuzzyPresetIdentifier": str(preset),
            "availablePresetsSample": [],
            "totalAvailablePresets": 0,
        },
    )


async def _unless_cancelled(channel: ServerChannel, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, which a cancel packet ends; the client is then told so."""
    task = asyncio.create_task(work)
    channel.on_stop(task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        # The engine may be closing at the same moment; that cancellation is not ours to swallow.
        if channel.stopped.is_set() and current is not None and not current.cancelling():
            raise EngineFault("Loading was cancelled by the client.", kind="cancelled") from None
        raise
