"""How many tokens a text has, as far as it can be known here; a count always says whether it is exact.

Only the loaded model counts exactly. Without one the count is an estimate, by the first of these that is at hand:
tiktoken's vocabulary (wrong for a local model, yet close for prose and code), the bytes per token that this model's
earlier prompts had, four bytes per token. tiktoken downloads its vocabulary when it is missing or damaged and can hang
while it does, so it is asked only after the file has been found whole where tiktoken will look.
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Method = Literal["model", "tiktoken", "earlier prompts", "bytes"]
TYPICAL_BYTES_PER_TOKEN = 4.0
_ENCODING = "cl100k_base"
_ENCODING_URL = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
_ENCODING_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """A number of tokens, and what it was counted by."""

    tokens: int
    method: Method

    @property
    def exact(self) -> bool:
        return self.method == "model"


def estimate_tokens(text: str, *, bytes_per_token: float | None = None) -> TokenCount:
    """The best count without a model. `bytes_per_token` is what earlier prompts to it had, None when unknown."""
    encode = _tiktoken_encoder()
    if encode is not None:
        return TokenCount(tokens=len(encode(text)), method="tiktoken")
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    ratio = bytes_per_token or TYPICAL_BYTES_PER_TOKEN
    return TokenCount(tokens=math.ceil(size_bytes / ratio), method="earlier prompts" if bytes_per_token else "bytes")


def cached_vocabulary(environ: Mapping[str, str]) -> Path | None:
    """tiktoken's vocabulary in its cache, if it is there and whole."""
    import hashlib

    folder = environ.get("TIKTOKEN_CACHE_DIR", environ.get("DATA_GYM_CACHE_DIR"))
    if folder == "":
        return None  # caching is switched off: tiktoken would download
    # tiktoken names the file so, and looks in these places.
    name = hashlib.sha1(_ENCODING_URL.encode(), usedforsecurity=False).hexdigest()
    file = Path(folder or Path(tempfile.gettempdir()) / "data-gym-cache") / name
    try:
        whole = hashlib.sha256(file.read_bytes()).hexdigest() == _ENCODING_SHA256
    except OSError:
        return None
    return file if whole else None


def _tiktoken_encoder() -> Callable[[str], list[int]] | None:
    if cached_vocabulary(os.environ) is None:
        return None
    import tiktoken

    return tiktoken.get_encoding(_ENCODING).encode_ordinary
