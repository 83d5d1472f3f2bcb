"""Uploaded files: what they are, how many there may be, and that they do not outstay their client."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.engine import EmbeddedEngine
from lmstrix.engine.access import ClientIdentity
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.state import ClientFiles
from lmstrix.engine.uploads import FileStore, FileType, UploadLimits, sniff
from tests.engine.raw_client import connected
from tests.engine.word_files import docx

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.raw_client import RawClient


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n...", "image"),
        ("photo", b"\xff\xd8\xff\xe0", "image"),
        ("a.webp", b"RIFF\0\0\0\0WEBP", "image"),
        ("photo.heic", b"\0\0\0\x18ftypheic", "image"),
        ("cars.txt", b"BMW builds cars, and this is a text about them.", "text/plain"),
        ("wave.wav", b"RIFF\0\0\0\0WAVE", "unknown"),
        ("lies.txt", b"%PDF-1.7", "application/pdf"),
        ("a.docx", docx(""), "application/word"),
        ("a.zip", b"PK\x03\x04broken", "unknown"),
        ("a.txt", "héllo".encode(), "text/plain"),
        ("README", b"", "text/plain"),
        ("a.py", b"print()", "text/other"),
        ("a.txt", b"\xff\xfe\x00", "unknown"),
        ("a.txt", b"caf\xe9", "unknown"),
    ],
)
def test_content_tells_the_type(name: str, data: bytes, expected: FileType) -> None:
    assert sniff(name, data) == expected


def test_a_stored_file_is_found_again_and_gone_after_close() -> None:
    store = FileStore()
    file = store.add("../../etc/a note.txt", b"text")
    assert store.get(file.identifier) is file
    assert (file.name, file.size_bytes, file.file_type) == ("../../etc/a note.txt", 4, "text/plain")
    assert file.identifier.endswith(".txt")
    assert "/" not in file.identifier
    assert store.add("a", b"").identifier != store.add("a", b"").identifier
    store.close()
    with pytest.raises(EngineFault) as caught:
        store.get(file.identifier)
    assert caught.value.kind == "not_found"


def limits(**changed: int) -> UploadLimits:
    return UploadLimits(**{"client_bytes": 10, "client_files": 3, "all_bytes": 15, "all_files": 4} | changed)


def test_a_client_keeps_its_newest_files() -> None:
    store = FileStore(limits())
    first, second = store.add("a", b"1234"), store.add("b", b"1234")
    third = store.add("c", b"1234")
    assert first.identifier not in store
    with pytest.raises(EngineFault, match=first.identifier) as caught:
        store.get(first.identifier)
    assert "new uploads take the place of a client's oldest" in str(caught.value.suggestion)
    assert second.identifier in store
    assert third.identifier in store
    store.add("d", b"")
    store.add("e", b"")
    assert second.identifier not in store, "three files are as many as there may be"


def test_a_file_that_can_never_fit_drops_nothing() -> None:
    store = FileStore(limits())
    kept = store.add("a", b"1234")
    with pytest.raises(EngineFault, match=r"No room for b: it has .* one client's uploads may take") as caught:
        store.add("b", b"12345678901")
    assert caught.value.kind == "refused"
    assert kept.identifier in store


@pytest.mark.parametrize(("sizes", "one_more"), [((8,), 8), ((0, 0, 0), 0)], ids=["bytes", "count"])
def test_clients_together_have_a_bound_and_one_that_leaves_frees_its_share(
    sizes: tuple[int, ...], one_more: int
) -> None:
    files = ClientFiles(limits(all_files=3))
    ann, ben = (ClientIdentity(identifier=name, passkey="x") for name in ("ann", "ben"))
    with files.connected(ben):
        with files.connected(ann):
            kept = [files.of(ann).add("a", bytes(size)) for size in sizes]
            with pytest.raises(EngineFault, match=r"uploads of all clients may take .* they hold") as caught:
                files.of(ben).add("b", bytes(one_more))
            assert caught.value.suggestion == "Try again when another client has left."
            assert all(file.identifier in files.of(ann) for file in kept)
        assert files.of(ben).add("b", bytes(one_more)).size_bytes == one_more


def test_the_text_of_a_document_counts_and_goes_with_it() -> None:
    store = FileStore(limits())
    document = store.add("a.docx", b"1234").identifier
    store.keep_text(document, "too long to keep")
    assert store.known_text(document) is None
    store.keep_text(document, "six by")
    assert store.known_text(document) == "six by"
    store.add("b", b"1")
    assert store.known_text(document) is None
    store.add("c", b"123456789")


async def test_refusals_reach_the_client_and_its_share_is_free_when_it_has_gone(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstrix.engine.state.UploadLimits", limits)

    async def upload(client: RawClient, size: int) -> dict[str, Any]:
        content = base64.b64encode(bytes(size)).decode()
        return await client.rpc("uploadFileBase64", {"name": "a.bin", "contentBase64": content})

    other = {"authVersion": 1, "clientIdentifier": "guest:other", "clientPasskey": "secret"}
    with EmbeddedEngine(models_dir) as engine:
        async with connected(engine.address, "files") as first:
            assert (
                "it has 11 B, and one client's uploads may take 10 B together"
                in (await upload(first, 11))["error"]["title"]
            )
            assert (await upload(first, 10))["type"] == "rpcResult"
            async with connected(engine.address, "files", other) as second:
                refused = (await upload(second, 10))["error"]
                assert refused["title"].startswith("No room for a.bin: uploads of all clients may take")
                assert refused["suggestion"] == "Try again when another client has left."
        async with connected(engine.address, "files", other) as second:
            assert (await upload(second, 10))["type"] == "rpcResult"


@pytest.mark.parametrize("content", ["!", "QQ", "QQ==QQ==", "QUJD" * 2**18 + "=", "Q=" * 2**20])
async def test_what_is_no_base64_is_refused(engine: EmbeddedEngine, content: str) -> None:
    async with connected(engine.address, "files") as client:
        answer = await client.rpc("uploadFileBase64", {"name": "a", "contentBase64": content})
    assert answer["error"]["title"] == "contentBase64 is not valid base64."


async def test_a_file_of_several_slices_arrives_whole(engine: EmbeddedEngine) -> None:
    text = "".join(f"line {number}\n" for number in range(200_000))
    async with connected(engine.address, "files") as client:
        content = base64.b64encode(text.encode()).decode()
        stored = (await client.rpc("uploadFileBase64", {"name": "a.txt", "contentBase64": content}))["result"]
        messages, _ = await client.channel("parseDocument", {"fileIdentifier": stored["identifier"]})
    assert messages[-1]["content"] == text
