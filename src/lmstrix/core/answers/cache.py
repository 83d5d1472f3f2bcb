"""Answers of earlier calls, for calls that are exactly the same: model file, messages, images, sampling and limits.

One JSON file per answer, named by the hash of all of these. Only used where asked for: sampled answers differ each
time, and a cached one never does. Losing an entry costs nothing, so a file that cannot be read or written is no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.ground.files import PRIVATE, make_private_folder, write_whole
from lmstrix.ground.held_files import read_whole
from lmstrix.ground.types import GenerationResult, GenerationStats

if TYPE_CHECKING:
    from lmstrix.ground.types import GenerationRequest


def request_key(request: GenerationRequest, *, model: str, limit: float | None) -> str:
    """The name of a request. `model` identifies the file, `limit` the room for the answer as it was asked for."""
    # By content: the same path may hold another picture by now.
    images = {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for m in request.messages for path in m.images}
    described = json.dumps([model, limit, asdict(request), images], sort_keys=True)
    return hashlib.sha256(described.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class ResponseCache:
    """The cache in `folder`."""

    folder: Path

    def read(self, key: str) -> GenerationResult | None:
        """The answer kept under `key`, or None."""
        try:
            found = json.loads(read_whole(self._file(key)))
            # A file of an earlier version with other fields raises TypeError, and is no hit.
            return GenerationResult(**{**found, "stats": GenerationStats(**found["stats"])})
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def write(self, key: str, result: GenerationResult) -> None:
        """Keep an answer. One that calls tools is never cached, so there are no tool calls to keep."""
        kept = {name: value for name, value in asdict(result).items() if name != "tool_calls"}
        with contextlib.suppress(OSError):
            make_private_folder(self.folder)
            write_whole(self._file(key), json.dumps(kept), mode=PRIVATE, durable=False)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"
