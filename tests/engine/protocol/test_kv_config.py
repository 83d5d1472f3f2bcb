"""Layered settings: every key LM Studio's clients send is honoured, refused by name, or logged as unknown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.protocol.kv_config import collapse
from lmstrix.engine.protocol.load_config import LOAD_KEYS, load_config, load_request
from lmstrix.engine.protocol.prediction_config import PREDICTION_KEYS, prediction_config, prediction_request
from lmstrix.engine.records import LoadSettings, PredictionSettings


def stack(fields: dict[str, Any], layer: str = "apiOverride", *more: dict[str, Any]) -> dict[str, Any]:
    config = {"fields": [{"key": key, "value": value} for key, value in fields.items()]}
    return {"layers": [{"layerName": layer, "config": config}, *more]}


def load(**fields: Any) -> LoadSettings:
    return load_request(stack({f"llm.load.{key.replace('__', '.')}": value for key, value in fields.items()})).settings


def predict(**fields: Any) -> PredictionSettings:
    named = {f"llm.prediction.{key.replace('__', '.')}": value for key, value in fields.items()}
    return prediction_request(stack(named)).settings


def on(value: Any) -> dict[str, Any]:
    return {"checked": True, "value": value}


def off(value: Any = 0) -> dict[str, Any]:
    return {"checked": False, "value": value}


class TestLayers:
    def test_the_last_assignment_wins(self) -> None:
        later = stack({"a": 2}, "instance")["layers"][0]
        assert collapse(stack({"a": 1, "b": 1}, "hardware", later)) == {"a": 2, "b": 1}

    @pytest.mark.parametrize("empty", [None, {"layers": []}, stack({})])
    def test_nothing_asked(self, empty: object) -> None:
        assert load_request(empty).settings == LoadSettings()
        assert prediction_request(empty).settings == PredictionSettings()

    def test_a_missing_value_is_a_missing_key(self) -> None:
        missing = {"layers": [{"layerName": "apiOverride", "config": {"fields": [{"key": "llm.load.contextLength"}]}}]}
        assert load_request(missing).settings.context_length is None

    @pytest.mark.parametrize("bad", [3, [], {}, {"layers": 1}, {"layers": [{}]}, {"layers": [{"layerName": "x"}]}])
    def test_not_a_stack(self, bad: object) -> None:
        with pytest.raises(EngineFault, match="config stack"):
            collapse(bad)

    def test_unknown_keys_are_ignored_and_named(self) -> None:
        request = load_request(stack({"llm.load.fromTheFuture": 1, "llm.load.contextLength": 64}))
        assert request.ignored_keys == ("llm.load.fromTheFuture",)
        assert request.settings.context_length == 64
        assert prediction_request(stack({"llm.prediction.new": 1})).ignored_keys == ("llm.prediction.new",)


class TestLoad:
    @pytest.mark.parametrize(
        ("key", "value", "field", "expected"),
        [
            ("llm.load.contextLength", 8192, "context_length", 8192),
            ("llm.load.contextLength", 4096.0, "context_length", 4096),
            ("embedding.load.contextLength", 512, "context_length", 512),
            ("llm.load.llama.acceleration.offloadRatio", "max", "offload_ratio", 1.0),
            ("llm.load.llama.acceleration.offloadRatio", "off", "offload_ratio", 0.0),
            ("embedding.load.llama.acceleration.offloadRatio", 0.5, "offload_ratio", 0.5),
            ("llm.load.offloadKVCacheToGpu", False, "offload_kv_cache", False),
            ("llm.load.llama.flashAttention", True, "flash_attention", True),
            ("llm.load.llama.kCacheQuantizationType", on("q8_0"), "k_cache_type", "q8_0"),
            ("llm.load.llama.vCacheQuantizationType", on("iq4_nl"), "v_cache_type", "iq4_nl"),
            ("llm.load.llama.vCacheQuantizationType", on(False), "v_cache_type", None),
            ("llm.load.llama.vCacheQuantizationType", off("q8_0"), "v_cache_type", None),
            ("llm.load.llama.useFp16ForKVCache", False, "k_cache_type", "f32"),
            ("llm.load.llama.useFp16ForKVCache", True, "k_cache_type", None),
            ("llm.load.llama.tryMmap", False, "mmap", False),
            ("embedding.load.llama.keepModelInMemory", True, "keep_in_memory", True),
            ("llm.load.llama.evalBatchSize", 256, "eval_batch_size", 256),
            ("llm.load.llama.evalBatchSize", 256, "physical_batch_size", 256),
            ("llm.load.llama.physicalBatchSize", 64, "physical_batch_size", 64),
            ("llm.load.llama.cpuThreadPoolSize", 3, "threads", 3),
            ("llm.load.llama.contextCheckpoints", 0, "context_checkpoints", 0),
            ("llm.load.llama.ropeFrequencyBase", on(10000), "rope_frequency_base", 10000),
            ("llm.load.llama.ropeFrequencyScale", on(False), "rope_frequency_scale", None),
            ("llm.load.seed", on(5), "seed", 5),
            ("llm.load.seed", on(-1), "seed", None),
            ("llm.load.numParallelSessions", 4, "parallel_slots", 4),
            ("llm.load.useUnifiedKvCache", False, "unified_kv", False),
            (
                "llm.load.promptTemplate",
                {"type": "jinja", "jinjaPromptTemplate": {"template": "{{ 1 }}"}},
                "chat_template",
                "{{ 1 }}",
            ),
        ],
    )
    def test_honoured(self, key: str, value: object, field: str, expected: object) -> None:
        request = load_request(stack({key: value}))
        assert getattr(request.settings, field) == expected
        assert request.ignored_keys == ()

    def test_an_explicit_cache_type_beats_the_coarse_switch(self) -> None:
        fields = {
            "llm.load.llama.kCacheQuantizationType": on("q4_0"),
            "llm.load.llama.useFp16ForKVCache": False,
        }
        settings = load_request(stack(fields)).settings
        assert (settings.k_cache_type, settings.v_cache_type) == ("q4_0", "f32")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("llm.load.llama.autoFit", False),
            ("llm.load.mlx.autoFit", True),
            ("llm.load.yuzu.autoFit", False),
            ("llm.load.numExperts", 0),
            ("llm.load.numCpuExpertLayersRatio", "off"),
            ("load.gpuStrictVramCap", False),
            ("load.gpuSplitConfig", {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []}),
            ("llm.load.llama.argumentsOverride", {"enabled": False}),
            ("llm.load.llama.speculativeDecoding.draftModel", ""),
            ("llm.load.llama.speculativeDecoding.draftMaxTokens", 3),
            ("llm.load.llama.tryDirectIO", False),
        ],
    )
    def test_asks_for_nothing(self, key: str, value: object) -> None:
        request = load_request(stack({key: value}))
        assert request.settings == LoadSettings()
        assert request.ignored_keys == ()

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("llm.load.llama.autoFit", True),
            ("llm.load.numExperts", 2),
            ("llm.load.numCpuExpertLayersRatio", 0.5),
            ("load.gpuStrictVramCap", True),
            ("load.gpuSplitConfig", {"strategy": "priorityOrder", "priority": [1]}),
            ("load.gpuSplitConfig", {"strategy": "evenly", "disabledGpus": [0]}),
            ("llm.load.llama.argumentsOverride", {"enabled": True}),
            ("llm.load.llama.speculativeDecoding.draftModel", "acme/draft"),
            ("llm.load.llama.speculativeDecoding.draftMtp", True),
            ("llm.load.llama.tryDirectIO", True),
            ("llm.load.llama.reasoningBudgetMessage", "hurry"),
            ("envVars", {"HSA_OVERRIDE_GFX_VERSION": "10"}),
        ],
    )
    def test_refused_by_name(self, key: str, value: object) -> None:
        with pytest.raises(EngineFault) as caught:
            load_request(stack({key: value}))
        assert caught.value.kind == "unsupported"
        assert key in caught.value.title

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("llm.load.contextLength", 0),
            ("llm.load.contextLength", -5),
            ("llm.load.contextLength", 1.5),
            ("llm.load.contextLength", "8k"),
            ("llm.load.contextLength", True),
            ("llm.load.contextLength", float("nan")),
            ("llm.load.llama.flashAttention", 1),
            ("llm.load.llama.kCacheQuantizationType", "q8_0"),
            ("llm.load.llama.kCacheQuantizationType", on("q3_k")),
            ("llm.load.llama.acceleration.offloadRatio", 1.5),
            ("llm.load.llama.acceleration.offloadRatio", "most"),
            ("llm.load.numParallelSessions", 0),
            ("llm.load.promptTemplate", {"type": "manual"}),
            ("llm.load.seed", 7),
        ],
    )
    def test_bad_values(self, key: str, value: object) -> None:
        with pytest.raises(EngineFault) as caught:
            load_request(stack({key: value}))
        assert caught.value.kind == "invalid"
        assert key in caught.value.title

    def test_every_documented_key_has_an_outcome(self) -> None:
        assert len(LOAD_KEYS) > 45
        for key in LOAD_KEYS:
            try:
                ignored = load_request(stack({key: object()})).ignored_keys
            except EngineFault as fault:
                assert key.removeprefix("embedding.load.") in fault.title  # noqa: PT017 - either outcome is fine
            else:
                assert ignored == ()

    @given(
        st.builds(
            LoadSettings,
            context_length=st.integers(2, 2**20),
            k_cache_type=st.sampled_from([None, "f16", "f32", "q8_0", "q4_0"]),
            v_cache_type=st.sampled_from([None, "f16", "f32", "q8_0", "q4_0"]),
            flash_attention=st.booleans(),
            offload_ratio=st.floats(0, 1),
            parallel_slots=st.integers(1, 16),
            unified_kv=st.booleans(),
            threads=st.none() | st.integers(1, 64),
            mmap=st.booleans(),
            keep_in_memory=st.booleans(),
            rope_frequency_base=st.none() | st.floats(1, 1e6),
            seed=st.none() | st.integers(0, 2**31),
        )
    )
    def test_what_is_reported_can_be_sent_back(self, settings: LoadSettings) -> None:
        assert settings.context_length is not None
        reported = load_config(settings, "llm")
        again = load_request({"layers": [{"layerName": "apiOverride", "config": reported}]})
        assert again.ignored_keys == ()
        assert again.settings == settings

    def test_the_report_names_the_effective_context_and_no_fitting(self) -> None:
        fields = {
            field["key"]: field["value"] for field in load_config(LoadSettings(context_length=777), "llm")["fields"]
        }
        assert fields["llm.load.contextLength"] == 777
        assert fields["llm.load.llama.autoFit"] is False
        assert fields["llm.load.numParallelSessions"] == 1
        assert fields["llm.load.llama.kCacheQuantizationType"] == off("f16")
        embedding = load_config(LoadSettings(context_length=512), "embedding")["fields"]
        assert all(field["key"].startswith("embedding.load.") for field in embedding)


class TestPrediction:
    @pytest.mark.parametrize(
        ("key", "value", "field", "expected"),
        [
            ("temperature", 0.3, "temperature", 0.3),
            ("topKSampling", 20, "top_k", 20),
            ("topPSampling", on(0.9), "top_p", 0.9),
            ("topPSampling", on(False), "top_p", 1.0),
            ("topPSampling", off(0.95), "top_p", 1.0),
            ("minPSampling", off(0.05), "min_p", 0.0),
            ("repeatPenalty", on(False), "repeat_penalty", 1.0),
            ("maxPredictedTokens", on(12), "max_tokens", 12),
            ("maxPredictedTokens", on(-1), "max_tokens", None),
            ("maxPredictedTokens", on(False), "max_tokens", None),
            ("maxPredictedTokens", off(1000), "max_tokens", None),
            ("stopStrings", ["a", ""], "stop", ("a",)),
            ("structured", {"type": "none"}, "json_schema", None),
            ("structured", {"type": "json", "jsonSchema": {"type": "object"}}, "json_schema", {"type": "object"}),
            ("structured", {"type": "json"}, "json_any", True),
            ("structured", {"type": "gbnf", "gbnfGrammar": 'root ::= "a"'}, "gbnf_grammar", 'root ::= "a"'),
            ("contextOverflowPolicy", "stopAtLimit", "overflow_policy", "stopAtLimit"),
            ("toolChoice", {"type": "generic", "mode": "required"}, "tool_choice", "required"),
            ("seed", on(3), "seed", 3),
            ("logProbs", on(2), "log_probs", 2),
            ("logProbs", off(), "log_probs", None),
            ("reasoning.enableThinking", False, "enable_thinking", False),
            ("reasoning.budgetTokens", on(0), "reasoning_budget_tokens", 0),
            ("reasoning.parsing", {"enabled": False, "startString": "", "endString": ""}, "reasoning_start", None),
            (
                "reasoning.parsing",
                {"enabled": True, "startString": "<r>", "endString": "</r>"},
                "reasoning_end",
                "</r>",
            ),
            ("llama.presencePenalty", on(0.5), "presence_penalty", 0.5),
            ("llama.frequencyPenalty", off(), "frequency_penalty", 0.0),
            ("llama.xtcProbability", on(0.1), "xtc_probability", 0.1),
            ("llama.xtcThreshold", on(0.2), "xtc_threshold", 0.2),
            ("llama.locallyTypicalSampling", on(0.7), "typical_p", 0.7),
            ("llama.mirostatSampling", {"version": 2, "learningRate": 0.1, "targetEntropy": 5}, "mirostat", 2),
            ("llama.logitBias", [[5, -1.5], [6, "-inf"]], "logit_bias", ((5, -1.5), (6, float("-inf")))),
        ],
    )
    def test_honoured(self, key: str, value: object, field: str, expected: object) -> None:
        request = prediction_request(stack({f"llm.prediction.{key}": value}))
        assert getattr(request.settings, field) == expected
        assert request.ignored_keys == ()

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("toolCallStopStrings", ["x"]),
            ("llama.cpuThreads", 4),
            ("llama.tailFreeSampling", on(0.5)),
            ("speculativeDecoding.draftModel", "acme/draft"),
            ("contextPrefill", [{}]),
            ("vision.userMaxImageDimensionPixels", on(512)),
            ("vision.ignoreModelPreferredMaxImageDimension", True),
        ],
    )
    def test_refused_by_name(self, key: str, value: object) -> None:
        with pytest.raises(EngineFault) as caught:
            prediction_request(stack({f"llm.prediction.{key}": value}))
        assert caught.value.kind == "unsupported"
        assert key in caught.value.title

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("temperature", "hot"),
            ("topPSampling", 0.9),
            ("maxPredictedTokens", on(-7)),
            ("stopStrings", "x"),
            ("structured", {"type": "yaml"}),
            ("structured", {"type": "gbnf"}),
            ("contextOverflowPolicy", "shrink"),
            ("tools", {"type": "toolArray", "tools": [{"type": "function"}]}),
            ("toolChoice", {"mode": "always"}),
            ("toolNaming", "kebab"),
            ("promptTemplate", {"type": "handlebars"}),
            ("reasoning.parsing", {"enabled": True, "startString": "", "endString": ""}),
            ("llama.mirostatSampling", {"version": 3}),
            ("llama.logitBias", [[1]]),
        ],
    )
    def test_bad_values(self, key: str, value: object) -> None:
        with pytest.raises(EngineFault) as caught:
            prediction_request(stack({f"llm.prediction.{key}": value}))
        assert caught.value.kind == "invalid"
        assert key in caught.value.title

    def test_every_documented_key_has_an_outcome(self) -> None:
        assert len(PREDICTION_KEYS) > 35
        for key in PREDICTION_KEYS:
            try:
                ignored = prediction_request(stack({key: object()})).ignored_keys
            except EngineFault as fault:
                assert key in fault.title  # noqa: PT017 - either outcome is fine
            else:
                assert ignored == ()

    def test_the_layer_for_raw_completion(self) -> None:
        template = {"type": "jinja", "jinjaPromptTemplate": {"template": "{{ x }}"}, "stopStrings": []}
        layer = stack({"llm.prediction.promptTemplate": template}, "completeModeFormatting")["layers"][0]
        request = prediction_request(stack({"llm.prediction.temperature": 0}, "apiOverride", layer))
        assert request.raw
        assert request.settings.prompt_template is None
        assert request.settings.temperature == 0

    def test_a_template_brings_its_stop_strings(self) -> None:
        template = {"type": "jinja", "jinjaPromptTemplate": {"template": "T"}, "stopStrings": ["<end>"]}
        settings = predict(promptTemplate=template, stopStrings=["a"])
        assert settings.prompt_template == "T"
        assert settings.stop == ("a", "<end>")

    def test_a_manual_template_becomes_jinja_that_renders_the_same(self) -> None:
        import minijinja

        parts = {
            "beforeSystem": "S'\\: ",
            "afterSystem": "\n",
            "beforeUser": "{{U}}: ",
            "afterUser": "\n",
            "beforeAssistant": "A: ",
            "afterAssistant": "\n",
        }
        settings = predict(promptTemplate={"type": "manual", "manualPromptTemplate": parts, "stopStrings": []})
        assert settings.prompt_template is not None
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        rendered = minijinja.Environment().render_str(
            settings.prompt_template, messages=messages, add_generation_prompt=True
        )
        assert rendered == "S'\\: s\n{{U}}: u\nA: "

    @pytest.mark.parametrize(
        ("naming", "shown"),
        [
            ("passThrough", "get Weather-now"),
            ("removeSpecial", "get_Weather_now"),
            ("snakeCase", "get_weather_now"),
            ("camelCase", "getWeatherNow"),
        ],
    )
    def test_tool_names_lead_back(self, naming: str, shown: str) -> None:
        tool = {"type": "function", "function": {"name": "get Weather-now", "parameters": {"type": "object"}}}
        fields = {
            "llm.prediction.tools": {"type": "toolArray", "tools": [tool]},
            "llm.prediction.toolNaming": naming,
        }
        request = prediction_request(stack(fields))
        assert [tool["function"]["name"] for tool in request.settings.tools] == [shown]
        assert request.tool_names == {shown: "get Weather-now"}
        reported = {field["key"]: field["value"] for field in prediction_config(request)["fields"]}
        assert reported["llm.prediction.tools"]["tools"] == [tool]

    def test_what_is_reported_can_be_sent_back(self) -> None:
        fields = {
            "temperature": 0.5,
            "topKSampling": 10,
            "topPSampling": on(False),
            "minPSampling": on(0.1),
            "maxPredictedTokens": on(7),
            "stopStrings": ["x"],
            "structured": {"type": "json", "jsonSchema": {"type": "object"}},
            "contextOverflowPolicy": "rollingWindow",
            "seed": on(1),
            "reasoning.parsing": {"enabled": False, "startString": "", "endString": ""},
        }
        request = prediction_request(stack({f"llm.prediction.{key}": value for key, value in fields.items()}))
        reported = prediction_config(request)
        again = prediction_request({"layers": [{"layerName": "apiOverride", "config": reported}]})
        assert again.settings == request.settings
        by_key = {field["key"]: field["value"] for field in reported["fields"]}
        assert by_key["llm.prediction.topPSampling"] == off(1.0)
