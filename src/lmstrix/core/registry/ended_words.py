"""What ended a test, as a line of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.units import format_tokens
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from lmstrix.core.registry.results import ContextResult


def ended_line(result: ContextResult) -> str | None:
    """What ended a test, in a line; None where its outcome says it."""
    bad = result.last_known_bad
    match result.ended_by:
        case "declared":
            return f"it holds all {format_tokens(result.loadable_context_length)} tokens that it declares"
        case "memory_at_load":
            return f"memory: {bad:,} tokens did not load" if bad else "memory: more would probably not load"
        case "memory_at_prefill":
            failed = f"{bad:,} tokens could not be filled" if bad else "more could probably not be filled"
            return f"memory: {failed}"
        case "memory_spilled":
            return result.ended_detail or "memory spilled: more would be answered many times as slowly"
        case "recall":
            loadable, effective = result.loadable_context_length, result.effective_context_length
            return f"recall: {format_tokens(loadable)} tokens load, {format_tokens(effective)} are recalled"
        case "guardrail":
            return "the server's guardrail lets no more through: the limit may be higher"
        case "threshold":
            return f"no more was tried ({parameter('threshold')}): the limit may be higher"
        case "headroom":
            return "more would not leave the memory free that safety.headroom asks for: the limit may be higher"
        case "asked_length":
            return f"only this length was tried ({parameter('context_length')}): the limit may be higher"
        case "time_budget":
            return f"the time budget ({parameter('budget_s')}) was spent: the limit may be higher"
    return None
