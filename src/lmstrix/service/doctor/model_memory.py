"""Doctor on a model's memory: what it takes, where its layers go, and what would let a longer context fit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from lmstrix.core.health import Check, Improvement
from lmstrix.core.memory.prediction import breakdown
from lmstrix.ground.context_lengths import FLOOR_TOKENS
from lmstrix.ground.loads import DEFAULT_LOAD, LoadConfig
from lmstrix.ground.units import format_bytes, format_tokens
from lmstrix.ground.wording import call

if TYPE_CHECKING:
    from lmstrix.service.doctor.subject import Subject

_SMALLER_TYPE: Final = "q8_0"
_SMALLER_CACHE = LoadConfig(
    context_length=None, k_cache_type=_SMALLER_TYPE, v_cache_type=_SMALLER_TYPE, flash_attention=True
)
_WORTHWHILE = 1.05  # less more context than this nobody notices, and a prediction errs by as much

_SPLIT = "each layer in main memory makes every token slower: a shorter context or a smaller quantization"


class MemoryFigures(NamedTuple):
    """The length that was looked at, what it is predicted to take, and the longest that is predicted to fit."""

    context_length: int
    predicted_bytes: int
    predicted_limit: int | None


def memory_figures(subject: Subject) -> MemoryFigures:
    """At the tested length, else at what is loaded, else at the longest that fits, else at the declared one."""
    shape, budget = subject.shape, subject.budget
    known = budget.available_bytes is not None and not subject.is_lost_in_budget
    limit = budget.limit(shape, subject.declared, DEFAULT_LOAD) if known else None
    loaded = subject.loaded.context_length if subject.loaded is not None else None
    length = subject.record.tested_context_length or loaded or limit or subject.declared
    return MemoryFigures(length, budget.use(shape, length, DEFAULT_LOAD), limit)


def memory_check(subject: Subject, figures: MemoryFigures) -> Check:
    """Predicted, beside what is there; measured where it is loaded and told."""
    parts = breakdown(subject.shape, figures.context_length, DEFAULT_LOAD, runtime=subject.budget.runtime)
    guess = ", a guess by its size" if parts.approximate else ""
    found = (
        f"predicted {format_bytes(figures.predicted_bytes)} at {format_tokens(figures.context_length)} tokens{guess} "
        f"(weights {format_bytes(parts.weights_bytes)}, KV cache {format_bytes(parts.kv_cache_bytes)})"
    )
    if subject.loaded is not None and subject.taken is not None:
        found += (
            f"; measured {format_bytes(subject.taken.memory_bytes)} at {subject.loaded.context_length:,}, as loaded"
        )
    available = subject.budget.available_bytes
    if available is None:
        return Check(
            name="memory", state="note", found=f"{found}; what it may take is not known: {subject.budget.explained}"
        )
    if subject.is_lost_in_budget:
        return Check(name="memory", state="ok", found=f"{found}; it is loaded, in memory that is free no more")
    found += f"; it may take {format_bytes(available)}: {subject.budget.explained}"
    if figures.predicted_bytes <= available or not subject.is_read:
        return Check(name="memory", state="ok" if subject.is_read else "note", found=found)
    remedy = (
        f"close other programs or unload models, or load no more than {format_tokens(figures.predicted_limit)} tokens"
        if figures.predicted_limit
        else f"a smaller model or quantization ({call('recommend')} ranks those that are here)"
    )
    return Check(name="memory", state="note", found=f"{found}, which is less", remedy=remedy)


def layers_check(subject: Subject, figures: MemoryFigures) -> Check:
    """On which processor its layers run; measured where it is loaded and told, else predicted."""
    layers, available = subject.shape.n_layers, subject.budget.available_bytes
    name = "layers"
    taken = subject.taken
    if taken is not None and taken.gpu_layers is not None and taken.all_layers is not None:
        found = f"{taken.gpu_layers} of {taken.all_layers} on graphics cards (measured, as loaded; the output is one)"
        if 0 < taken.gpu_layers < taken.all_layers:
            return Check(name=name, state="note", found=found, remedy=_SPLIT)
        return Check(name=name, state="ok", found=found)
    if not layers or not subject.is_read:
        return Check(name=name, state="note", found="not known: its file cannot be read here")
    if not on_cards(subject):
        where = "graphics share main memory here" if _shares_memory(subject) else "no graphics card is counted on"
        return Check(name=name, state="ok", found=f"{layers} in main memory (predicted: {where})")
    if available is None or figures.predicted_bytes <= available:
        return Check(name=name, state="ok", found=f"all {layers} on the card (predicted: they fit)")
    # Each layer is taken to be of the same size, weights and cache together.
    fitting = int(layers * available / figures.predicted_bytes)
    return Check(
        name=name,
        state="note",
        found=f"about {fitting} of {layers} on the card (predicted, as if all were of one size)",
        remedy=_SPLIT,
    )


def improvements(subject: Subject, figures: MemoryFigures) -> list[Improvement]:
    """What would let more context fit, by arithmetic."""
    record, limit = subject.record, figures.predicted_limit
    if limit is None or record.kind != "llm" or not subject.is_read:
        return []
    if limit < FLOOR_TOKENS:
        gain = f"it does not fit with {FLOOR_TOKENS:,} tokens (predicted): a smaller model or quantization would"
        return [Improvement(gain=gain, how=call("recommend"), factor=float("inf"))]
    longer = subject.budget.limit(subject.shape, subject.declared, _SMALLER_CACHE)
    if record.is_mlx or longer < limit * _WORTHWHILE:
        return []
    types = {"k_cache_type": _SMALLER_TYPE, "v_cache_type": _SMALLER_TYPE}
    fit = f"{limit:,} -> {longer:,} tokens predicted to fit"
    gain = f"a KV cache of {_SMALLER_TYPE}: {fit}, recalled a little less exactly"
    return [Improvement(gain=gain, how=call("test_model", record.model_key, load=types), factor=longer / limit)]


def on_cards(subject: Subject) -> bool:
    """Whether the memory that its weights are read from is a card's."""
    budget = subject.budget
    return not _shares_memory(subject) and (
        budget.source in ("cards", "survey") or budget.limited_by == "graphics card"
    )


def _shares_memory(subject: Subject) -> bool:
    return subject.budget.source == "working set" or (sys.platform == "darwin" and subject.is_here)
