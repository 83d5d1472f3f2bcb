"""Images over the wire and REST: LM Studio's Python SDK as its own tests use it, and every form REST takes."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import httpx
import lmstudio
import pytest
from lmstudio import AsyncClient, Chat, Client, FileHandle, LMStudioServerError

from lmstrix.engine import EmbeddedEngine
from tests.support.pictures import BLUE, GREEN, PURPLE, RED, gif, jpeg, png, png_of_rows, webp
from tests.support.tiny_gguf_vision import BLIND, COLOUR_QUESTION, PATCHES, SEEING, SIGHTS, put_seeing_and_blind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLIND_MODEL = "scripted"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that sees, and one that does not."""
    return put_seeing_and_blind(tmp_path_factory.mktemp("seeing-models"))


@pytest.fixture(scope="module")
def engine(models: Path) -> Iterator[EmbeddedEngine]:
    with EmbeddedEngine(models, memory_limit=2**30) as engine:
        yield engine


@pytest.fixture
def client(engine: EmbeddedEngine) -> Iterator[Client]:
    with Client(engine.address) as client:
        yield client


@pytest.fixture(scope="module")
def rest(engine: EmbeddedEngine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{engine.address}", timeout=30) as rest:
        yield rest


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "purple.png"
    file.write_bytes(png(PURPLE))
    return file


class TestPythonSdk:
    def test_the_listing_tells_vision(self, client: Client, models: Path) -> None:
        listed = {model.model_key: model.info for model in client.list_downloaded_models("llm")}
        assert set(listed) == {SEEING, BLIND_MODEL}
        assert {key: info.vision for key, info in listed.items()} == {SEEING: True, BLIND_MODEL: False}
        folder = models / "acme" / "seeing-GGUF"
        assert listed[SEEING].size_bytes == sum(file.stat().st_size for file in folder.iterdir())

    def test_an_image_is_prepared_from_whatever_holds_it(self, client: Client, picture: Path) -> None:
        with picture.open("rb") as file:
            handles = [
                client.prepare_image(picture),
                client.files.prepare_image(str(picture)),
                client.prepare_image(file),
                client.prepare_image(io.BytesIO(picture.read_bytes())),
                client.prepare_image(picture.read_bytes(), "bytes.png"),
            ]
        for handle in handles:
            assert isinstance(handle, FileHandle)
            assert (handle.file_type, handle.size_bytes) == ("image", picture.stat().st_size)
        assert [handle.name for handle in handles[::4]] == ["purple.png", "bytes.png"]
        assert len({handle.identifier for handle in handles}) == len(handles)

    def test_the_model_sees_it(self, client: Client, picture: Path) -> None:
        model = client.llm.model(SEEING)
        handle = client.prepare_image(picture)
        beside, within = Chat(), Chat()
        beside.add_user_message(COLOUR_QUESTION, images=[handle])
        within.add_user_message((COLOUR_QUESTION, handle))
        for chat in (beside, within):
            answer = model.respond(chat, config={"maxTokens": 50, "temperature": 0})
            assert answer.content == SIGHTS["purple"]
        assert answer.stats.prompt_tokens_count is not None
        plain = model.respond(COLOUR_QUESTION)
        assert plain.content == BLIND.text
        assert answer.stats.prompt_tokens_count - (plain.stats.prompt_tokens_count or 0) == PATCHES

    def test_many_images(self, client: Client) -> None:
        model = client.llm.model(SEEING)
        chat = Chat()
        handles = [client.prepare_image(jpeg(GREEN)), *[client.prepare_image(gif(BLUE)) for _ in range(4)]]
        chat.add_user_message(COLOUR_QUESTION, images=handles)
        assert model.respond(chat).content == SIGHTS["blue"]

    def test_a_chat_that_goes_on_keeps_its_images(self, client: Client) -> None:
        model = client.llm.model(SEEING)
        chat = Chat("Look closely.")
        chat.add_user_message(COLOUR_QUESTION, images=[client.prepare_image(png(RED))])
        assert model.respond(chat, on_message=chat.append).content == SIGHTS["red"]
        chat.add_user_message(f"Once more: {COLOUR_QUESTION}")
        fragments = list(model.respond_stream(chat))
        assert "".join(fragment.content for fragment in fragments) == SIGHTS["red"]

    def test_a_model_without_vision_says_so(self, client: Client, picture: Path) -> None:
        model = client.llm.model(BLIND_MODEL)
        chat = Chat()
        chat.add_user_message(COLOUR_QUESTION, images=[client.prepare_image(picture)])
        with pytest.raises(LMStudioServerError, match="scripted cannot read images"):
            model.respond(chat)
        with pytest.raises(LMStudioServerError, match="scripted cannot read images"):
            model.apply_prompt_template(chat)

    def test_what_cannot_be_shown_is_refused_and_the_next_is_not(self, client: Client) -> None:
        model = client.llm.model(SEEING)
        for data, told in (
            (png()[:60], "damaged"),
            (webp(), "WebP"),
            (png_of_rows(60_000, 60_000, b""), "3,600 megapixels"),
        ):
            chat = Chat()
            chat.add_user_message(COLOUR_QUESTION, images=[client.prepare_image(data)])
            with pytest.raises(LMStudioServerError, match=told):
                model.respond(chat)
        text = client.prepare_image(b"just text", "notes.txt")
        assert text.file_type == "text/plain"
        assert model.respond("2+3=").content == "5"

    async def test_the_same_asynchronously(self, engine: EmbeddedEngine, picture: Path) -> None:
        async with AsyncClient(engine.address) as client:
            with picture.open("rb") as file:
                handles = [
                    await client.prepare_image(picture),
                    await client.files.prepare_image(file),
                    await client.prepare_image(io.BytesIO(picture.read_bytes())),
                ]
            chat = Chat()
            chat.add_user_message(COLOUR_QUESTION, images=handles)
            with pytest.raises(LMStudioServerError, match="cannot read images"):
                await (await client.llm.model(BLIND_MODEL)).respond(chat)
            seeing = await client.llm.model(SEEING)
            assert (await seeing.respond(chat)).content == SIGHTS["purple"]
            pictures = [await client.prepare_image(png(colour)) for colour in (RED, BLUE)] * 4
            chats = [Chat() for _ in pictures]
            for each, handle in zip(chats, pictures, strict=True):
                each.add_user_message(COLOUR_QUESTION, images=[handle])
            answers = await asyncio.gather(*[seeing.respond(each) for each in chats])
        assert [answer.content for answer in answers] == [SIGHTS["red"], SIGHTS["blue"]] * 4

    def test_the_convenience_function(self, engine: EmbeddedEngine, picture: Path) -> None:
        lmstudio.configure_default_client(engine.address)
        try:
            chat = Chat()
            chat.add_user_message(COLOUR_QUESTION, images=[lmstudio.prepare_image(picture)])
            assert lmstudio.llm(SEEING).respond(chat).content == SIGHTS["purple"]
        finally:
            lmstudio.get_default_client().close()
            lmstudio.sync_api._reset_default_client()


def url_of(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asking(*urls: str, model: str = SEEING, **fields: Any) -> dict[str, Any]:
    """OpenAI's form of the question."""
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content = [{"type": "text", "text": COLOUR_QUESTION}, *parts]
    return {"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0, **fields}


class TestRest:
    def test_models_tell_vision(self, rest: httpx.Client) -> None:
        v0 = {model["id"]: model["type"] for model in rest.get("/api/v0/models").json()["data"]}
        assert v0 == {SEEING: "vlm", BLIND_MODEL: "llm"}
        v1 = {model["key"]: model["capabilities"]["vision"] for model in rest.get("/api/v1/models").json()["models"]}
        assert v1 == {SEEING: True, BLIND_MODEL: False}

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v0/chat/completions"])
    def test_openai(self, rest: httpx.Client, path: str) -> None:
        for data, kind, colour in ((png(RED), "image/png", "red"), (jpeg(BLUE), "image/jpeg", "blue")):
            answer = rest.post(path, json=asking(url_of(data, kind))).json()
            assert answer["choices"][0]["message"]["content"] == SIGHTS[colour]
        two = rest.post(path, json=asking(url_of(png(RED)), url_of(png(RED)))).json()
        assert two["usage"]["prompt_tokens"] - answer["usage"]["prompt_tokens"] == PATCHES

    def test_a_stream(self, rest: httpx.Client) -> None:
        answer = rest.post("/v1/chat/completions", json=asking(url_of(png(GREEN)), stream=True))
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
        said = [choice["delta"].get("content") or "" for line in lines for choice in json.loads(line)["choices"]]
        assert "".join(said) == SIGHTS["green"]

    def test_v1_and_a_conversation(self, rest: httpx.Client) -> None:
        items = [{"type": "text", "content": COLOUR_QUESTION}, {"type": "image", "data_url": url_of(png(RED))}]
        first = rest.post("/api/v1/chat", json={"model": SEEING, "input": items, "temperature": 0}).json()
        assert first["output"][0]["content"] == SIGHTS["red"]
        following = {"model": SEEING, "input": COLOUR_QUESTION, "previous_response_id": first["response_id"]}
        assert rest.post("/api/v1/chat", json=following).json()["output"][0]["content"] == SIGHTS["red"]

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            (url_of(webp(), "image/webp"), "The image is a WebP file"),
            (url_of(png()[:60]), "damaged"),
            (url_of(png_of_rows(60_000, 60_000, b"")), "3,600 megapixels"),
            (url_of(b"text", "text/plain"), "no image file"),
            (url_of(b""), "no image file"),
            ("data:image/png;base64,***", "data URL"),
            ("data:image/png,raw", "data URL"),
            ("file:///etc/passwd", "data URL"),
            ("/etc/passwd", "data URL"),
            ("ftp://example.org/a.png", "data URL"),
        ],
        ids=lambda value: value[:24],
    )
    @pytest.mark.parametrize("form", ["openai", "v1"])
    def test_what_cannot_be_shown(self, rest: httpx.Client, form: str, url: str, told: str) -> None:
        item = {"model": SEEING, "input": [{"type": "image", "data_url": url}]}
        answer = (
            rest.post("/v1/chat/completions", json=asking(url))
            if form == "openai"
            else rest.post("/api/v1/chat", json=item)
        )
        assert answer.status_code == 400
        assert told in answer.json()["error"]["message"]

    def test_nothing_is_fetched(self, rest: httpx.Client) -> None:
        asked: list[str] = []

        class Noting(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)

        with HTTPServer(("127.0.0.1", 0), Noting) as server:
            Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            answer = rest.post("/v1/chat/completions", json=asking(f"http://127.0.0.1:{server.server_port}/a.png"))
            server.shutdown()
        assert (answer.status_code, asked) == (400, [])
        assert "fetches nothing" in answer.json()["error"]["message"]

    def test_a_model_without_vision(self, rest: httpx.Client) -> None:
        answer = rest.post("/v1/chat/completions", json=asking(url_of(png()), model=BLIND_MODEL))
        assert answer.status_code == 400
        assert "scripted cannot read images" in answer.json()["error"]["message"]
