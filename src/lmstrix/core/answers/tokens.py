"""How many tokens a text has, as far as it can be known here; a count always says whether it is exact.

Only the loaded model counts exactly. Without one the count is an estimate, by the first of these that is at hand:
tiktoken's vocabulary (wrong for a local model, yet close for prose and code), what this model's earlier prompts took,
four bytes per token. tiktoken downloads its vocabulary when it is missing or damaged and can hang while it does, so it
is asked only after the file has been found whole where tiktoken will look.

Every chat prompt carries the template's own tokens, which are most of a short prompt and nothing of a long one. So what
is learnt from earlier prompts is a line, tokens = template + bytes x tokens per byte: least squares in which each
prompt counts by how far off such a line usually is for its size, those far off it count less (Huber), and a few
prompts pull it only so far from what is typical. Traded away: one line knows no languages; a text of another kind than
the earlier ones is estimated by theirs.
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Method = Literal["model", "tiktoken", "earlier prompts", "bytes"]
TYPICAL_BYTES_PER_TOKEN = 4.0
MOST_BYTES_PER_TOKEN = 256
"""Twice the longest token known: the 128 spaces of cl100k_base, which Llama 3, Qwen and others took over."""
_MOST_TIKTOKEN_CHARS = 2**20  # it reads some megabytes a second; of more, a part is counted
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLine:
    """What a prompt to one model takes: `template_tokens` whatever it says, and `tokens_per_byte` of its text."""

    template_tokens: float
    tokens_per_byte: float

    def tokens(self, size_bytes: int) -> int:
        """The estimate for a text of so many bytes; an empty one has none, since it is not sent."""
        return math.ceil(self.template_tokens + self.tokens_per_byte * size_bytes) if size_bytes else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prior:
    """What a line is held to be before any prompt was seen, and the bounds it is never believed beyond."""

    tokens_per_byte: float = 1 / TYPICAL_BYTES_PER_TOKEN
    tokens_per_byte_spread: float = 0.1  # prose 0.2 to 0.3, code 0.3 to 0.4, languages a vocabulary knows badly 0.5
    template_tokens: float = 16.0  # ChatML 9, Llama 3 with its date 36; with a default system prompt 30
    template_tokens_spread: float = 64.0
    least_tokens_per_byte: float = 1 / 8
    most_tokens_per_byte: float = 1.0  # bytes without any longer token
    most_template_tokens: float = 1024.0
    text_spread_ratio: float = 0.3  # how far texts of one kind differ in tokens per byte
    count_spread_tokens: float = 2.0


_PRIOR = _Prior()
_HUBER = 1.5  # in spreads: what lies farther off counts by its distance, not by its square
_PASSES = 8  # settled to a tenth of a token long before


def learn_line(counted: Sequence[tuple[int, int]]) -> PromptLine | None:
    """The line through earlier prompts, each (bytes of its text, tokens in all); None where there are none."""
    if not counted:
        return None
    line = PromptLine(template_tokens=_PRIOR.template_tokens, tokens_per_byte=_PRIOR.tokens_per_byte)
    for _ in range(_PASSES):
        line = _fitted(counted, line)
    return line


def _fitted(counted: Sequence[tuple[int, int]], last: PromptLine) -> PromptLine:
    """One pass: the least squares with weights by the last line. The prior stands in it as two more observations."""
    prior = _PRIOR
    a_weight, b_weight = prior.template_tokens_spread**-2, prior.tokens_per_byte_spread**-2
    aa, ab, bb = a_weight, 0.0, b_weight
    a_sum, b_sum = a_weight * prior.template_tokens, b_weight * prior.tokens_per_byte
    for size, tokens in counted:
        spread = prior.text_spread_ratio * last.tokens_per_byte * size + prior.count_spread_tokens
        off = abs(tokens - last.template_tokens - last.tokens_per_byte * size) / spread
        weight = spread**-2 * min(1.0, _HUBER / off if off else 1.0)
        aa, ab, bb = aa + weight, ab + weight * size, bb + weight * size * size
        a_sum, b_sum = a_sum + weight * tokens, b_sum + weight * tokens * size
    slope = (aa * b_sum - ab * a_sum) / (aa * bb - ab * ab)
    slope = min(max(slope, prior.least_tokens_per_byte), prior.most_tokens_per_byte)
    # After the slope is bounded: the share of the template is what the bounded slope leaves over.
    template = min(max((a_sum - ab * slope) / aa, 0.0), prior.most_template_tokens)
    return PromptLine(template_tokens=template, tokens_per_byte=slope)


def size_bytes(text: str) -> int:
    """The bytes of a text in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def estimate_tokens(text: str, *, line: PromptLine | None = None) -> TokenCount:
    """The best count without a model. `line` is what earlier prompts to it taught, None when there were none."""
    encode = _tiktoken_encoder()
    if encode is not None:
        part = text[:_MOST_TIKTOKEN_CHARS]
        tokens = len(encode(part)) * (len(text) / len(part)) if part else 0.0
        template = line.template_tokens if line is not None and text else 0.0
        return TokenCount(tokens=math.ceil(tokens + template), method="tiktoken")
    if line is not None:
        return TokenCount(tokens=line.tokens(size_bytes(text)), method="earlier prompts")
    return TokenCount(tokens=math.ceil(size_bytes(text) / TYPICAL_BYTES_PER_TOKEN), method="bytes")


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
    try:
        import tiktoken
    except ImportError:  # nobody publishes it for Windows on ARM
        return None
    return tiktoken.get_encoding(_ENCODING).encode_ordinary
