"""How much a prompt may cost, so that no file, however hostile, takes more than seconds or a few hundred megabytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLimits:
    """Ceilings far above what prompts need; each names what it was set by."""

    characters: int = 128 * 2**20
    """What one text may come to, and what one run of logic may print: twice the largest text file that is read."""
    grown_characters: int = 256 * 2**20
    """What the largest value of one run may hold, by the bound of `growth`: twice `characters`."""
    smallest_room: int = 10_000
    """Characters that a run must at least be able to print: with less, nearly every text would be refused half-way."""
    tags: int = 20_000
    """Tags followed to find that bound, those of a part each time it is included: 40 ms."""
    range_characters: int = 800_000
    """What a range printed whole may come to: minijinja makes none of more than 100,000 numbers."""
    fuel: int = 1_000_000
    """Instructions of minijinja in one run: about 200,000 rounds of a loop, or 60 ms."""
    smallest_fuel: int = 2_000
    """Instructions left to a text whose loops print long literals; about 400 rounds."""
    masked_characters: int = 10_000
    """A text longer than this is kept from toml-topl, which would need 8 ms per million characters."""
    table_depth: int = 16
    """Tables inside tables of a file, read by recursion."""
    reference_depth: int = 64
    """References inside references, read by recursion: Python's own limit of 1,000 calls comes at about 200."""


LIMITS = PromptLimits()
