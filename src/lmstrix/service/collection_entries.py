"""What is to be added to a collection: texts by their ids, from words, files or rows. Files are read one at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.core.vectors.records import check_id
from lmstrix.ground.errors import PromptError, UsageError
from lmstrix.ground.text import storable
from lmstrix.ground.wording import parameter
from lmstrix.loaders.contexts import load_text
from lmstrix.loaders.text_rows import id_of, text_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmstrix.ground.choices import RowForm

_FORMS: Mapping[str, RowForm] = {".jsonl": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "lines"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEntry:
    """A text and its id; the text of a file is read when it is needed."""

    entry_id: str
    text: str = ""
    file: Path | None = None

    @property
    def source(self) -> str | None:
        """The file in full, wherever it is asked from."""
        return None if self.file is None else str(self.file.absolute())

    def read(self) -> str:
        """The text. Raises PromptError where its file is none, or has none."""
        text = load_text(self.file) if self.file is not None else self.text
        if not text.strip():
            raise PromptError(f"{self.entry_id} is empty; an empty text has no vector")
        return text


def entries_of_texts(texts: Mapping[str, str] | Sequence[str]) -> list[TextEntry]:
    """Texts by their ids, or texts that are called by the beginnings of their hashes."""
    by_id = texts if isinstance(texts, Mapping) else {id_of(text): text for text in texts}
    return [TextEntry(entry_id=entry_id, text=text) for entry_id, text in by_id.items()]


def entries_of_files(patterns: Iterable[str]) -> list[TextEntry]:
    """The files that patterns such as docs/**/*.md mean, called by their paths. Folders are not looked into."""
    found: dict[str, TextEntry] = {}
    for pattern in patterns:
        for file in _files(pattern):
            name = Path(os.path.normpath(file)).as_posix()
            found[name] = TextEntry(entry_id=name, file=file)
    return list(found.values())


def entries_of_rows(
    file: Path, *, id_column: str = "id", text_columns: Sequence[str] = ("text",), form: RowForm | None = None
) -> list[TextEntry]:
    """The rows of a file, whose ending says their form unless it is given."""
    chosen = form or _FORMS.get(file.suffix.lower())
    if chosen is None:
        raise UsageError(f"{file}: the ending says the form of its rows; use {', '.join(_FORMS)}")
    return entries_of_content(load_text(file), chosen, source=str(file), id_column=id_column, text_columns=text_columns)


def entries_of_content(
    content: str, form: RowForm, *, source: str, id_column: str = "id", text_columns: Sequence[str] = ("text",)
) -> list[TextEntry]:
    """The same of what was read already."""
    rows = text_rows(content, form, source=source, id_column=id_column, text_columns=text_columns)
    # A line that stands twice is one text; an id that stands twice is a slip.
    entries = [TextEntry(entry_id=row.entry_id, text=row.text) for row in rows]
    return list({entry.entry_id: entry for entry in entries}.values()) if form == "lines" else entries


def check_entries(entries: Sequence[TextEntry]) -> None:
    """Raise UsageError for an id that is none, and for one that two texts have."""
    seen: set[str] = set()
    for entry in entries:
        check_id(entry.entry_id)
        # Names of files may differ in bytes that no text can hold.
        kept = storable(entry.entry_id)
        if kept in seen:
            raise UsageError(f"two texts have the id {kept[:80]!r}; each needs its own")
        seen.add(kept)


def _files(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        raise UsageError(f"{parameter('files')}: {pattern} is a folder; give a pattern such as '{pattern}/**/*.md'")
    if not any(mark in pattern for mark in "*?[") or path.exists():
        return [path]
    try:
        relative = str(path.relative_to(path.anchor))
        found = sorted(file for file in Path(path.anchor or ".").glob(relative) if file.is_file())
    except (OSError, ValueError) as exc:
        raise UsageError(f"{parameter('files')}: {pattern} is no pattern of files ({exc})") from exc
    if not found:
        raise UsageError(f"{parameter('files')}: there are no files in {pattern}")
    return found
