"""Documents: their text, what a hostile one may take, and that nobody else waits for it."""

from __future__ import annotations

import asyncio
import dataclasses
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from lmstrix.engine.documents import DocumentLimits, DocumentReader
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.limited_process import ProcessLimits
from lmstrix.engine.records import ChatPart, ChatTurn
from lmstrix.engine.uploads import FileStore
from tests.engine.word_files import document, docx, paragraph, zipped

if TYPE_CHECKING:
    from lmstrix.engine.uploads import StoredFile

SMALL = DocumentLimits(
    max_body_bytes=2**20, max_text_bytes=2**16, process=ProcessLimits(memory_bytes=256 * 2**20, cpu_s=10, wall_s=30)
)


def process_with(*, memory_bytes: int = 512 * 2**20, cpu_s: int = 10, wall_s: float = 30) -> DocumentLimits:
    return DocumentLimits(process=ProcessLimits(memory_bytes=memory_bytes, cpu_s=cpu_s, wall_s=wall_s))


async def text_of(name: str, data: bytes, limits: DocumentLimits = SMALL) -> str:
    store = FileStore()
    async with asyncio.timeout(60):
        return await DocumentReader(limits).text_of(store, store.add(name, data).identifier)


async def refusal_of(data: bytes, limits: DocumentLimits = SMALL) -> str:
    with pytest.raises(EngineFault) as caught:
        await text_of("a.docx", data, limits)
    assert caught.value.kind == "invalid"
    assert caught.value.suggestion == "Send its content as text."
    return caught.value.title


class TestText:
    async def test_plain_text_loses_its_byte_order_mark(self) -> None:
        assert await text_of("a.md", b"\xef\xbb\xbf# Hi") == "# Hi"

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (
                "<w:p><w:r><w:t>One </w:t></w:r><w:r><w:t>line</w:t></w:r></w:p><w:p/>" + paragraph("&lt;3"),
                "One line\n\n<3",
            ),
            ("<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>ü</w:t></w:r></w:p>", "a\tb\nü"),
            # A text box stands inside the paragraph it is anchored to; its text is no part of that paragraph's.
            (f"<w:p><w:r><w:t>out</w:t><w:box>{paragraph('in')}</w:box><w:t>side</w:t></w:r></w:p>", "outside\nin"),
            # Newer content comes with a copy for older programs.
            (
                f"<w:p><mc:AlternateContent><mc:Choice>{paragraph('box')}</mc:Choice>"
                f"<mc:Fallback>{paragraph('box')}</mc:Fallback></mc:AlternateContent></w:p>",
                "\nbox",
            ),
        ],
    )
    async def test_word_files(self, body: str, text: str) -> None:
        assert await text_of("a.docx", docx(body)) == text

    @pytest.mark.parametrize(
        ("name", "data"), [("a.pdf", b"%PDF-1.7"), ("a.png", b"\x89PNG\r\n\x1a\n"), ("a.bin", b"\0")]
    )
    async def test_what_has_no_text_is_refused_by_name(self, name: str, data: bytes) -> None:
        with pytest.raises(EngineFault, match=name) as caught:
            await text_of(name, data)
        assert caught.value.kind == "unsupported"


class TestHostileDocuments:
    @pytest.mark.parametrize(
        "data",
        [docx("<w:p>"), docx("&bomb;"), docx("")[:-30], b"PK\x03\x04word/document.xml"],
        ids=["torn XML", "unknown entity", "torn archive", "no archive"],
    )
    async def test_damaged(self, data: bytes) -> None:
        assert "it is no readable Word document" in await refusal_of(data)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    async def test_entities_wherever_they_are_declared(self, encoding: str) -> None:
        entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
        head = f"<!--{'x' * 2000}--><!DOCTYPE x [<!ENTITY e0 'boom'>{entities}]>"
        xml = document(paragraph("&e9;"), head=head).encode(encoding)
        assert "declares a document type" in await refusal_of(zipped(xml))

    async def test_a_zip_bomb(self) -> None:
        bomb = docx(" " * 2**21)
        assert len(bomb) < 2**14
        assert "it unpacks to more than 1 MiB" in await refusal_of(bomb)

    async def test_more_text_than_any_context_holds(self) -> None:
        assert "more text than can be read" in await refusal_of(docx(paragraph("word " * 2**14)))

    async def test_paragraphs_nested_in_paragraphs_cost_what_their_number_does(self) -> None:
        depth = 20_000
        data = docx("<w:p>" * depth + "<w:r><w:t>deep</w:t></w:r>" + "</w:p>" * depth)
        # Read as a tree, with a walk for every paragraph, they took seven seconds.
        assert await text_of("a.docx", data, process_with(cpu_s=1)) == "\n" * (depth - 1) + "deep"

    @pytest.mark.slow
    async def test_memory(self) -> None:
        limits = process_with(memory_bytes=64 * 2**20)
        assert "it takes more than 64 MiB" in await refusal_of(docx("<w:p/>" * 2_000_000), limits)

    @pytest.mark.slow
    async def test_processor_time(self) -> None:
        limits = process_with(cpu_s=1)
        assert "more than 1 s of the processor" in await refusal_of(docx("<w:a/>" * 10_000_000), limits)

    async def test_time_by_the_clock(self) -> None:
        assert "more than 0.01 s" in await refusal_of(docx(""), process_with(wall_s=0.01))

    async def test_the_engine_gives_no_memory_for_it(self) -> None:
        data = docx("<w:p/>" * 1_000_000)
        tracemalloc.start()
        try:
            assert await refusal_of(data)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak_bytes < 2**20

    async def test_a_reader_that_is_no_longer_wanted_ends(self) -> None:
        reading = asyncio.create_task(text_of("a.docx", docx("<w:a/>" * 5_000_000), DocumentLimits()))
        await asyncio.sleep(0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


class TestSharing:
    async def test_a_document_is_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store, reader, read = FileStore(), DocumentReader(SMALL), list[str]()
        original = DocumentReader._read

        async def noted(self: DocumentReader, file: StoredFile) -> str:
            read.append(file.name)
            return await original(self, file)

        monkeypatch.setattr(DocumentReader, "_read", noted)
        identifier = store.add("a.docx", docx(paragraph("once"))).identifier
        assert await asyncio.gather(*(reader.text_of(store, identifier) for _ in range(3))) == ["once"] * 3
        assert read == ["a.docx"]

    async def test_one_client_leaves_room_for_the_next(self) -> None:
        reader = DocumentReader(dataclasses.replace(DocumentLimits(), at_once=2))
        busy, other = FileStore(), FileStore()
        slow = docx("<w:a/>" * 5_000_000)
        waiting = [asyncio.create_task(reader.text_of(busy, busy.add(f"{n}.docx", slow).identifier)) for n in range(4)]
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            assert await reader.text_of(other, other.add("b.docx", docx(paragraph("me"))).identifier) == "me"
        assert not all(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_history_gets_its_documents_as_text_and_keeps_its_images() -> None:
    store = FileStore()
    note = store.add("note.docx", docx(paragraph("Note")))
    picture = store.add("cat.png", b"\x89PNG\r\n\x1a\n")
    parts = (
        ChatPart(type="text", text="See: "),
        ChatPart(type="file", file_id=note.identifier, file_type="text/other"),
        ChatPart(type="file", file_id=picture.identifier, file_type="unknown"),
        ChatPart(type="file", file_type="image", data=b"inline"),
    )
    (turn,) = await DocumentReader(SMALL).put_into([ChatTurn(role="user", parts=parts)], store)
    assert [part.text for part in turn.parts] == ["See: ", "Note", "", ""]
    assert [part.file_type for part in turn.parts] == [None, None, "image", "image"]
    missing = ChatTurn(role="user", parts=(ChatPart(type="file", file_id="f-1", file_type="text/plain"),))
    with pytest.raises(EngineFault, match="f-1"):
        await DocumentReader(SMALL).put_into([missing], store)
