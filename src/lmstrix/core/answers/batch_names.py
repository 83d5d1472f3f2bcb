"""Names of a batch's files: readable, the same in every run, different for different things, safe on every file system.

A name that is cleaned or shortened, or that a file system without case would take for another, gets a short hash of
what it stands for. All other names depend on nothing but themselves, so that more inputs do not rename the answers that
are there.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Bytes, as file systems count: two such names, their hashes, the ending and what a file being written adds to its name
# stay below 255.
MAX_NAME_BYTES = 100
FOLDER_MARK = "~"  # in the place of the slashes of an input's path
_HASHED = re.compile(r".*-[0-9a-f]{8}")  # a name that looks like one with a hash must not be taken for it
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, invisible marks, halves of surrogate pairs, separators of lines


def input_name(path: str) -> str:
    """The name of an input file: its path as it was given, without the .txt that an answer's file has too."""
    pure = PurePath(path)
    parts = [part for part in pure.parts if part != pure.anchor]
    return FOLDER_MARK.join(parts).removesuffix(".txt")


def file_names(named: Iterable[tuple[str, str]]) -> list[str]:
    """A safe name for each (name, identity), different where the identities are, whatever the file system."""
    pairs = list(named)
    clean = [_safe(name) for name, _ in pairs]
    # Some file systems tell neither "Story" from "story" nor the two ways to write an é apart.
    often = Counter(_folded(name) for name in clean)
    return [
        safe
        if safe and safe == name and often[_folded(safe)] == 1 and not _HASHED.fullmatch(safe)
        else f"{safe or 'unnamed'}-{_short_hash(identity)}"
        for safe, (name, identity) in zip(clean, pairs, strict=True)
    ]


def _safe(name: str) -> str:
    from pathvalidate import sanitize_filename

    shown = "".join("_" if unicodedata.category(character) in _UNSAFE else character for character in name)
    cleaned = sanitize_filename(shown.strip(), replacement_text="_", platform="universal")
    # Two underscores separate a prompt's name from an input's, so neither may have them, or one at its end.
    cleaned = re.sub("__+", "_", cleaned).encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    # With a dash at its beginning a name would be an option to the next program, with a dot it would be hidden.
    return cleaned.lstrip(" ._-").rstrip(" ._")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
