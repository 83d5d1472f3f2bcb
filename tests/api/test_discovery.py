"""Finding a server among silent, foreign, odd and absent ones, on ports of the tests' own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.api.discovery import find_server, parse_address
from lmstrix.ground.errors import BackendUnavailableError, UsageError
from lmstrix.ground.paths import Paths
from lmstrix.ground.types import ServerInfo
from tests.support.faulty_server import FaultyServer, closed_port, http_answer, listening

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A home and an LM Studio home, both empty."""
    for name in ("home/lmstrix", "lmstudio/.internal"):
        (tmp_path / name).mkdir(parents=True)
    return Paths(home=tmp_path / "home", models_dir=tmp_path, lmstudio_home=tmp_path / "lmstudio")


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def write(file: Path, address: str) -> None:
    host, _, port = address.rpartition(":")
    file.write_text(json.dumps({"host": host, "port": int(port), "pid": 1}))


async def test_an_address_is_looked_at_alone(server: FaultyServer, paths: Paths) -> None:
    found = await find_server(f"http://{server.address}/v1", ports=(), paths=paths, environ={})
    assert found == ServerInfo(address=server.address, engine="lmstudio", version="0.4.21", package="lmstudio")
    dead = f"127.0.0.1:{closed_port()}"
    with pytest.raises(BackendUnavailableError, match=f"{dead} refused.*`server`") as caught:
        await find_server(dead, ports=(port_of(server.address),), paths=paths, environ={})
    assert caught.value.address == dead


@pytest.mark.parametrize("variable", ["LMSTRIX_SERVER", "LMSTUDIO_BASE_URL"])
async def test_the_environment_may_name_it(server: FaultyServer, paths: Paths, variable: str) -> None:
    environ = {variable: server.address}
    assert (await find_server(ports=(), paths=paths, environ=environ)).address == server.address
    dead = f"127.0.0.1:{closed_port()}"
    with pytest.raises(BackendUnavailableError):  # an argument stands above it
        await find_server(dead, ports=(), paths=paths, environ=environ)


async def test_lm_studio_says_where_it_listens(server: FaultyServer, paths: Paths, tmp_path: Path) -> None:
    assert paths.lmstudio_home is not None
    write(paths.lmstudio_home / ".internal" / "http-server.json", server.address)
    assert (await find_server("auto", ports=(closed_port(),), paths=paths, environ={})).address == server.address
    elsewhere = tmp_path / "elsewhere.json"
    write(elsewhere, f"127.0.0.1:{closed_port()}")
    with pytest.raises(BackendUnavailableError):
        await find_server("lmstudio", ports=(), paths=paths, environ={"LMS_API_SERVER_INFO_PATH": str(elsewhere)})


@pytest.mark.parametrize(
    "content", ["", "[]", '{"port":"x"}', '{"host":"a b","port":1}', '{"host":1,"port":null}', "\xff"]
)
async def test_files_that_make_no_sense_are_passed_over(server: FaultyServer, paths: Paths, content: str) -> None:
    assert paths.lmstudio_home is not None
    (paths.lmstudio_home / ".internal" / "http-server.json").write_text(content, encoding="latin-1")
    (paths.own / "engine.json").write_text(content, encoding="latin-1")
    assert (
        await find_server("auto", ports=(port_of(server.address),), paths=paths, environ={})
    ).address == server.address


async def test_the_sdk_ports_in_their_order(server: FaultyServer, paths: Paths) -> None:
    with FaultyServer() as second:
        ports = (closed_port(), port_of(second.address), port_of(server.address))
        assert (await find_server("auto", ports=ports, paths=paths, environ={})).address == second.address


async def test_an_embedded_engine_is_known_by_its_package(server: FaultyServer, paths: Paths) -> None:
    with FaultyServer() as engine:
        engine.faults.pages["/lms-status"] = (200, '{"package":"lmstrix","version":"2.0"}')
        write(paths.own / "engine.json", engine.address)
        embedded = ServerInfo(address=engine.address, engine="embedded", version="2.0", package="lmstrix")
        lmstudio_port = (port_of(server.address),)
        assert await find_server("embedded", ports=lmstudio_port, paths=paths, environ={}) == embedded
        assert await find_server("auto", ports=(), paths=paths, environ={}) == embedded
        assert (await find_server("auto", ports=lmstudio_port, paths=paths, environ={})).engine == "lmstudio"
        with pytest.raises(BackendUnavailableError, match="is lmstrix"):
            await find_server("lmstudio", ports=(port_of(engine.address),), paths=paths, environ={})


async def test_an_engine_that_an_earlier_version_started_is_found(paths: Paths) -> None:
    with FaultyServer() as engine:
        engine.faults.pages["/lms-status"] = (200, '{"package":"lmstrix","version":"2.0"}')
        write(paths.home / "engine.json", engine.address)
        assert (await find_server("embedded", ports=(), paths=paths, environ={})).address == engine.address


ODD_ANSWERS = {
    "page": http_answer("<html>It works!</html>"),
    "other JSON": http_answer('{"lmstudio":"yes"}'),
    "list": http_answer("[1]"),
    "broken JSON": http_answer('{"lmstudio":'),
    "deep JSON": http_answer("[" * 60_000 + "]"),
    "error": http_answer('{"lmstudio":true}', "500 Internal Server Error"),
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "nothing": b"",
    "binary": bytes(range(256)),
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
async def test_foreign_programs_on_a_port(server: FaultyServer, paths: Paths, answer: bytes) -> None:
    with listening(answer) as foreign:
        found = await find_server("auto", ports=(port_of(foreign), port_of(server.address)), paths=paths, environ={})
        assert found.address == server.address
        with pytest.raises(BackendUnavailableError, match=f"{foreign} (is another program|cannot be reached)"):
            await find_server(foreign, paths=paths, environ={})


async def test_silent_ports_cost_one_bound_together(server: FaultyServer, paths: Paths) -> None:
    server.faults.greeting = "silent"
    with listening(None) as silent, listening(None) as other:
        ports = (port_of(silent), port_of(other), port_of(server.address))
        async with asyncio.timeout(5):
            with pytest.raises(BackendUnavailableError, match=f"{silent} did not answer, {other} did not answer"):
                await find_server("auto", ports=ports, paths=paths, environ={}, timeout_s=0.2)


async def test_the_best_answer_waits_for_nobody_behind_it(server: FaultyServer, paths: Paths) -> None:
    with listening(None) as silent:
        ports = (port_of(server.address), port_of(silent))
        async with asyncio.timeout(30):
            found = await find_server("auto", ports=ports, paths=paths, environ={}, timeout_s=3600)
    assert found.address == server.address


async def test_an_engine_waits_for_what_is_better(server: FaultyServer, paths: Paths) -> None:
    """The order of addresses does not decide between LM Studio and the engine."""
    with FaultyServer() as engine:
        engine.faults.pages["/lms-status"] = (200, json.dumps({"package": "lmstrix", "version": "1"}))
        ports = (port_of(engine.address), port_of(server.address))
        found = await find_server("auto", ports=ports, paths=paths, environ={})
    assert (found.address, found.engine) == (server.address, "lmstudio")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets connections wait when the queue is full")
async def test_a_port_that_does_not_even_refuse_costs_little(server: FaultyServer, paths: Paths) -> None:
    """As Windows does for two seconds where nobody listens."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        ports = (listener.getsockname()[1], port_of(server.address))
        async with asyncio.timeout(30):
            found = await find_server("auto", ports=ports, paths=paths, environ={}, timeout_s=3600)
    assert found.address == server.address


async def test_a_status_nobody_answers_does_not_matter(server: FaultyServer, paths: Paths) -> None:
    server.faults.pages["/lms-status"] = (200, '{"error":"Unexpected endpoint"}')
    found = await find_server(server.address, paths=paths, environ={})
    assert (found.engine, found.version, found.package) == ("lmstudio", None, None)


async def test_a_chunked_greeting_is_read(paths: Paths) -> None:
    body = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n{"lmstudio":true}\r\n0\r\n\r\n'
    with listening(body) as address:
        assert (await find_server(address, paths=paths, environ={})).address == address


async def test_nowhere_to_look(paths: Paths) -> None:
    with pytest.raises(BackendUnavailableError, match=r"no embedded engine is running; .*lmstrix engine start"):
        await find_server("embedded", paths=paths, environ={})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:41343", "127.0.0.1:41343"),
        ("localhost", "localhost:1234"),
        (" http://localhost:1234/v1/ ", "localhost:1234"),
        ("ws://studio.local:8080", "studio.local:8080"),
        ("[::1]:5000", "[::1]:5000"),
        ("http://[fe80::1]", "[fe80::1]:1234"),
        ("https://host", "https://host:443"),
        ("wss://host:5000/", "https://host:5000"),
    ],
)
def test_addresses_as_people_write_them(text: str, address: str) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "lm studio", "host:port", "host:99999", "ftp://host", "a@b:1", "/x", ":5"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no server|over http or https"):
        parse_address(text)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        address = parse_address(text)
    except UsageError:
        return
    assert parse_address(address) == address
    assert 0 < port_of(address) < 65536


def test_looking_imports_no_heavy_library() -> None:
    code = "import sys, lmstrix.api.discovery; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"lmstudio", "httpx", "aiohttp", "pydantic", "tenacity", "anyio"}
