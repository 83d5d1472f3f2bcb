"""Which numbers may be asked for, each range once: the command line, the settings and the Python API go by the same.

A range belongs to a field's name, because one name means one thing in every record: `check_numbers` walks a record and
refuses what no server could honour, or what two servers would take for two things. A record that takes more than the
name says, a share beside the tokens, brings the range with its field: `field(default=None, metadata=in_range(…))`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

_RANGE = "range"
_INT32_MAX = 2**31 - 1  # what llama.cpp counts tokens with


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRange:
    """The numbers from `least` to `most`, without `least` itself when `above` it. `or_share`: a float is a share."""

    least: float
    most: float
    above: bool = False
    whole: bool = False
    or_share: bool = False

    def __str__(self) -> str:
        return f"{'more than' if self.above else 'at least'} {self.least:,}, at most {self.most:,}"

    def check(self, value: object, what: str) -> None:
        """Raise UsageError, naming `what` was given the value, unless it is in the range."""
        if self.or_share and isinstance(value, float):
            SHARE.check(value, what)
            return
        # True is the number 1 to Python, and never what somebody means who writes it here.
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise UsageError(f"{what}: {value!r} is not a number")
        if self.whole and not isinstance(value, int):
            raise UsageError(f"{what}: {value!r} is not a whole number")
        if not self.least <= value <= self.most or (self.above and value == self.least):
            raise UsageError(f"{what}: {_shown(value)} is out of range ({self})")


def _shown(value: float) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if abs(value) < 10**15 else "a number that long"


SHARE = NumberRange(least=0, most=1, above=True)
FROM_0_TO_1 = NumberRange(least=0, most=1)
COUNT = NumberRange(least=1, most=_INT32_MAX, whole=True)
COUNT_OR_NONE = NumberRange(least=0, most=_INT32_MAX, whole=True)
TOKENS = COUNT
CONTEXT_OR_SHARE = NumberRange(least=0, most=_INT32_MAX, whole=True, or_share=True)
"""0 stands for the context that the server would choose."""
TOKENS_OR_SHARE = NumberRange(least=1, most=_INT32_MAX, whole=True, or_share=True)
BYTES = NumberRange(least=1, most=2**60, whole=True)
DURATION = NumberRange(least=0, most=10 * 365 * 86_400, above=True)
"""Ten years: beyond, clocks and servers' milliseconds overflow. A limit of no time at all would refuse everything."""
IDLE = NumberRange(least=0, most=10 * 365 * 86_400)
WATCH_INTERVAL = NumberRange(least=0.2, most=86_400)
"""Looks that follow each other faster would be felt by what they look at."""
TEMPERATURE = NumberRange(least=0, most=100)
"""Below 0 the likeliest tokens would become the rarest. Above: servers take any, and at 100 all tokens are alike."""
PENALTY = NumberRange(least=0, most=100, above=True)
"""llama.cpp divides by it."""
ADDED_PENALTY = NumberRange(least=-100, most=100)
"""Taken off a token's logit; OpenAI allows 2 either way, llama.cpp any number. Beyond 100 nothing changes any more."""
SEED = NumberRange(least=0, most=2**32 - 2, whole=True)
"""llama.cpp's 32 bits, less the one value (all bits set) that it takes for "draw a seed"."""
SLOTS = NumberRange(least=1, most=256, whole=True)
"""llama.cpp's LLAMA_MAX_SEQ."""
BATCH = NumberRange(least=2, most=_INT32_MAX, whole=True)
"""llama.cpp tries a model with two tokens at once when it is loaded, and aborts where a batch has no room for them."""
THREADS = NumberRange(least=1, most=512, whole=True)
"""ggml's GGML_MAX_N_THREADS."""
DAYS = NumberRange(least=0, most=100_000, above=True)
"""What can be taken off today's date."""

RANGES: Mapping[str, NumberRange] = {
    # answers
    "temperature": TEMPERATURE,
    "top_k": COUNT_OR_NONE,
    "top_p": FROM_0_TO_1,
    "min_p": FROM_0_TO_1,
    "repeat_penalty": PENALTY,
    "presence_penalty": ADDED_PENALTY,
    "frequency_penalty": ADDED_PENALTY,
    "mirostat": NumberRange(least=0, most=2, whole=True),
    "mirostat_tau": NumberRange(least=0, most=100),
    "mirostat_eta": SHARE,
    "seed": SEED,
    "max_tokens": TOKENS,
    "max_rounds": COUNT,
    "parallel": SLOTS,
    "ttl_s": IDLE,
    # waiting
    "timeout_s": DURATION,
    "load_s": DURATION,
    "request_s": DURATION,
    "connect_s": DURATION,
    "first_token_s": DURATION,
    "between_tokens_s": DURATION,
    "silence_s": DURATION,
    "total_s": DURATION,
    # loads
    "default_context_length": TOKENS,
    "memory_limit_bytes": BYTES,
    "jit_ttl_s": DURATION,
    "context_length": TOKENS,
    "gpu_ratio": FROM_0_TO_1,
    "parallel_slots": SLOTS,
    "eval_batch_size": BATCH,
    "threads": THREADS,
    "rope_frequency_base": NumberRange(least=0, most=1e12, above=True),
    "rope_frequency_scale": NumberRange(least=0, most=1e6, above=True),
    # tests and benchmarks
    "threshold": TOKENS,
    "load_timeout_s": DURATION,
    "budget_s": DURATION,
    "runs": COUNT,
    "blocks": NumberRange(least=1, most=200, whole=True),
    "tiers": COUNT_OR_NONE,
    "concurrency": SLOTS,
    "settled_ratio": SHARE,
    "rates_per_s": NumberRange(least=0, most=1000, above=True),
    "span_s": DURATION,
    "ttft_s": DURATION,
    "itl_s": DURATION,
    "e2e_s": DURATION,
    "passes": COUNT,
    "idle_s": IDLE,
    # wishes and settings
    "min_context_length": TOKENS,
    "max_memory_bytes": BYTES,
    "log_keep_days": DAYS,
    "connect_timeout_s": DURATION,
    "retries": NumberRange(least=0, most=100, whole=True),
    "log_max_bytes": BYTES,
}


def in_range(allowed: NumberRange) -> Mapping[str, NumberRange]:
    """The metadata of a field whose range is not that of its name."""
    return {_RANGE: allowed}


def check_number(name: str, value: object, allowed: NumberRange | None = None) -> None:
    """Raise UsageError unless the value is in the range, by default that of its name.

    None and names without a range may hold anything.
    """
    allowed = allowed or RANGES.get(name)
    if allowed is None or value is None:
        return
    for each in value if isinstance(value, tuple | list) else (value,):
        allowed.check(each, name)


def check_numbers(record: DataclassInstance) -> None:
    """Raise UsageError for the first number of a record, or of a record in it, that is out of its range."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            check_numbers(value)
        else:
            check_number(field.name, value, field.metadata.get(_RANGE))
