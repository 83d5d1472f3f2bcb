"""Which model for which work, from what is known of each: proven contexts, predicted memory, logged speeds. Pure.

What a wish asks for outright (the kind of work, context, memory) rules models out, each with its reason. Those left are
ranked by two guesses scaled to 0..1 among themselves: quality, which grows with the logarithm of parameters and shrinks
with coarse quantization; and speed, measured where the log has it, else as if all weights were read for each token. A
proven context counts a little on top. Traded away: "quality" is size alone, no benchmark of answers stands behind it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.ranges import check_numbers
from lmstrix.ground.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmstrix.ground.choices import Preference, WorkKind
    from lmstrix.ground.types import ModelKind

_QUALITY_SHARE: dict[Preference, float] = {"speed": 0.2, "balanced": 0.5, "quality": 0.85}
_PROVEN_BONUS = 0.1
_CODE_BONUS = 0.3
_CODE_NAMES = re.compile(r"cod(e|er|ing)|devstral|starcoder|codestral", re.IGNORECASE)
_PARAMS = re.compile(r"(?<![A-Za-z\d.])(\d+(?:\.\d+)?)\s*([BM])", re.IGNORECASE)
_ASSUMED_BYTES_PER_SECOND = 40e9
"""Memory bandwidth of a plain machine: only the order of unmeasured models depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is known of one model. `memory_bytes` is what a load at the wished context is predicted to take; not
    `tested_is_limit` says that a longer context than the tested one has not been tried. One that `is_loaded` with that
    context needs no more memory.
    """

    model_key: str
    kind: ModelKind = "llm"
    size_bytes: int
    memory_bytes: int
    params: str | None = None
    bits: int | None = None
    max_context_length: int | None = None
    tested_context_length: int | None = None
    tested_is_limit: bool = True
    test_failed: bool = False
    vision: bool = False
    trained_for_tool_use: bool = False
    decode_tokens_per_second: float | None = None
    is_loaded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the model is for. `budget_bytes` is what one more model may take; None does not limit."""

    task: WorkKind = "chat"
    min_context_length: int | None = None
    max_memory_bytes: int | None = None
    budget_bytes: int | None = None
    prefer: Preference = "balanced"

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One model that serves. `speed_measured` tells a logged speed from a guessed one."""

    candidate: Candidate
    score: float
    decode_tokens_per_second: float
    speed_measured: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Models that serve, best first, and why the others do not.

    `budget_bytes` is the memory that was reckoned with, None where nothing limits; `budget_source` says whose it is.
    """

    ranked: tuple[Recommendation, ...]
    ruled_out: tuple[tuple[str, str], ...]
    budget_bytes: int | None = None
    budget_source: str = ""

    @property
    def obstacles(self) -> str:
        """One line on why nothing serves."""
        told = "; ".join(f"{key} {why}" for key, why in self.ruled_out[:3])
        more = len(self.ruled_out) - 3
        return (told or "there are no models yet") + (f"; and {more} more" if more > 0 else "")


def recommend(candidates: Iterable[Candidate], wish: Wish, *, budget_source: str = "") -> Advice:
    """Rank the models that serve a wish; `budget_source` says whose memory its budget is."""
    serving: list[Candidate] = []
    ruled_out: list[tuple[str, str]] = []
    for candidate in candidates:
        obstacle = _obstacle(candidate, wish)
        if obstacle is None:
            serving.append(candidate)
        else:
            ruled_out.append((candidate.model_key, obstacle))
    qualities = _scaled([_quality(candidate) for candidate in serving])
    # Logarithms: twice as fast counts the same between slow models as between fast ones.
    speeds = _scaled([math.log(_speed(candidate)) for candidate in serving])
    share = _QUALITY_SHARE[wish.prefer]
    ranked = [
        Recommendation(
            candidate=candidate,
            score=share * quality + (1 - share) * speed + _bonus(candidate, wish),
            decode_tokens_per_second=_speed(candidate),
            speed_measured=candidate.decode_tokens_per_second is not None,
            reasons=_reasons(candidate, wish),
        )
        for candidate, quality, speed in zip(serving, qualities, speeds, strict=True)
    ]
    # By name where scores are equal, so that the order is the same each time.
    ranked.sort(key=lambda item: (-item.score, item.candidate.model_key))
    return Advice(
        ranked=tuple(ranked),
        ruled_out=tuple(ruled_out),
        budget_bytes=wish.budget_bytes,
        budget_source=budget_source,
    )


def _obstacle(candidate: Candidate, wish: Wish) -> str | None:
    """Why a model does not serve, or None."""
    if (wish.task == "embedding") != (candidate.kind == "embedding"):
        return "makes embeddings only" if candidate.kind == "embedding" else "makes no embeddings"
    if wish.task == "vision" and not candidate.vision:
        return "takes no images"
    if wish.task == "tools" and not candidate.trained_for_tool_use:
        return "is not trained to call tools"
    if candidate.test_failed and not candidate.tested_context_length:
        return "failed its context test"
    is_proven = bool(candidate.tested_context_length and candidate.tested_is_limit)
    context = (candidate.tested_context_length if is_proven else candidate.max_context_length) or 0
    if wish.min_context_length and context < wish.min_context_length:
        proven = "proven" if is_proven else "declared"
        return f"has {context:,} tokens of context ({proven})"
    most, budget = wish.max_memory_bytes, wish.budget_bytes
    if most is not None and candidate.memory_bytes > most:
        return f"takes {format_bytes(candidate.memory_bytes)}, more than {format_bytes(most)}"
    if budget is not None and candidate.memory_bytes > budget and not candidate.is_loaded:
        return f"takes {format_bytes(candidate.memory_bytes)}, more than the {format_bytes(budget)} that are there"
    return None


def billions_of(params: str | None) -> float | None:
    """Parameters in billions from "8B", "30B-A3B" (the whole, not the active ones) or "270M"."""
    match = _PARAMS.search(params or "")
    if match is None:
        return None
    return float(match[1]) / (1000 if match[2].upper() == "M" else 1) or None


def _quality(candidate: Candidate) -> float:
    bits = min(candidate.bits or 4, 8)  # eight bits lose nothing that shows; four are what most downloads have
    billions = billions_of(candidate.params) or max(candidate.size_bytes, 1) * 8 / bits / 1e9
    return math.log2(billions) - 1.5 * 2.0 ** (2 - bits)  # two bits cost as much as losing two thirds of the size


def _speed(candidate: Candidate) -> float:
    return candidate.decode_tokens_per_second or _ASSUMED_BYTES_PER_SECOND / max(candidate.size_bytes, 1)


def _bonus(candidate: Candidate, wish: Wish) -> float:
    bonus = _PROVEN_BONUS if candidate.tested_context_length else 0.0
    return bonus + (_CODE_BONUS if wish.task == "code" and _CODE_NAMES.search(candidate.model_key) else 0.0)


def _reasons(candidate: Candidate, wish: Wish) -> tuple[str, ...]:
    tested = candidate.tested_context_length
    further = "" if candidate.tested_is_limit else ", not tested further"
    reasons = [f"{tested:,} tokens proven{further}" if tested else "context not tested yet"]
    if candidate.is_loaded:
        reasons.append("loaded now")
    if candidate.params:
        reasons.append(candidate.params)
    if wish.task == "code" and _CODE_NAMES.search(candidate.model_key):
        reasons.append("made for code")
    return tuple(reasons)


def _scaled(values: Sequence[float]) -> list[float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [1.0 if high == low else (value - low) / (high - low) for value in values]
