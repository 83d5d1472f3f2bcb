"""Word documents for tests: what a body says, zipped as Word does."""

from __future__ import annotations

import io
import zipfile

NAMESPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
COMPATIBILITY = "http://schemas.openxmlformats.org/markup-compatibility/2006"


def document(body: str, *, head: str = "") -> str:
    """The XML of a document with this body."""
    return f'{head}<w:document xmlns:w="{NAMESPACE}" xmlns:mc="{COMPATIBILITY}"><w:body>{body}</w:body></w:document>'


def docx(body: str, *, head: str = "") -> bytes:
    """A Word file with this body."""
    return zipped(document(body, head=head).encode())


def zipped(xml: bytes) -> bytes:
    """A Word file with exactly this document."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        # A set time makes the bytes the same each time: tests are named by their parameters.
        document_entry = zipfile.ZipInfo("word/document.xml", date_time=(2026, 1, 1, 0, 0, 0))
        archive.writestr(document_entry, xml, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def paragraph(text: str) -> str:
    """A paragraph of one piece of text."""
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"
