"""Images and texts that come from a web address or from stdin, brought where those of files are.

An image becomes a file: of the home, where conversations are kept and show it again, else of a folder that the caller
deletes. It is named after its bytes, so that the same one is kept once.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.answers.conversations import CONVERSATIONS
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.files import PRIVATE, make_private_folder, write_whole
from lmstrix.ground.held_files import read_whole, remove_file
from lmstrix.loaders.contexts import MAX_TEXT_BYTES, decode_text
from lmstrix.loaders.images import MAX_IMAGE_BYTES, check_image_file, image_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.service.workspace import Workspace

_UNUSED_S = 24 * 3600.0
"""How long an image is kept that no conversation shows: the command that fetched it may still be running."""


async def fetch_text(workspace: Workspace, address: str) -> str:
    """The text at a web address."""
    from lmstrix.api.download import download

    data = await download(address, max_bytes=MAX_TEXT_BYTES, ca_file=workspace.settings.ca_file)
    return decode_text(data, source=address)


async def fetch_image(workspace: Workspace, address: str, folder: Path | None = None) -> str:
    """The image at a web address, as the path of a file."""
    from lmstrix.api.download import download

    data = await download(address, max_bytes=MAX_IMAGE_BYTES, ca_file=workspace.settings.ca_file)
    return keep_image(workspace, data, source=address, folder=folder)


def keep_image(workspace: Workspace, data: bytes, *, source: str, folder: Path | None = None) -> str:
    """An image as the path of a file, in the home unless a `folder` is given. Raises UsageError for what is none."""
    kind = image_format(data)
    if kind is None:
        what = "is no image" if data else "is empty"
        raise UsageError(f"{source} {what}; give a PNG or JPEG")
    place = folder or workspace.paths.own / "attachments"
    make_private_folder(place)
    if folder is None:
        with suppress(OSError):  # what cannot be tidied now is tidied the next time
            _forget_unused(place, workspace.paths.own / CONVERSATIONS)
    file = place / f"{hashlib.sha256(data).hexdigest()[:32]}.{kind.lower()}"
    write_whole(file, data, mode=PRIVATE, durable=False)
    check_image_file(str(file))
    return str(file)


def delete_conversation(workspace: Workspace, name: str) -> None:
    """Delete a conversation, and the images that were kept for it alone."""
    try:
        images = [Path(image) for message in workspace.conversations.load(name).messages for image in message.images]
    except LMStrixError:  # a damaged one tells of no images, and can be deleted all the same
        images = []
    workspace.conversations.delete(name)
    place = workspace.paths.own / "attachments"
    with suppress(OSError):  # what cannot be tidied now is tidied with the next image
        _remove_unshown([image for image in images if image.parent == place], workspace.paths.own / CONVERSATIONS)


def _forget_unused(place: Path, conversations: Path) -> None:
    """Remove the images that no conversation shows any more."""
    limit = time.time() - _UNUSED_S
    _remove_unshown([file for file in place.iterdir() if file.stat().st_mtime < limit], conversations)


def _remove_unshown(images: Sequence[Path], conversations: Path) -> None:
    if not images:
        return
    shown = b"".join(read_whole(file) for file in conversations.glob("*.json"))
    for image in images:
        if image.name.encode() not in shown:
            remove_file(image)
