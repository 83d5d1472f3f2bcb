"""What a careless or hostile client, file or disk does to an engine; each act ends by itself and says nothing.

The acts are those that once froze, filled or killed it. They go by the wire, by REST and by the models folder.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import zipfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
from tests.engine.raw_client import connected, prediction, query

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 20.0
_WORD = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>{}</w:body></w:document>'
_SILENT_SOCKETS = 40


class Target(NamedTuple):
    """The engine, a model loaded there, and the folder it serves."""

    address: str
    instance: str
    models_dir: Path


Act = Callable[[Target], Awaitable[None]]


async def _predict(target: Target, text: str = "hi", **fields: Any) -> None:
    async with connected(target.address, "llm") as client:
        await client.channel("predict", prediction(target.instance, text, **fields))


async def _template(target: Target, template: str) -> None:
    jinja = {"template": template, "bosToken": "", "eosToken": "", "inputConfig": {"messagesConfig": {}}}
    await _predict(target, promptTemplate={"type": "jinja", "jinjaPromptTemplate": jinja, "stopStrings": []})


async def endless_template(target: Target) -> None:
    """Loops within loops."""
    loops = "".join("{% for a in range(99999) %}" for _ in range(3)) + "x" + "{% endfor %}" * 3
    await _template(target, loops)


async def doubling_template(target: Target) -> None:
    """A text that doubles forty times."""
    await _template(target, "{% set x = 'aaaa' %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}")


async def huge_schema(target: Target) -> None:
    """An answer of a billion items, and one of a million levels."""
    bombs: list[dict[str, Any]] = [
        {"type": "array", "minItems": 10**9, "items": {"type": "integer"}},
        {"type": "string", "minLength": 10**9},
        {"type": "object", "properties": {f"p{i}": {"enum": list(range(200))} for i in range(500)}},
    ]
    for schema in bombs:
        await _predict(target, structured={"type": "json", "jsonSchema": schema})


async def wrong_words(target: Target) -> None:
    """Values that are of no kind the wire knows."""
    async with connected(target.address, "llm") as client:
        wrong: tuple[Any, ...] = (None, [], "x", {"specifier": []}, {"specifier": query("\ud800")}, {"opts": 7})
        for parameter in wrong:
            with suppress(TimeoutError):
                await asyncio.wait_for(client.rpc("countTokens", parameter), 5)
    async with aiohttp.ClientSession() as session:
        for body in (b"null", b"[" * 100_000, b'{"model": 1e400}', b'{"messages": [{"role": []}]}'):
            headers = {"Content-Type": "application/json"}
            url = f"http://{target.address}/v1/chat/completions"
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()


async def nested_document(target: Target) -> None:
    """A Word file of twenty thousand paragraphs within each other."""
    body = "<w:p>" * 20_000 + "</w:p>" * 20_000
    await _read_document(target, _docx(body))


async def large_document(target: Target) -> None:
    """A Word file that unpacks to sixty megabytes."""
    await _read_document(target, _docx("<w:p><w:r><w:t>" + "word " * 12_000_000 + "</w:t></w:r></w:p>"))


def _docx(body: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", _WORD.format(body))
    return packed.getvalue()


async def _read_document(target: Target, data: bytes) -> None:
    async with connected(target.address, "files") as files:
        sent = {"name": "a.docx", "contentBase64": base64.b64encode(data).decode()}
        answer = await files.rpc("uploadFileBase64", sent)
        identifier = answer.get("result", {}).get("identifier", "")
        part: dict[str, Any] = {"type": "file", "name": "a.docx", "identifier": identifier, "fileType": "unknown"}
        part["sizeBytes"] = len(data)
        async with connected(target.address, "llm") as client:
            asked = prediction(target.instance, "what is this?")
            asked["history"]["messages"][0]["content"].append(part)
            await client.channel("predict", asked)


async def silent_sockets(target: Target) -> None:
    """Sockets that begin a request and never end it."""
    host, _, port = target.address.rpartition(":")
    writers = []
    for number in range(_SILENT_SOCKETS):
        _, writer = await asyncio.open_connection(host, int(port))
        if number % 2:
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        writers.append(writer)
    await asyncio.sleep(3)
    for writer in writers:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def frames_of_no_kind(target: Target) -> None:
    """Frames that are no JSON, no object, and far too many."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{target.address}/system") as socket:
        await socket.send_str("null")
        await socket.send_str("{")
        for _ in range(500):
            with suppress(ConnectionError):
                await socket.send_str('{"type": "rpcCall", "endpoint": "listDownloadedModels", "callId": 1}')


async def hostile_folder(target: Target) -> None:
    """Links to themselves and in circles, a file cut short, a pipe, and a listing meanwhile."""
    folder = target.models_dir / "evil" / "links-GGUF"
    await asyncio.to_thread(_fill, folder)
    url = f"http://{target.address}/v1/models"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        await answer.read()
    await asyncio.to_thread(_clear, folder)


def _fill(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    source = next(path for path in folder.parent.parent.rglob("*.gguf") if path.is_file())
    (folder / "cut.gguf").write_bytes(source.read_bytes()[:3000])
    for name, to in (("self.gguf", "self.gguf"), ("up", ".."), ("here", ".")):
        with suppress(FileExistsError):
            (folder / name).symlink_to(to)
    with suppress(FileExistsError):
        os.mkfifo(folder / "pipe.gguf")


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


ACTS: tuple[Act, ...] = (
    endless_template,
    doubling_template,
    huge_schema,
    wrong_words,
    nested_document,
    large_document,
    silent_sockets,
    frames_of_no_kind,
    hostile_folder,
)
"""All of them."""
