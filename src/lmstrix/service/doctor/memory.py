"""Doctor on memory: what is free, what limits it, each graphics card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.health import Check
from lmstrix.ground.units import format_bytes

if TYPE_CHECKING:
    from lmstrix.core.memory.cards import GpuMemory
    from lmstrix.service.workspace import Workspace


def memory(_workspace: Workspace) -> Check:
    from lmstrix.core.memory.host import read_host_memory

    memory = read_host_memory(with_gpus=False)
    found = f"{format_bytes(memory.available_bytes)} free of {format_bytes(memory.total_bytes)}"
    if memory.working_set_bytes is not None:
        found += f", of which graphics may use {format_bytes(memory.working_set_bytes)} ({memory.working_set_source})"
    if memory.limited_by == "control group":
        return Check(
            name="memory",
            state="note",
            found=f"{found}: the limit of this control group (container or system unit), not of the machine",
            remedy="an engine started here has no more either; one started elsewhere may",
        )
    if memory.commit_left_bytes == memory.available_bytes:
        found += ", all that Windows still promises to programs (a larger page file makes it more)"
    found += f"; read by {memory.source}"
    if memory.swap is not None and memory.swap.used_bytes:
        found += f"; {format_bytes(memory.swap.used_bytes)} in use in swap, which is not counted"
    if memory.unseen:
        found += f"; {' and '.join(memory.unseen)} did not answer"
    return Check(name="memory", state="ok", found=found)


def limits(_workspace: Workspace) -> list[Check]:
    """What limits memory here beside what is free."""
    from lmstrix.core.memory.host import address_space_limit

    limit = address_space_limit()
    if limit is None:
        return []
    found = f"limited to {format_bytes(limit)} for each process, each model of an engine started here included"
    return [Check(name="address space", state="note", found=found, remedy="ulimit -v unlimited")]


def cards(_workspace: Workspace) -> list[Check]:
    """Each card, with its memory or with what it means that nobody tells it."""
    from lmstrix.core.memory.cards import read_cards

    found = read_cards()
    checks = [
        Check(
            name="card",
            state="ok",
            found=f"{card.name}: {format_bytes(card.free_bytes)} free of {format_bytes(card.total_bytes)}"
            + _reading(card),
        )
        for card in found.readable
    ]
    what = "its memory cannot be read: predictions count main memory only, and a test starts without a budget"
    checks += [Check(name="card", state="note", found=f"{name}: {what}") for name in found.unreadable]
    lost = "did not answer, so cards that only it knows of are not seen"
    checks += [Check(name="card", state="note", found=f"{source} {lost}") for source in found.unseen]
    return checks


def _reading(card: GpuMemory) -> str:
    """Who told of a card's memory, and how much main memory stands in for it."""
    told = f"; read by {card.source}" if card.source else ""
    if card.shared_used_bytes:
        told += f"; {format_bytes(card.shared_used_bytes)} of main memory in use beside it"
    return told
