"""`/files`: uploads and the text of documents. A client sees its own files only."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Final

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.identity import PACKAGE
from lmstrix.engine.protocol.endpoints import parameters
from lmstrix.engine.protocol.session import EndpointNamespace, RpcRequest, ServerChannel
from lmstrix.engine.uploads import sniff
from lmstrix.ground.version import __version__

if TYPE_CHECKING:
    from lmstrix.engine.access import ClientIdentity
    from lmstrix.engine.state import EngineState
    from lmstrix.engine.uploads import FileStore, FileType

_PARSER: Final = {"library": PACKAGE, "version": __version__}
_SLICE_CHARACTERS: Final = 2**20
"""Decoded in one go; other threads wait for so long. A multiple of four, as base64 goes by fours."""


def files_namespace(state: EngineState) -> EndpointNamespace:
    """`/files`."""
    files = Files(state)
    return EndpointNamespace(
        calls={
            "uploadFileBase64": files.upload_file_base64,
            "getLocalFileAbsolutePath": files.get_local_file_absolute_path,
            "getDocumentParsingLibrary": files.get_document_parsing_library,
        },
        channels={"parseDocument": files.parse_document, "retrieve": files.retrieve},
    )


class Files:
    """Handlers of `/files`."""

    def __init__(self, state: EngineState) -> None:
        self._state = state

    def _store(self, client: ClientIdentity) -> FileStore:
        return self._state.files.of(client)

    async def upload_file_base64(self, request: RpcRequest) -> object:
        """Keep a file for as long as the client stays."""
        name = parameters.required_text(request.parameter, "name")
        content = parameters.required_text(request.parameter, "contentBase64")
        try:
            # In a thread: half a second for the largest file there may be, in which the loop would answer nobody.
            data, file_type = await asyncio.to_thread(_decoded, name, content)
        except ValueError as exc:  # also for what is no ASCII
            raise EngineFault("contentBase64 is not valid base64.", kind="invalid") from exc
        stored = self._store(request.client).add(name, data, file_type)
        return {"identifier": stored.identifier, "fileType": stored.file_type, "sizeBytes": stored.size_bytes}

    async def get_local_file_absolute_path(self, request: RpcRequest) -> object:
        """Refused: uploads are kept in memory."""
        name = parameters.required_text(request.parameter, "fileName")
        raise EngineFault(f"{name} has no path: uploaded files are kept in memory.", kind="unsupported")

    async def get_document_parsing_library(self, request: RpcRequest) -> object:
        """What reads a document: we do."""
        # An unknown file is an error here too, before a client asks for its text.
        self._store(request.client).get(parameters.required_text(request.parameter, "fileIdentifier"))
        return _PARSER

    async def parse_document(self, channel: ServerChannel) -> None:
        """The text of a document."""
        identifier = parameters.required_text(channel.parameter, "fileIdentifier")
        text = await self._state.documents.text_of(self._store(channel.client), identifier)
        await channel.send({"type": "parserLoaded", "parser": _PARSER})
        await channel.send({"type": "progress", "progress": 1})
        await channel.send({"type": "result", "content": text, "parser": _PARSER})

    async def retrieve(self, _channel: ServerChannel) -> None:
        """Refused: there is no index to search."""
        raise EngineFault(
            "The embedded engine does not search in files.",
            kind="unsupported",
            suggestion="Put the text into the prompt, or embed and search it yourself.",
        )


def _decoded(name: str, content: str) -> tuple[bytes, FileType]:
    """An uploaded file and its type. Raises ValueError."""
    data = bytearray()
    for start in range(0, len(content), _SLICE_CHARACTERS):
        piece = content[start : start + _SLICE_CHARACTERS]
        # Strictly: lenient decoding would skip what is not base64 and store a damaged file.
        data += base64.b64decode(piece, validate=True)
        if "=" in piece[-2:] and start + len(piece) < len(content):
            raise ValueError("the content ends before its end")
    whole = bytes(data)
    return whole, sniff(name, whole)
