"""Uploaded files: what they are, their text, and that they do not outstay their client."""

from __future__ import annotations

import io
import zipfile

import pytest

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.uploads import FileStore, FileType, sniff

WORD = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>{}</w:body></w:document>'


def docx(body: str, *, head: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", head + WORD.format(body))
    return buffer.getvalue()


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


def test_text_is_read_from_documents() -> None:
    store = FileStore()
    assert store.text_of(store.add("a.md", b"\xef\xbb\xbf# Hi").identifier) == "# Hi"
    body = "<w:p><w:r><w:t>One </w:t></w:r><w:r><w:t>line</w:t></w:r></w:p><w:p/><w:p><w:r><w:t>&lt;3</w:t></w:r></w:p>"
    assert store.text_of(store.add("a.docx", docx(body)).identifier) == "One line\n\n<3"


@pytest.mark.parametrize(("name", "data"), [("a.pdf", b"%PDF-1.7"), ("a.png", b"\x89PNG\r\n\x1a\n"), ("a.bin", b"\0")])
def test_what_has_no_text_is_refused_by_name(name: str, data: bytes) -> None:
    store = FileStore()
    with pytest.raises(EngineFault, match=name) as caught:
        store.text_of(store.add(name, data).identifier)
    assert caught.value.kind == "unsupported"


@pytest.mark.parametrize("body", ["<w:p>", "&bomb;"], ids=["torn", "entities"])
def test_a_damaged_or_hostile_document_is_refused(body: str) -> None:
    store = FileStore()
    bomb = '<!DOCTYPE x [<!ENTITY bomb "boom">]>' if "bomb" in body else ""
    with pytest.raises(EngineFault, match="no readable Word document"):
        store.text_of(store.add("a.docx", docx(body, head=bomb)).identifier)


def test_uploads_have_a_limit() -> None:
    store = FileStore(max_bytes=10)
    store.add("a", b"12345678")
    with pytest.raises(EngineFault, match="No room"):
        store.add("b", b"123")
