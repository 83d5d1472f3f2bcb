"""Every websocket endpoint, frame by frame, against the rules that keep SDKs from hanging.

The numbers in the names of tests are those of the checklist for compatible servers that the engine was built by.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import pytest

from lmstrix import __version__
from lmstrix.engine.llama.starting import CHILD
from tests.engine.conftest import EMBEDDING, SCRIPTED, TINY
from tests.engine.raw_client import RawClient, chat, connected, prediction, query, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lmstrix.engine import EmbeddedEngine

NAMESPACES = ("llm", "embedding", "system", "files", "repository", "diagnostics", "runtime", "plugins")


@pytest.fixture
async def llm(engine: EmbeddedEngine) -> AsyncIterator[RawClient]:
    async with connected(engine.address, "llm") as client:
        yield client


@pytest.fixture
async def system(engine: EmbeddedEngine) -> AsyncIterator[RawClient]:
    async with connected(engine.address, "system") as client:
        yield client


def model_processes() -> list[psutil.Process]:
    """The children that host models; one that was only just forked is still a copy of this process."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if str(CHILD) in child.cmdline():
                found.append(child)
    return found


def nulls(value: Any, path: str = "") -> list[str]:
    """Where in a JSON value there is a null."""
    if value is None:
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in nulls(inner, f"{path}.{key}")]


class TestHandshake:
    async def test_1_greeting_is_instant_also_while_a_model_loads(self, engine: EmbeddedEngine, llm: RawClient) -> None:
        channel = await llm.open("loadModel", {"modelKey": SCRIPTED, "loadConfigStack": stack({})})
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"http://{engine.address}/lmstudio-greeting")
            assert await answer.json() == {"lmstudio": True}
        assert (await channel.rest())[1]["type"] == "channelClose"

    async def test_1_status_names_package_and_version(self, engine: EmbeddedEngine) -> None:
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"http://{engine.address}/lms-status")
            assert await answer.json() == {
                "package": "lmstrix",
                "version": __version__,
                "runtime": f"llama.cpp of xllamacpp {version('xllamacpp')}",
            }

    @pytest.mark.parametrize("identifier", ["guest:x", "", "a" * 256, "6e4b9a7c-uuid"])
    async def test_2_any_guest_may_enter(self, engine: EmbeddedEngine, identifier: str) -> None:
        auth = {"authVersion": 1, "clientIdentifier": identifier, "clientPasskey": ""}
        async with connected(engine.address, "llm", auth) as client:
            assert (await client.rpc("listLoaded"))["result"] == []

    async def test_2_frames_before_the_authentication_are_passed_over(self, engine: EmbeddedEngine) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{engine.address}/llm") as socket:
            await socket.send_str("hello?")
            await socket.send_str('{"type":"rpcCall","endpoint":"listLoaded","callId":1}')
            await socket.send_str('{"authVersion":1,"clientIdentifier":"a","clientPasskey":"b"}')
            assert await socket.receive_json() == {"success": True}

    @pytest.mark.parametrize("namespace", NAMESPACES)
    async def test_3_every_namespace_is_there(self, engine: EmbeddedEngine, namespace: str) -> None:
        async with connected(engine.address, namespace) as client:
            answer = await client.rpc("no such endpoint")
            assert answer["type"] == "rpcError"

    @pytest.mark.parametrize("path", ["decision", "llm/x", "LLM", ""])
    async def test_3_no_other_path_is(self, engine: EmbeddedEngine, path: str) -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(f"ws://{engine.address}/{path}")
            assert caught.value.status == 404


class TestUnknownAndRefused:
    async def test_4_unknown_endpoints_are_warned_about_and_answered(self, llm: RawClient) -> None:
        assert "future" in (await llm.rpc("future"))["error"]["title"]
        messages, last = await llm.channel("future")
        assert (messages, last["type"]) == ([], "channelError")
        assert [frame["kind"] for frame in llm.warnings] == ["rpcEndpointUnknown", "channelEndpointUnknown"]

    @pytest.mark.parametrize(
        ("namespace", "endpoint"),
        [
            ("repository", "searchModels"),
            ("repository", "lmLinkStatus"),
            ("repository", "loginWithPreAuthenticatedKeys"),
            ("runtime", "selectEngine"),
            ("plugins", "reindexPlugins"),
            ("files", "getLocalFileAbsolutePath"),
            ("llm", "preloadDraftModel"),
        ],
    )
    async def test_4_what_there_is_not_is_refused_without_a_warning(
        self, engine: EmbeddedEngine, namespace: str, endpoint: str
    ) -> None:
        async with connected(engine.address, namespace) as client:
            answer = await client.rpc(endpoint, {"fileName": "x"})
            assert answer["type"] == "rpcError"
            assert answer["error"]["title"] == answer["error"]["rootTitle"]
            assert client.warnings == []

    @pytest.mark.parametrize(
        ("namespace", "endpoint"),
        [
            ("repository", "downloadModel"),
            ("repository", "createDownloadPlan"),
            ("runtime", "downloadRuntimeExtension"),
            ("plugins", "setToolsProvider"),
            ("files", "retrieve"),
        ],
    )
    async def test_4_channels_too(self, engine: EmbeddedEngine, namespace: str, endpoint: str) -> None:
        async with connected(engine.address, namespace) as client:
            messages, last = await client.channel(endpoint)
            assert (messages, last["type"], client.warnings) == ([], "channelError", [])


LLM_FIELDS = {
    "type": str,
    "modelKey": str,
    "format": str,
    "displayName": str,
    "publisher": str,
    "path": str,
    "sizeBytes": int,
    "indexedModelIdentifier": str,
    "deviceIdentifier": type(None),
    "maxContextLength": int,
    "vision": bool,
    "trainedForToolUse": bool,
}


class TestModels:
    async def test_5_6_7_listing(self, system: RawClient) -> None:
        models = (await system.rpc("listDownloadedModels"))["result"]
        by_key = {model["modelKey"]: model for model in models}
        assert set(by_key) == {SCRIPTED, TINY, EMBEDDING}
        for name, kind in LLM_FIELDS.items():
            assert type(by_key[SCRIPTED][name]) is kind, name
        assert by_key[EMBEDDING].keys().isdisjoint({"vision", "trainedForToolUse"})
        assert {model["format"] for model in models} == {"gguf"}
        assert {model["type"] for model in models} == {"llm", "embedding"}
        assert type(by_key[SCRIPTED]["quantization"]["bits"]) is int
        assert {place for model in models for place in nulls(model)} == {".deviceIdentifier"}

    async def test_5_6_instances(self, llm: RawClient) -> None:
        info = await llm.load(SCRIPTED, {"llm.load.contextLength": 777})
        assert info["contextLength"] == 777
        assert type(info["contextLength"]) is int
        assert set(nulls(info)) == {".deviceIdentifier", ".ttlMs", ".lastUsedTime"}
        assert (await llm.rpc("listLoaded"))["result"] == [info]
        found = await llm.rpc("getModelInfo", {"specifier": query(SCRIPTED), "throwIfNotFound": True})
        assert found["result"] == info

    async def test_5_void_results_are_absent(self, llm: RawClient, system: RawClient) -> None:
        await llm.load(SCRIPTED)
        unloaded = await llm.rpc("unloadModel", {"identifier": SCRIPTED, "deviceIdentifier": None})
        assert unloaded.keys() == {"type", "callId"}
        assert (await system.rpc("notify", {"title": "hello"})).keys() == {"type", "callId"}
        missing = await llm.rpc("getModelInfo", {"specifier": query("nobody"), "throwIfNotFound": False})
        assert missing.keys() == {"type", "callId"}

    async def test_9_loading_reports_at_once_and_rises_to_one(self, llm: RawClient) -> None:
        parameter = {"modelKey": SCRIPTED, "ttlMs": 60_000, "loadConfigStack": stack({})}
        messages, last = await llm.channel("loadModel", parameter)
        assert messages[0]["type"] == "resolved"
        assert messages[0]["info"]["modelKey"] == SCRIPTED
        ratios = [message["progress"] for message in messages if message["type"] == "progress"]
        assert ratios == sorted(ratios)
        assert ratios[-1] == 1
        assert messages[-1]["type"] == "success"
        assert messages[-1]["info"]["ttlMs"] == 60_000
        assert last["type"] == "channelClose"

    async def test_10_get_or_load_loads_once(self, llm: RawClient) -> None:
        parameter = {"identifier": SCRIPTED, "loadConfigStack": stack({"llm.load.contextLength": 512})}
        messages, _ = await llm.channel("getOrLoad", parameter)
        assert messages[0]["type"] == "startLoading"
        assert messages[-1]["type"] == "loadSuccess"
        assert messages[-1]["info"]["ttlMs"] is None
        again, last = await llm.channel("getOrLoad", {**parameter, "loadConfigStack": stack({})})
        assert [message["type"] for message in again] == ["alreadyLoaded"]
        assert again[0]["info"]["instanceReference"] == messages[-1]["info"]["instanceReference"]
        assert last["type"] == "channelClose"

    async def test_10_get_or_load_tells_of_the_model_it_replaces(self, llm: RawClient) -> None:
        await llm.channel("getOrLoad", {"identifier": SCRIPTED, "loadConfigStack": stack({})})
        messages, _ = await llm.channel("getOrLoad", {"identifier": TINY, "loadConfigStack": stack({})})
        evicted = [message["info"] for message in messages if message["type"] == "unloadingOtherJITModel"]
        assert [info["identifier"] for info in evicted] == [SCRIPTED]

    async def test_10_a_failed_load_ends_in_an_error(self, llm: RawClient) -> None:
        messages, last = await llm.channel("loadModel", {"modelKey": "nobody", "loadConfigStack": stack({})})
        assert messages == []
        assert last["error"]["displayData"]["code"] == "generic.pathNotFound"
        config = stack({"llm.load.contextLength": 2**40})
        messages, last = await llm.channel("loadModel", {"modelKey": SCRIPTED, "loadConfigStack": config})
        assert [message["type"] for message in messages] == ["resolved"]
        assert last["type"] == "channelError"
        assert (await llm.rpc("listLoaded"))["result"] == []

    async def test_10_a_cancelled_load_leaves_nothing(self, llm: RawClient) -> None:
        channel = await llm.open("loadModel", {"modelKey": SCRIPTED, "loadConfigStack": stack({})})
        assert (await channel.next())["message"]["type"] == "resolved"
        await channel.say("cancel")
        messages, last = await channel.rest()
        assert last["type"] == "channelError"
        assert "success" not in [message["type"] for message in messages]
        assert (await llm.rpc("listLoaded"))["result"] == []

    async def test_12_refused_settings_are_named(self, llm: RawClient) -> None:
        config = stack({"llm.load.llama.autoFit": True})
        _, last = await llm.channel("loadModel", {"modelKey": SCRIPTED, "loadConfigStack": config})
        assert "llm.load.llama.autoFit" in last["error"]["title"]

    async def test_13_the_load_config_is_what_is_in_effect(self, llm: RawClient) -> None:
        await llm.load(
            SCRIPTED,
            {
                "llm.load.contextLength": 600,
                "llm.load.llama.kCacheQuantizationType": {"checked": True, "value": False},
                "llm.load.llama.evalBatchSize": 128,
                "llm.load.fromTheFuture": 1,
            },
        )
        config = (await llm.rpc("getLoadConfig", {"specifier": query(SCRIPTED)}))["result"]
        fields = {field["key"]: field["value"] for field in config["fields"]}
        assert fields["llm.load.contextLength"] == 600
        assert fields["llm.load.llama.autoFit"] is False
        assert fields["llm.load.numParallelSessions"] == 1
        assert fields["llm.load.llama.evalBatchSize"] == 128
        assert fields["llm.load.llama.kCacheQuantizationType"] == {"checked": False, "value": "f16"}
        assert "llm.load.fromTheFuture" not in fields
        base = await llm.rpc("getBasePredictionConfig", {"specifier": query(SCRIPTED)})
        assert all("value" in field for field in base["result"]["fields"])

    async def test_14_names_and_references(self, llm: RawClient) -> None:
        first = await llm.load(SCRIPTED)
        second = await llm.load(SCRIPTED)
        assert (first["identifier"], second["identifier"]) == (SCRIPTED, f"{SCRIPTED}:2")
        assert first["instanceReference"] != second["instanceReference"]
        await llm.load(SCRIPTED, identifier="mine")
        parameter = {"modelKey": SCRIPTED, "identifier": "mine", "loadConfigStack": stack({})}
        _, last = await llm.channel("loadModel", parameter)
        assert "already exists" in last["error"]["title"]
        assert last["error"].keys() == {"title", "rootTitle"}

    async def test_14_a_reference_dies_with_its_load(self, llm: RawClient) -> None:
        info = await llm.load(SCRIPTED)
        reference = {"type": "instanceReference", "instanceReference": info["instanceReference"]}
        assert (await llm.rpc("getModelInfo", {"specifier": reference, "throwIfNotFound": True}))["result"] == info
        await llm.rpc("unloadModel", {"identifier": SCRIPTED})
        await llm.load(SCRIPTED)
        stale = await llm.rpc("getModelInfo", {"specifier": reference, "throwIfNotFound": True})
        assert stale["error"]["displayData"]["code"] == "generic.specificModelUnloaded"

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({}, True),
            ({"identifier": "SCRIPTED"}, True),
            ({"identifier": "acme/scripted-GGUF"}, True),
            ({"path": "acme/scripted"}, True),
            ({"domain": "llm", "deviceIdentifier": None}, True),
            ({"vision": False}, True),
            ({"vision": True}, False),
            ({"domain": "embedding"}, False),
            ({"identifier": "nobody"}, False),
        ],
    )
    async def test_queries(self, llm: RawClient, wanted: dict[str, Any], found: bool) -> None:
        await llm.load(SCRIPTED)
        specifier = {"type": "query", "query": wanted}
        answer = await llm.rpc("getModelInfo", {"specifier": specifier, "throwIfNotFound": True})
        if found:
            assert answer["result"]["identifier"] == SCRIPTED
        else:
            data = answer["error"]["displayData"]
            assert data["code"] == "generic.noModelMatchingQuery"
            assert (data["loadedModelsSample"], data["totalLoadedModels"]) == ([SCRIPTED], 1)

    @pytest.mark.parametrize("specifier", [None, "scripted", {}, {"type": "query"}, {"type": "instanceReference"}])
    async def test_bad_specifiers(self, llm: RawClient, specifier: object) -> None:
        answer = await llm.rpc("countTokens", {"specifier": specifier, "inputString": "x"})
        assert "specifier" in answer["error"]["title"]

    async def test_unloading_wants_the_exact_name(self, llm: RawClient) -> None:
        await llm.load(SCRIPTED, identifier="mine")
        for name in (SCRIPTED, "MINE", "acme"):
            answer = await llm.rpc("unloadModel", {"identifier": name})
            assert answer["error"]["displayData"]["code"] == "generic.noModelMatchingQuery"
        assert len((await llm.rpc("listLoaded"))["result"]) == 1

    async def test_an_estimate_says_what_the_guardrail_will_do(self, llm: RawClient) -> None:
        def parameter(context_length: int) -> dict[str, Any]:
            return {"modelKey": SCRIPTED, "loadConfigStack": stack({"llm.load.contextLength": context_length})}

        small = (await llm.rpc("estimateModelUsage", parameter(512)))["result"]
        large = (await llm.rpc("estimateModelUsage", parameter(4096)))["result"]
        assert small["passesGuardrails"] is True
        assert small["memory"]["contextBytes"] < large["memory"]["contextBytes"]
        assert set(small["memory"]) == {
            "confidence",
            "modelVramBytes",
            "contextVramBytes",
            "totalVramBytes",
            "modelBytes",
            "contextBytes",
            "totalBytes",
        }

    async def test_a_model_of_the_other_kind(self, llm: RawClient) -> None:
        _, last = await llm.channel("loadModel", {"modelKey": EMBEDDING, "loadConfigStack": stack({})})
        data = last["error"]["displayData"]
        assert (data["code"], data["actualDomain"], data["expectedDomain"]) == (
            "generic.domainMismatch",
            "embedding",
            "llm",
        )


class TestPredictions:
    @pytest.fixture
    async def llm(self, warm_engine: EmbeddedEngine) -> AsyncIterator[RawClient]:
        async with connected(warm_engine.address, "llm") as client:
            yield client

    async def test_packets_of_a_prediction(self, llm: RawClient) -> None:
        messages, last = await llm.channel("predict", prediction(SCRIPTED, "2+3=", temperature=0))
        assert last == {"type": "channelClose", "channelId": last["channelId"]}
        assert messages[0]["type"] == "promptProcessingProgress"
        assert set(messages[0]["details"]) == {
            "cachedTokenCount",
            "totalPromptTokenCount",
            "processedPromptTokenCount",
            "unprocessedPromptTokenCount",
        }
        fragment = next(message["fragment"] for message in messages if message["type"] == "fragment")
        assert fragment == {
            "content": "5",
            "tokensCount": 1,
            "containsDrafted": False,
            "reasoningType": "none",
            "isStructural": False,
        }
        success = messages[-1]
        assert set(success) == {"type", "stats", "modelInfo", "loadModelConfig", "predictionConfig"}
        stats = success["stats"]
        assert stats["stopReason"] == "eosFound"
        assert all(type(stats[name]) is int for name in stats if name.endswith("Count"))
        assert stats["totalTokensCount"] == stats["promptTokensCount"] + stats["predictedTokensCount"]
        assert nulls(stats) == []
        fields = {field["key"]: field["value"] for field in success["predictionConfig"]["fields"]}
        assert fields["llm.prediction.temperature"] == 0

    async def test_10_a_cancelled_prediction_succeeds_as_stopped(self, llm: RawClient) -> None:
        channel = await llm.open("predict", prediction(SCRIPTED, "a story"))
        while (await channel.next())["message"]["type"] != "fragment":
            continue
        await channel.say("cancel")
        messages, last = await channel.rest()
        assert messages[-1]["stats"]["stopReason"] == "userStopped"
        assert last["type"] == "channelClose"

    async def test_11_a_client_that_goes_takes_its_predictions_along(
        self, warm_engine: EmbeddedEngine, llm: RawClient
    ) -> None:
        async with connected(warm_engine.address, "llm") as other:
            endless = prediction(SCRIPTED, "a story", contextOverflowPolicy="rollingWindow")
            channel = await other.open("predict", endless)
            while (await channel.next())["message"]["type"] != "fragment":
                continue
            state = {"specifier": query(SCRIPTED), "throwIfNotFound": True}
            busy = (await llm.rpc("getInstanceProcessingState", state))["result"]
            assert busy == {"status": "generating", "queued": 1}
        async with asyncio.timeout(5):
            while (await llm.rpc("getInstanceProcessingState", state))["result"]["queued"]:
                await asyncio.sleep(0.01)

    async def test_11_so_does_a_rest_client(self, warm_engine: EmbeddedEngine, llm: RawClient) -> None:
        body = {"model": TINY, "prompt": "x", "stream": True, "ignored": 1, "max_tokens": -1, "logit_bias": {"2": -100}}
        state = {"specifier": query(TINY), "throwIfNotFound": True}
        async with aiohttp.ClientSession() as session:
            async with session.post(f"http://{warm_engine.address}/v1/completions", json=body) as answer:
                await answer.content.readline()
            async with asyncio.timeout(5):
                while (await llm.rpc("getInstanceProcessingState", state))["result"]["queued"]:
                    await asyncio.sleep(0.01)

    async def test_11_a_load_is_dropped_with_its_client(self, warm_engine: EmbeddedEngine, llm: RawClient) -> None:
        before = {child.pid for child in model_processes()}
        async with connected(warm_engine.address, "llm") as other:
            await other.open("loadModel", {"modelKey": TINY, "identifier": TINY, "loadConfigStack": stack({})})
            while not (new := [child for child in model_processes() if child.pid not in before]):
                await asyncio.sleep(0)
            new[0].suspend()  # so that the load cannot finish first
        again = {"modelKey": TINY, "identifier": TINY, "loadConfigStack": stack({})}
        async with asyncio.timeout(10):
            while (await llm.channel("loadModel", again))[1]["type"] != "channelClose":
                await asyncio.sleep(0.01)  # its name is still taken
        assert not new[0].is_running()

    async def test_an_unload_ends_what_runs(self, llm: RawClient) -> None:
        await llm.load(SCRIPTED, identifier="doomed")
        channel = await llm.open("predict", prediction("doomed", "a story", contextOverflowPolicy="rollingWindow"))
        while (await channel.next())["message"]["type"] != "fragment":
            continue
        await llm.rpc("unloadModel", {"identifier": "doomed"})
        messages, last = await channel.rest()
        assert messages[-1]["stats"]["stopReason"] == "modelUnloaded"
        assert last["type"] == "channelClose"

    async def test_a_crash_is_told_and_takes_nothing_else_along(self, llm: RawClient) -> None:
        before = {child.pid for child in model_processes()}
        await llm.load(SCRIPTED, identifier="doomed")
        (child,) = [child for child in model_processes() if child.pid not in before]
        channel = await llm.open("predict", prediction("doomed", "a story", contextOverflowPolicy="rollingWindow"))
        while (await channel.next())["message"]["type"] != "fragment":
            continue
        child.kill()
        messages, last = await channel.rest()
        assert "success" not in [message["type"] for message in messages]
        assert last["type"] == "channelError"
        assert "crashed" in last["error"]["title"]
        async with asyncio.timeout(5):
            while len((await llm.rpc("listLoaded"))["result"]) != 1:
                await asyncio.sleep(0.01)
        messages, _ = await llm.channel("predict", prediction(SCRIPTED, "2+3="))
        assert messages[-1]["type"] == "success"

    async def test_12_raw_completion_both_ways(self, llm: RawClient) -> None:
        parameter = prediction(SCRIPTED, "2+3=", temperature=0)
        template = {"type": "jinja", "jinjaPromptTemplate": {"template": "{{ never rendered"}, "stopStrings": []}
        layer = stack({"llm.prediction.promptTemplate": template})["layers"][0] | {
            "layerName": "completeModeFormatting"
        }
        parameter["predictionConfigStack"]["layers"].append(layer)
        as_chat, _ = await llm.channel("predict", parameter)
        raw, _ = await llm.channel(
            "completeRawText",
            {"modelSpecifier": query(SCRIPTED), "rawPrompt": "2+3=", "predictionConfigStack": stack({})},
        )
        for messages in (as_chat, raw):
            assert "".join(each["fragment"]["content"] for each in messages if each["type"] == "fragment") == "5"
            assert messages[-1]["stats"]["promptTokensCount"] == 4

    async def test_a_raw_completion_drops_no_image_in_silence(self, llm: RawClient) -> None:
        parameter = prediction(SCRIPTED, "2+3=")
        parameter["history"]["messages"][0]["content"].append(
            {"type": "file", "identifier": "f-1", "fileType": "image"}
        )
        layer = stack({})["layers"][0] | {"layerName": "completeModeFormatting"}
        parameter["predictionConfigStack"]["layers"].append(layer)
        _, last = await llm.channel("predict", parameter)
        assert "takes text only" in last["error"]["title"]

    async def test_15_what_waits_is_counted(self, llm: RawClient) -> None:
        endless = prediction(SCRIPTED, "a story", contextOverflowPolicy="rollingWindow")
        channels = [await llm.open("predict", endless) for _ in range(3)]
        state = {"specifier": query(SCRIPTED), "throwIfNotFound": True}
        async with asyncio.timeout(5):
            while (await llm.rpc("getInstanceProcessingState", state))["result"] != {
                "status": "generating",
                "queued": 3,
            }:
                await asyncio.sleep(0)
        for channel in channels:
            await channel.say("cancel")
            assert (await channel.rest())[1]["type"] == "channelClose"
        idle = (await llm.rpc("getInstanceProcessingState", state))["result"]
        assert idle == {"status": "idle", "queued": 0}

    async def test_16_use_is_recorded_in_milliseconds(self, llm: RawClient) -> None:
        await llm.channel("predict", prediction(SCRIPTED, "2+3="))
        info = (await llm.rpc("listLoaded"))["result"][0]
        assert info["lastUsedTime"] > 1_600_000_000_000

    async def test_17_too_long_a_prompt_fails_with_the_numbers(self, llm: RawClient) -> None:
        await llm.load(SCRIPTED, {"llm.load.contextLength": 64}, identifier="small")
        long = prediction("small", "x " * 200, contextOverflowPolicy="stopAtLimit")
        messages, last = await llm.channel("predict", long)
        assert "success" not in [message["type"] for message in messages]
        data = last["error"]["errorData"]
        assert data["contextLength"] == 64
        assert data["promptTokens"] > 64
        middle = prediction("small", "x " * 200, contextOverflowPolicy="truncateMiddle", maxPredictedTokens=on(4))
        messages, _ = await llm.channel("predict", middle)
        assert messages[-1]["type"] == "success"

    async def test_17_a_full_context_stops_the_answer(self, llm: RawClient) -> None:
        await llm.load(SCRIPTED, {"llm.load.contextLength": 64}, identifier="small")
        story = prediction("small", "a story", contextOverflowPolicy="stopAtLimit")
        messages, _ = await llm.channel("predict", story)
        stats = messages[-1]["stats"]
        assert stats["stopReason"] == "contextLengthReached"
        assert stats["totalTokensCount"] == 64

    async def test_18_limits_and_stop_strings(self, llm: RawClient) -> None:
        one = prediction(SCRIPTED, "a story", maxPredictedTokens=on(1))
        messages, _ = await llm.channel("predict", one)
        assert messages[-1]["stats"]["stopReason"] == "maxPredictedTokensReached"
        assert messages[-1]["stats"]["predictedTokensCount"] == 1
        assert nulls(messages[-1]["stats"]) == []
        stop = prediction(SCRIPTED, "a story", stopStrings=["river"])
        messages, _ = await llm.channel("predict", stop)
        assert messages[-1]["stats"]["stopReason"] == "stopStringFound"
        assert messages[-1]["stats"]["stopString"] == "river"

    async def test_reasoning_is_told_apart(self, llm: RawClient) -> None:
        messages, _ = await llm.channel("predict", prediction(SCRIPTED, "think"))
        fragments = [message["fragment"] for message in messages if message["type"] == "fragment"]
        by_type: dict[str, str] = {}
        for fragment in fragments:
            by_type[fragment["reasoningType"]] = by_type.get(fragment["reasoningType"], "") + fragment["content"]
        assert by_type["reasoningStartTag"].strip() == "<think>"
        assert "Two plus three" in by_type["reasoning"]
        assert by_type["none"].strip() == "The answer: five."
        assert all(
            fragment["isStructural"] == fragment["reasoningType"].endswith("Tag")
            for fragment in fragments
            if fragment["content"].strip()
        )

    async def test_tool_calls_keep_the_clients_names(self, llm: RawClient) -> None:
        tool = {
            "type": "function",
            "function": {
                "name": "get weather",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            },
        }
        parameter = prediction(
            SCRIPTED, "weather", tools={"type": "toolArray", "tools": [tool]}, toolNaming="removeSpecial"
        )
        messages, _ = await llm.channel("predict", parameter)
        types = [message["type"] for message in messages]
        assert types.index("toolCallGenerationStart") < types.index("toolCallGenerationEnd")
        names = [each["name"] for each in messages if each["type"] == "toolCallGenerationNameReceived"]
        assert names == ["get weather"]
        call = next(each for each in messages if each["type"] == "toolCallGenerationEnd")["toolCallRequest"]
        assert (call["name"], call["arguments"]) == ("get weather", {"city": "Paris"})
        assert messages[-1]["stats"]["stopReason"] == "toolCalls"

    async def test_log_probabilities_come_when_asked_for(self, llm: RawClient) -> None:
        messages, _ = await llm.channel("predict", prediction(SCRIPTED, "2+3=", logProbs=on(2)))
        fragment = next(message["fragment"] for message in messages if message["type"] == "fragment")
        token = fragment["tokens"][0]
        assert token["text"] == "5"
        assert type(token["id"]) is int
        assert {"text", "id", "logProb"} <= token["candidates"][0].keys()

    async def test_tokens_and_templates(self, llm: RawClient) -> None:
        specifier = {"specifier": query(SCRIPTED), "inputString": "2+3= and so on"}
        tokens = (await llm.rpc("tokenize", specifier))["result"]["tokens"]
        assert (await llm.rpc("countTokens", specifier))["result"] == {"tokenCount": len(tokens)}
        parameter = {"specifier": query(SCRIPTED), "history": chat("2+3="), "predictionConfigStack": {"layers": []}}
        options = {"opts": {"omitBosToken": True}}  # this model's prompts have none
        formatted = (await llm.rpc("applyPromptTemplate", {**parameter, **options}))["result"]["formatted"]
        assert "2+3=" in formatted
        counted = await llm.rpc("countTokens", {"specifier": query(SCRIPTED), "inputString": formatted})
        messages, _ = await llm.channel("predict", prediction(SCRIPTED, "2+3="))
        assert counted["result"]["tokenCount"] == messages[-1]["stats"]["promptTokensCount"]

    async def test_a_missing_model_an_unknown_preset_and_a_bad_history(self, llm: RawClient) -> None:
        cases = [
            (prediction("nobody", "x"), "generic.noModelMatchingQuery"),
            ({**prediction(SCRIPTED, "x"), "fuzzyPresetIdentifier": "nice"}, "generic.presetNotFound"),
        ]
        for parameter, code in cases:
            _, last = await llm.channel("predict", parameter)
            assert last["error"]["displayData"]["code"] == code
        for history in (None, {}, {"messages": [{"role": "robot", "content": []}]}, {"messages": [{"role": "user"}]}):
            _, last = await llm.channel("predict", {**prediction(SCRIPTED, "x"), "history": history})
            assert last["type"] == "channelError"


def on(value: Any) -> dict[str, Any]:
    return {"checked": True, "value": value}


class TestOtherNamespaces:
    async def test_embeddings(self, engine: EmbeddedEngine) -> None:
        async with connected(engine.address, "embedding") as client:
            await client.load(EMBEDDING, {"embedding.load.contextLength": 128})
            specifier = query(EMBEDDING)
            answer = await client.rpc("embedString", {"modelSpecifier": specifier, "inputString": "hello"})
            vector = answer["result"]["embedding"]
            assert all(isinstance(value, float) for value in vector)
            count = await client.rpc("countTokens", {"specifier": specifier, "inputString": "hello"})
            assert count["result"]["tokenCount"] > 0
            config = (await client.rpc("getLoadConfig", {"specifier": specifier}))["result"]
            assert {"key": "embedding.load.contextLength", "value": 128} in config["fields"]

    async def test_system(self, system: RawClient) -> None:
        version = (await system.rpc("version"))["result"]
        assert version == {"version": __version__, "build": 0}
        info = (await system.rpc("info"))["result"]
        assert (info["isDaemon"], info["version"]) == (False, __version__)
        await system.rpc("setExperimentFlag", {"code": "beta", "value": True})
        assert (await system.rpc("getExperimentFlags"))["result"] == ["beta"]
        await system.rpc("setExperimentFlag", {"code": "beta", "value": False})
        assert (await system.rpc("getExperimentFlags"))["result"] == []
        variants = (await system.rpc("listDownloadedModelVariants", {"modelKey": SCRIPTED}))["result"]
        assert [model["modelKey"] for model in variants] == [SCRIPTED]
        assert (await system.rpc("requestShutdown"))["type"] == "rpcError"
        alive = await system.open("alive")
        assert alive.packets.empty()

    async def test_a_further_port_opens_and_closes(self, engine: EmbeddedEngine, system: RawClient) -> None:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        assert "result" not in await system.rpc("startHttpServer", {"port": port, "cors": True})
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"http://127.0.0.1:{port}/v1/models", headers={"Origin": "http://page.example"})
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        await system.rpc("stopHttpServer")
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(f"http://127.0.0.1:{port}/v1/models")
            assert (await session.get(f"http://{engine.address}/v1/models")).status == 200
        assert (await system.rpc("startHttpServer", {"port": 0}))["type"] == "rpcError"
        assert (await system.rpc("startHttpServer", {"networkInterface": "0.0.0.0", "port": port}))[
            "type"
        ] == "rpcError"

    async def test_19_files_are_kept_apart_by_client(self, engine: EmbeddedEngine) -> None:
        other = {"authVersion": 1, "clientIdentifier": "guest:test", "clientPasskey": "another secret"}
        async with connected(engine.address, "files") as mine, connected(engine.address, "files", other) as theirs:
            content = base64.b64encode(b"some text").decode()
            stored = (await mine.rpc("uploadFileBase64", {"name": "a.txt", "contentBase64": content}))["result"]
            assert (stored["fileType"], stored["sizeBytes"]) == ("text/plain", 9)
            parameter = {"fileIdentifier": stored["identifier"], "parseOpts": {}}
            messages, last = await mine.channel("parseDocument", parameter)
            assert [message["type"] for message in messages] == ["parserLoaded", "progress", "result"]
            assert messages[-1]["content"] == "some text"
            assert last["type"] == "channelClose"
            assert (await theirs.channel("parseDocument", parameter))[1]["type"] == "channelError"
            assert (await mine.rpc("uploadFileBase64", {"name": "a", "contentBase64": "!"}))["type"] == "rpcError"
        async with connected(engine.address, "files") as returned:
            assert (await returned.channel("parseDocument", parameter))[1]["type"] == "channelError"

    async def test_19_large_messages_pass(self, engine: EmbeddedEngine) -> None:
        content = base64.b64encode(bytes(5 * 2**20)).decode()
        async with connected(engine.address, "files") as client:
            stored = await client.rpc("uploadFileBase64", {"name": "a.bin", "contentBase64": content})
            assert stored["result"]["sizeBytes"] == 5 * 2**20

    async def test_logs_stream_until_stopped(self, engine: EmbeddedEngine, llm: RawClient) -> None:
        async with connected(engine.address, "diagnostics") as client:
            channel = await client.open("streamLogs")
            await client.rpc("wait until the channel is open")
            await llm.load(SCRIPTED)
            await llm.channel("predict", prediction(SCRIPTED, "2+3="))
            seen: dict[str, dict[str, Any]] = {}
            # What the model's process writes comes when it comes, also after the answer.
            while not {"llm.prediction.output", "runtime.log"} <= seen.keys():
                log = (await channel.next())["message"]["log"]
                assert log["timestamp"] > 1_600_000_000_000
                seen.setdefault(log["data"]["type"], log["data"])
            await channel.say("stop")
            assert (await channel.rest())[1]["type"] == "channelClose"
        assert "2+3=" in seen["llm.prediction.input"]["input"]
        assert seen["llm.prediction.input"]["modelPath"].endswith(".gguf")
        assert seen["llm.prediction.output"]["output"] == "5"
        assert seen["llm.prediction.output"]["stats"]["stopReason"] == "eosFound"
        assert seen["runtime.log"]["engineName"] == "llama.cpp"
        assert nulls(list(seen.values())) == []

    async def test_the_runtime_shows_its_engine(self, engine: EmbeddedEngine) -> None:
        async with connected(engine.address, "runtime") as client:
            (found,) = (await client.rpc("listEngines"))["result"]
            assert (found["engine"], found["supportedModelFormatNames"]) == ("llama.cpp", ["GGUF"])
            selections = (await client.rpc("getEngineSelections"))["result"]
            assert selections["meta"] == {"values": ["map"]}
            assert selections["json"][0][0] == "GGUF"
            survey = (await client.rpc("surveyHardware"))["result"]
            (surveyed,) = survey["engines"]
            assert (surveyed["name"], surveyed["version"]) == (found["name"], found["version"])
            assert surveyed["memoryInfo"]["totalMemory"] >= surveyed["memoryInfo"]["ramCapacity"] > 0
            assert nulls(survey) == []
