"""Who is let in: tokens where one is asked for, no foreign web pages, loopback unless told, bounded bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import httpx
import lmstudio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.engine import EmbeddedEngine, access
from lmstrix.engine.access import ClientIdentity
from lmstrix.ground.errors import EngineError
from tests.engine.raw_client import connected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "sk-lm-abcdEF12:abcdefghijKLMNOP1234"
HALVES = {"clientIdentifier": "abcdEF12", "clientPasskey": "abcdefghijKLMNOP1234"}


@pytest.fixture(scope="module")
def guarded(models_dir: Path) -> Iterator[EmbeddedEngine]:
    """An engine that asks for a token."""
    with EmbeddedEngine(models_dir, api_token=TOKEN) as engine:
        yield engine


class TestTokens:
    def test_new_tokens_have_the_form_and_differ(self) -> None:
        tokens = {access.new_token() for _ in range(50)}
        assert len(tokens) == 50
        assert all(access.is_token(token) for token in tokens)
        assert access.is_token(TOKEN)

    @pytest.mark.parametrize("text", ["", "secret", "sk-lm-short:x", TOKEN + "x", TOKEN.lower()[:-1], " " + TOKEN])
    def test_what_is_no_token(self, text: str) -> None:
        assert not access.is_token(text)

    @given(st.text(max_size=300), st.text(max_size=300))
    def test_only_the_two_halves_open(self, identifier: str, passkey: str) -> None:
        client = ClientIdentity(identifier=identifier, passkey=passkey)
        refused = access.frame_refusal(TOKEN, client) is not None
        assert refused == (f"sk-lm-{identifier}:{passkey}" != TOKEN)
        assert access.frame_refusal(None, client) is None

    def test_rest_wants_the_token_and_probes_do_not(self, guarded: EmbeddedEngine) -> None:
        with httpx.Client(base_url=f"http://{guarded.address}") as client:
            for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {TOKEN}"}):
                answer = client.get("/v1/models", headers=headers)
                assert answer.status_code == 401
                assert "token" in answer.json()["error"]["message"]
            for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"x-api-key": TOKEN}):
                assert client.get("/v1/models", headers=headers).status_code == 200
            assert client.get("/lmstudio-greeting").json() == {"lmstudio": True}
            assert client.get("/lms-status").status_code == 200

    async def test_websockets_want_it_in_their_first_frame(self, guarded: EmbeddedEngine) -> None:
        async with connected(guarded.address, "llm", {"authVersion": 1, **HALVES}) as client:
            assert (await client.rpc("listLoaded"))["result"] == []
        async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{guarded.address}/llm") as socket:
            await socket.send_json({"authVersion": 1, "clientIdentifier": "guest:x", "clientPasskey": "y"})
            answer = await socket.receive_json()
            assert answer["success"] is False
            assert isinstance(answer["error"], str)
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE

    def test_the_python_sdk_with_the_token(self, guarded: EmbeddedEngine) -> None:
        with lmstudio.Client(guarded.address) as client:
            client._auth_details = {"authVersion": 1, **HALVES}
            assert client.list_loaded_models() == []

    def test_listening_beyond_loopback_needs_one(self, models_dir: Path) -> None:
        for host in ("0.0.0.0", "192.0.2.1", "::"):
            with pytest.raises(EngineError, match="API token, for example sk-lm-"):
                EmbeddedEngine(models_dir, host=host)
        with pytest.raises(EngineError, match="must look like"):
            EmbeddedEngine(models_dir, api_token="secret")


class TestPages:
    @pytest.mark.parametrize(
        ("host", "origin", "refused"),
        [
            ("127.0.0.1:1", None, False),
            ("localhost:1", None, False),
            ("[::1]:1", None, False),
            ("app.localhost:1", None, False),
            ("192.168.0.7:1", None, False),
            ("evil.example:1", None, True),
            ("", None, True),
            (None, None, True),
            ("127.0.0.1:1", "http://127.0.0.1:1", False),
            ("127.0.0.1:1", "http://127.0.0.1:2", True),
            ("127.0.0.1:1", "https://evil.example", True),
            ("127.0.0.1:1", "null", True),
            ("evil.example:1", "http://evil.example:1", True),
        ],
    )
    def test_rule(self, host: str | None, origin: str | None, refused: bool) -> None:
        found = access.page_refusal(host, origin, own_name="127.0.0.1", cors=False, guarded=False)
        assert (found is not None) == refused

    def test_rule_with_a_token_or_cors(self) -> None:
        assert access.page_refusal("gpu.lan:1", None, own_name="0.0.0.0", cors=False, guarded=True) is None
        page = "https://page.example"
        assert access.page_refusal("127.0.0.1:1", page, own_name="127.0.0.1", cors=True, guarded=False) is None
        assert access.page_refusal("evil.example", page, own_name="127.0.0.1", cors=True, guarded=False)

    def test_no_foreign_page_reaches_rest(self, engine: EmbeddedEngine) -> None:
        with httpx.Client(base_url=f"http://{engine.address}") as client:
            for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
                for method, path in (
                    ("GET", "/v1/models"),
                    ("POST", "/api/v1/models/unload"),
                    ("OPTIONS", "/v1/models"),
                ):
                    answer = client.request(method, path, headers=headers)
                    assert answer.status_code == 403
                    assert "Access-Control-Allow-Origin" not in answer.headers

    async def test_no_foreign_page_opens_a_websocket(self, engine: EmbeddedEngine) -> None:
        async with aiohttp.ClientSession() as session:
            for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example:80"}):
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await session.ws_connect(f"ws://{engine.address}/llm", headers=headers)
                assert caught.value.status == 403
            own = {"Origin": f"http://{engine.address}"}
            async with session.ws_connect(f"ws://{engine.address}/llm", headers=own):
                pass

    async def test_with_cors_pages_may(self, models_dir: Path) -> None:
        page = {"Origin": "https://page.example"}
        with EmbeddedEngine(models_dir, cors=True) as engine:
            async with aiohttp.ClientSession() as session:
                answer = await session.get(f"http://{engine.address}/v1/models", headers=page)
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
                preflight = await session.options(f"http://{engine.address}/v1/chat/completions", headers=page)
                assert preflight.status == 204
                assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
                async with session.ws_connect(f"ws://{engine.address}/llm", headers=page):
                    pass


class TestBounds:
    def test_it_listens_on_loopback(self, engine: EmbeddedEngine) -> None:
        assert engine.address == f"127.0.0.1:{engine.port}"

    def test_huge_bodies_are_refused(self, engine: EmbeddedEngine) -> None:
        answer = httpx.post(f"http://{engine.address}/v1/chat/completions", content=bytes(65 * 2**20), timeout=30)
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "invalid_request_error"

    async def test_a_port_that_is_taken_is_one_clear_line(self, engine: EmbeddedEngine, models_dir: Path) -> None:
        with pytest.raises(EngineError, match=f"cannot listen on 127.0.0.1:{engine.port}.*choose another port"):
            EmbeddedEngine(models_dir, port=engine.port).start()
        with pytest.raises(EngineError, match="port 70000"):
            EmbeddedEngine(models_dir, port=70000)

    async def test_an_engine_is_used_inside_its_block(self, models_dir: Path) -> None:
        engine = EmbeddedEngine(models_dir)
        with pytest.raises(EngineError, match="with"):
            _ = engine.port
        async with engine:
            address = engine.address
            with pytest.raises(EngineError, match="already"):
                engine.start()
            async with connected(address, "llm") as client:
                await client.load("scripted")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{address}/lmstudio-greeting")
        engine.stop()
