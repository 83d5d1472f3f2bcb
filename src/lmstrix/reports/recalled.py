"""Up to where a model recalls, as text: one length, or from one to another where two texts were asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.units import format_tokens

if TYPE_CHECKING:
    from lmstrix.core.registry.results import ContextResult


def recalled_text(result: ContextResult) -> str:
    """For a cell: "-" while nothing is known, "1,216-1,408" where two texts ended apart."""
    ends = result.effective_range
    if ends is None or ends[0] == ends[1]:
        return format_tokens(result.effective_context_length)
    return f"{ends[0]:,}-{ends[1]:,}"
