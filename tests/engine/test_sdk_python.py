"""LM Studio's own Python SDK, unmodified, against the engine: sync, async, and the convenience functions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import lmstudio
import pytest
from lmstudio import LLM, AsyncClient, Chat, Client, LlmLoadModelConfig
from lmstudio.history import FileHandle

from tests.engine.conftest import EMBEDDING, SCRIPTED, TINY
from tests.engine.word_files import docx, paragraph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstudio import LlmLoadModelConfigDict

    from lmstrix.engine import EmbeddedEngine


@pytest.fixture
def client(engine: EmbeddedEngine) -> Iterator[Client]:
    with Client(engine.address) as client:
        yield client


@pytest.fixture
def model(warm_engine: EmbeddedEngine) -> Iterator[LLM]:
    """The scripted model, loaded before."""
    with Client(warm_engine.address) as client:
        yield client.llm.model(SCRIPTED)


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


class TestModels:
    def test_the_server_is_recognized(self, engine: EmbeddedEngine) -> None:
        assert Client.is_valid_api_host(engine.address)

    def test_downloaded(self, client: Client) -> None:
        models = {model.model_key: model for model in client.list_downloaded_models()}
        assert set(models) == {SCRIPTED, TINY, EMBEDDING}
        assert [model.model_key for model in client.list_downloaded_models("embedding")] == [EMBEDDING]
        info = models[TINY].info
        assert (info.max_context_length, info.format, info.architecture) == (2048, "gguf", "llama")

    def test_load_with_a_config_and_unload(self, client: Client) -> None:
        seen: list[float] = []
        config: LlmLoadModelConfigDict = {
            "contextLength": 640,
            "gpu": {"ratio": 0.5},
            "flashAttention": True,
            "llamaKCacheQuantizationType": "q8_0",
            "llamaVCacheQuantizationType": False,
            "evalBatchSize": 64,
            "seed": 5,
        }
        model = client.llm.load_new_instance(SCRIPTED, "mine", ttl=60, config=config, on_load_progress=seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == 1.0
        assert model.get_context_length() == 640
        loaded = model.get_load_config()
        assert isinstance(loaded, LlmLoadModelConfig)
        assert (loaded.context_length, loaded.flash_attention, loaded.eval_batch_size) == (640, True, 64)
        assert loaded.llama_k_cache_quantization_type == "q8_0"
        assert [each.identifier for each in client.list_loaded_models()] == ["mine"]
        assert model.get_info().identifier == "mine"
        model.unload()
        assert client.list_loaded_models() == []

    def test_a_downloaded_model_loads_itself(self, client: Client) -> None:
        downloaded = next(model for model in client.list_downloaded_models("llm") if model.model_key == SCRIPTED)
        assert downloaded.model().identifier == SCRIPTED
        assert downloaded.load_new_instance().identifier == f"{SCRIPTED}:2"

    def test_tokens_and_templates(self, client: Client) -> None:
        model = client.llm.model(SCRIPTED)
        tokens = model.tokenize("hello world")
        assert len(tokens) == model.count_tokens("hello world")
        assert "hello" in model.apply_prompt_template("hello")

    def test_a_template_with_files_nobody_uploaded_shows_the_rest(self, client: Client) -> None:
        chat = Chat("Be brief.")
        chat.add_user_message("hello")
        chat.add_user_message(
            FileHandle(name="some.txt", identifier="some-file", size_bytes=100, file_type="text/plain")
        )
        model = client.llm.model(SCRIPTED)
        assert "hello" in model.apply_prompt_template(chat)
        with pytest.raises(lmstudio.LMStudioServerError, match="some-file"):
            model.respond(chat)

    def test_a_template_with_an_uploaded_document_shows_its_text(self, client: Client) -> None:
        handle = client._prepare_file(docx(paragraph("hello from Word")), "a.docx")
        chat = Chat()
        chat.add_user_message(handle)
        assert "hello from Word" in client.llm.model(SCRIPTED).apply_prompt_template(chat)

    def test_embedding_tokens_include_the_markers_that_a_count_leaves_out(self, client: Client) -> None:
        model = client.embedding.model(EMBEDDING, config={"contextLength": 128})
        tokens = model.tokenize("hello")
        assert len(tokens) == model.count_tokens("hello") + 2
        assert tokens[0] != tokens[-1]
        several = model.tokenize(["hello", "world"])
        assert several[0] == tokens
        assert isinstance(several[1], list)
        assert (several[1][0], several[1][-1]) == (tokens[0], tokens[-1])

    def test_embeddings(self, client: Client) -> None:
        model = client.embedding.model(EMBEDDING, config={"contextLength": 128})
        one, other = model.embed(["hello", "world"])
        assert isinstance(one, list)
        assert isinstance(other, list)
        assert len(one) == len(other)
        assert one == model.embed("hello")
        assert model.get_context_length() == 128
        assert model.count_tokens("hello") > 0


class TestPredictions:
    def test_respond(self, model: LLM) -> None:
        result = model.respond("2+3=", config={"temperature": 0, "topPSampling": False})
        assert result.content == "5"
        assert result.stats.stop_reason == "eosFound"
        assert result.model_info.model_key == SCRIPTED
        assert result.load_config.context_length == 4096
        assert result.prediction_config.temperature == 0

    def test_a_chat_with_a_history(self, model: LLM) -> None:
        chat = Chat("Be brief.")
        chat.add_user_message("2+3=")
        chat.add_assistant_response("5")
        chat.add_user_message("2+3=")
        assert model.respond(chat).content == "5"

    def test_stream(self, model: LLM) -> None:
        progress: list[float] = []
        stream = model.respond_stream(
            "a story", config={"maxTokens": 12}, on_prompt_processing_progress=progress.append
        )
        pieces = list(stream)
        assert "".join(piece.content for piece in pieces) == stream.result().content
        assert sum(piece.tokens_count for piece in pieces) == 12
        assert stream.result().stats.stop_reason == "maxPredictedTokensReached"
        assert progress[-1] == 1.0

    def test_complete(self, model: LLM) -> None:
        result = model.complete("2+3=")
        assert result.content == "5"
        assert result.stats.prompt_tokens_count == 4

    def test_cancel(self, model: LLM) -> None:
        stream = model.respond_stream("a story", config={"contextOverflowPolicy": "rollingWindow"})
        for _ in stream:
            stream.cancel()
        assert stream.result().stats.stop_reason == "userStopped"

    def test_act(self, model: LLM) -> None:
        messages: list[object] = []
        result = model.act("weather?", [get_weather], on_message=messages.append)
        assert result.rounds == 2
        assert "21 degrees in Paris" in str(messages[1])
        assert "It is 21 degrees in Paris today." in str(messages[2])

    def test_structured_output(self, model: LLM) -> None:
        result = model.respond("hello", response_format={"type": "string", "enum": ["red"]})
        assert result.content == '"red"'


class TestErrors:
    def test_unknown_names(self, client: Client) -> None:
        with pytest.raises(lmstudio.LMStudioModelNotFoundError, match="nobody"):
            client.llm.unload("nobody")
        with pytest.raises(lmstudio.LMStudioServerError, match="Model load error"):
            client.llm.load_new_instance("nobody")
        with pytest.raises(lmstudio.LMStudioServerError, match="Model get/load error"):
            client.llm.model("nobody")

    def test_a_taken_identifier(self, client: Client) -> None:
        client.llm.load_new_instance(SCRIPTED, "mine")
        with pytest.raises(lmstudio.LMStudioServerError, match=r"Model load error.*already exists"):
            client.llm.load_new_instance(SCRIPTED, "mine")

    def test_too_long_a_prompt(self, client: Client) -> None:
        model = client.llm.load_new_instance(SCRIPTED, config={"contextLength": 64})
        with pytest.raises(lmstudio.LMStudioServerError, match="context length of only 64 tokens"):
            model.respond("x " * 200, config={"contextOverflowPolicy": "stopAtLimit"})

    def test_a_model_unloaded_meanwhile(self, client: Client) -> None:
        model = client.llm.model(SCRIPTED)
        model.unload()
        with pytest.raises(lmstudio.LMStudioModelNotFoundError):
            model.respond("2+3=")

    def test_what_the_engine_does_not_do(self, client: Client) -> None:
        with pytest.raises(lmstudio.LMStudioServerError, match="no model hub"):
            client.repository.search_models("llama")

    def test_an_unknown_call_fails_at_once(self, client: Client) -> None:
        with pytest.raises(lmstudio.LMStudioServerError, match="Unknown endpoint: future"):
            client.llm.remote_call("future", None)


class TestAsync:
    async def test_the_same_asynchronously(self, engine: EmbeddedEngine) -> None:
        async with AsyncClient(engine.address) as client:
            model = await client.llm.load_new_instance(SCRIPTED, config={"contextLength": 512})
            assert await model.get_context_length() == 512
            assert (await model.respond("2+3=")).content == "5"
            assert (await model.complete("2+3=")).content == "5"
            stream = await model.respond_stream("a story")
            async for _ in stream:
                await stream.cancel()
            assert stream.result().stats.stop_reason == "userStopped"
            embedding = await client.embedding.model(EMBEDDING)
            assert len(await embedding.embed("hello")) > 1
            await model.unload()
            assert [each.identifier for each in await client.list_loaded_models()] == [EMBEDDING]

    async def test_many_at_once(self, engine: EmbeddedEngine) -> None:
        async with AsyncClient(engine.address) as client:
            model = await client.llm.model(SCRIPTED)
            answers = await asyncio.gather(*(model.respond("2+3=") for _ in range(8)))
            assert [answer.content for answer in answers] == ["5"] * 8


def test_the_convenience_functions(engine: EmbeddedEngine) -> None:
    lmstudio.configure_default_client(engine.address)
    try:
        assert lmstudio.llm(SCRIPTED).respond("2+3=").content == "5"
        assert len(lmstudio.list_downloaded_models()) == 3
        assert len(lmstudio.embedding_model(EMBEDDING).embed("hello")) > 1
    finally:
        lmstudio.get_default_client().close()
        lmstudio.sync_api._reset_default_client()
