"""A JSON object out of a file that somebody else wrote: bounded in size, and refused with one line where it is none."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from lmstrix.ground.errors import MlxError
from lmstrix.ground.regular_files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

MAX_JSON_BYTES = 4 * 2**20
"""A config.json has some kilobytes; the index of a model in a hundred parts about two MiB."""


def parse_object(raw: bytes, name: str) -> dict[str, object]:
    """The object in `raw`, which a reader knows as `name`. A key that comes twice makes it no sane object."""
    try:
        found = json.loads(raw, object_pairs_hook=_once)
    # Deep nesting ends in the second; numbers of thousands of digits and bytes that are no text in the first.
    except (ValueError, RecursionError) as exc:
        detail = str(exc) if isinstance(exc, _TwiceError) else "is not JSON"
        raise MlxError(f"{name} {detail}: download it again", kind="corrupt") from exc
    if not isinstance(found, dict):
        raise MlxError(f"{name} is no JSON object: download it again", kind="corrupt")
    return found


def read_object(path: Path) -> dict[str, object] | None:
    """The object in the file at `path`; None where there is no such file."""
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_JSON_BYTES + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise MlxError(f"{path.name} cannot be read ({reason})", kind="unreadable") from exc
    if len(raw) > MAX_JSON_BYTES:
        raise MlxError(f"{path.name} is too big to be one", kind="corrupt")
    return parse_object(raw, path.name)


class _TwiceError(ValueError):
    pass


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _TwiceError(f"has {key[:80]!r} twice")
    return found
