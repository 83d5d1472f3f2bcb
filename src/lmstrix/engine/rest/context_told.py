"""Headers that say which context an answer had, and where that length is from: bodies have no place for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import web

if TYPE_CHECKING:
    from lmstrix.engine.instance import Instance

LENGTH_HEADER: Final = "X-LMStrix-Context-Length"
SOURCE_HEADER: Final = "X-LMStrix-Context-Source"
_R = TypeVar("_R", bound=web.StreamResponse)


def telling_context(response: _R, instance: Instance) -> _R:
    """`response` with the headers, unless its headers have gone out already."""
    if not response.prepared:
        response.headers[LENGTH_HEADER] = str(instance.context_length)
        response.headers[SOURCE_HEADER] = instance.context_source
    return response
