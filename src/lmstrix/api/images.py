"""Images of a request: read here, sent to the server ahead of it, and then named by the handles that it gives."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.api.convert import image_paths
from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lmstrix.api.convert import Json
    from lmstrix.ground.types import Message


async def upload_images(messages: Sequence[Message], send: Callable[[str, Json], Awaitable[Json]]) -> dict[str, Json]:
    """The file part of every image the messages show, by its path. `send` has the server take a file, by its name."""
    parts: dict[str, Json] = {}
    for path in image_paths(messages):
        try:
            content = await asyncio.to_thread(Path(path).read_bytes)
        except OSError as exc:
            raise UsageError(f"the image {path} cannot be read ({exc.strerror}); check the path") from exc
        name = Path(path).name
        handle = await send(name, {"name": name, "contentBase64": base64.b64encode(content).decode()})
        parts[path] = {"type": "file", "name": name, **handle}
    return parts
