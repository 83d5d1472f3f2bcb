"""References of a prompt file's texts to its own keys, resolved by toml-topl behind our guards.

toml-topl replaces `{{key}}` wherever it sees one, ten times over, without a limit: two braces of JSON, a caller's value
that looks like a placeholder, a cycle or ten lines that double ten times would all go wrong. So a text comes here only
as pieces: its own words, and references to texts that came before it. Cycles and depth are checked on the way down,
sizes are added up before anything is built, and every brace but those of the references is masked while toml-topl runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.core.prompts.limits import LIMITS
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MARK = re.compile("\0([0-9]+);")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A place in a text where the file's own entry called `key` goes; its length is what the entry comes to."""

    key: str
    size_chars: int

    def __len__(self) -> int:
        return self.size_chars


class ReferenceGraph:
    """The entries of one file that one rendering needs. `source` names the file in messages."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._chain: list[str] = []
        self._sizes_chars: dict[str, int] = {}
        self._resolved: dict[str, str] = {}
        self._unresolved: dict[str, Sequence[str | Reference]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._sizes_chars

    @property
    def chain(self) -> str:
        """The entries being read at this moment, each referred to by the one before it."""
        return " → ".join(self._chain)

    def enter(self, key: str) -> None:
        """Begin to read an entry: until `leave`, whatever comes belongs to it. Raises PromptError on a cycle."""
        if key in self._chain:
            circle = " → ".join([*self._chain[self._chain.index(key) :], key])
            raise PromptError(
                f"{self.source}: the references go in a circle: {circle}; break it, or give one as a variable"
            )
        self._chain.append(key)
        if len(self._chain) > LIMITS.reference_depth:
            raise PromptError(
                f"{self.source}: references are nested deeper than {LIMITS.reference_depth}: "
                f"{' → '.join(self._chain[:4])} → …"
            )

    def leave(self) -> None:
        """The entry entered last is read."""
        self._chain.pop()

    def reference(self, key: str) -> Reference:
        """A reference to an entry that was added before."""
        return Reference(key=key, size_chars=self._sizes_chars[key])

    def growth_error(self, name: str) -> PromptError:
        """What to raise when the entry being read grows past the limit at the placeholder `name`."""
        return PromptError(
            f"{self.source}: {self.chain} → {name} grows past {LIMITS.characters:,} characters; use fewer references"
        )

    def add(self, key: str, text: str) -> None:
        """Keep an entry that refers to nothing, or nothing any more."""
        self._resolved[key] = text
        self._sizes_chars[key] = len(text)

    def add_unresolved(self, key: str, pieces: Sequence[str | Reference], size_chars: int) -> None:
        """Keep an entry that refers to others, all of them added before it."""
        self._unresolved[key] = pieces
        self._sizes_chars[key] = size_chars

    def text(self, key: str) -> str:
        """The finished text of an entry."""
        if key in self._unresolved:
            self._resolve()
        return self._resolved[key]

    def _resolve(self) -> None:
        """Resolve everything added so far with one call of toml-topl."""
        self._resolved |= resolve_references(self._unresolved, self._resolved)
        self._unresolved.clear()


def resolve_references(
    unresolved: Mapping[str, Sequence[str | Reference]], resolved: Mapping[str, str]
) -> dict[str, str]:
    """The finished texts of the unresolved entries. Each refers only to resolved ones and to those before it."""
    # Imported here because it takes 35 ms, and most prompts refer to nothing.
    from topl import resolve_placeholders

    wanted = {piece.key for pieces in unresolved.values() for piece in pieces if isinstance(piece, Reference)}
    # toml-topl cuts names at dots and braces, and keys of TOML may hold both: it gets numbers for names.
    numbers = {key: str(number) for number, key in enumerate(wanted | unresolved.keys())}
    masks = _Masks()
    # What is referred to goes first: toml-topl works in place from top to bottom, and gives up after ten passes.
    texts = {numbers[key]: masks.text(resolved[key]) for key in wanted if key not in unresolved}
    for key, pieces in unresolved.items():
        texts[numbers[key]] = "".join(
            f"{{{{{numbers[piece.key]}}}}}" if isinstance(piece, Reference) else masks.text(piece) for piece in pieces
        )
    found = resolve_placeholders(texts).to_dict()
    return {key: masks.removed(found[numbers[key]]) for key in unresolved}


class _Masks:
    """Marks that stand for what toml-topl must not see: a zero character, the place in `hidden`, a semicolon."""

    def __init__(self) -> None:
        # Zero characters are hidden too, so that every one in a masked text begins a mark.
        self.hidden = ["\0", "{", "}"]

    def text(self, text: str) -> str:
        """The text without braces."""
        # A long text, most likely a document of the caller, is hidden whole, because toml-topl scans and copies all it
        # is given. A short one is not: marks longer than what they stand for could grow past the size that was checked.
        if len(text) > LIMITS.masked_characters:
            self.hidden.append(text)
            return f"\0{len(self.hidden) - 1};"
        return text.replace("\0", "\x000;").replace("{", "\x001;").replace("}", "\x002;")

    def removed(self, text: str) -> str:
        """The masked text with everything hidden back in its place."""
        return _MARK.sub(lambda mark: self.hidden[int(mark[1])], text)
