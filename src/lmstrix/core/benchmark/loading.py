"""How a cell is loaded: with the context of the plan, or with less where the user wants memory left free.

The bare prompt asks for no length and makes do with less; a tier is measured whole or not at all, for a shorter one
would be another measurement.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.benchmark.plan import least_context_length
from lmstrix.ground.errors import HeadroomError
from lmstrix.ground.headroom import NAME
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from lmstrix.core.benchmark.measuring import BenchServer
    from lmstrix.core.benchmark.records import Cell
    from lmstrix.ground.loads import LoadConfig


async def load_of_cell(server: BenchServer, cell: Cell, load: LoadConfig) -> LoadConfig:
    """The settings to load a cell with now. Raises HeadroomError where that would not leave the headroom free."""
    config = replace(load, context_length=cell.context_length, parallel_slots=cell.concurrency)
    wanted = cell.context_length
    # Asked before each load, as an answer asks: what is free changes in the hours of a session.
    room_tokens = None if server.room is None or wanted is None else await server.room(cell.target, config)
    if room_tokens is None or wanted is None or wanted <= room_tokens:
        return config
    if not cell.tier_tokens and room_tokens >= least_context_length(cell):
        return replace(config, context_length=room_tokens)
    raise HeadroomError(_refusal(cell, wanted, room_tokens), model_key=cell.target.model_key)


def _refusal(cell: Cell, wanted: int, room_tokens: int) -> str:
    key = cell.target.model_key
    if not room_tokens:
        return f"{key} fits at no context beside what {NAME} keeps free; make that less"
    times = f" ({cell.concurrency} at a time)" if cell.concurrency > 1 else ""
    needed = wanted if cell.tier_tokens else least_context_length(cell)
    lower = parameter("tiers" if cell.tier_tokens else "max_tokens")
    return (
        f"{key}: {needed:,} tokens{times} are needed, and {room_tokens:,} fit beside what {NAME} keeps free; "
        f"make that less, or lower {lower}"
    )
