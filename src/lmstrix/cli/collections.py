# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands about collections: texts kept as vectors, and found by what they are about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.kinds import Flag, Seconds, SomeText, Tokens
from lmstrix.cli.piped import read_stdin
from lmstrix.ground.choices import RowForm
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.ranges import COUNT, IDLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.service.collection_entries import TextEntry


def list_(cli: CommandLine, /) -> None:
    """List the collections of texts kept here as vectors."""
    from lmstrix.reports.collections import show_collections

    collections = cli.service.collections
    found = [(info, len(collections.gone(info.name))) for info in collections.infos()]
    show_collections(cli.console, found)


def show(cli: CommandLine, /, name: str, *, last: Annotated[int, COUNT] = 20) -> None:
    """Show what a collection is, and the ids in it.

    Args:
        name: Its name.
        last: Show so many ids.
    """
    from lmstrix.reports.collections import show_collection

    gone = cli.service.collections.gone(name)
    with cli.service.collections.open_with(name) as store:
        show_collection(cli.console, store.get(name), store.parts(name), gone, most=last)


def add(
    cli: CommandLine,
    /,
    name: str,
    *texts: str,
    text_id: Annotated[str | None, Flag("id")] = None,
    files: list[SomeText] | None = None,
    rows: str | None = None,
    stdin: bool = False,
    form: RowForm | None = None,
    id_column: str = "id",
    text_column: list[SomeText] | None = None,
    model: SomeText | None = None,
    chunk_tokens: Tokens | None = None,
    keep_texts: bool | None = None,
    drop_gone: bool = False,
    document_prefix: str | None = None,
    query_prefix: str | None = None,
    ttl: Annotated[Seconds, IDLE] = 300.0,
) -> None:
    """Add texts to a collection, which is made if there is none. What is in it unchanged is not embedded again.

    Interrupted, it keeps what it has done; the same line again goes on. A text that the model cannot take whole is
    refused, and fails alone.

    Args:
        name: Name of the collection.
        texts: The texts.
        text_id: What to call the text (default: the beginning of its hash).
        files: Text files by a pattern such as 'docs/**/*.md', called by their paths (may be repeated).
        rows: A file with a text per row: .jsonl, .csv, .tsv, or .txt with one a line.
        stdin: Read rows from stdin, one text a line unless --form says otherwise.
        form: lines, jsonl, csv or tsv, where the file's ending does not say it.
        id_column: Column or key of a row that has the id.
        text_column: Column or key that has the text (default: text; may be repeated, for a line each).
        model: The embedding model (default: the collection's, for a new one the only one there is).
        chunk_tokens: Cut texts into pieces of at most so many tokens; they are called ID#1, ID#2.
        keep_texts: Keep the texts beside their vectors, for searches to show (default: as logging.texts says;
            --no-keep-texts keeps vectors alone).
        drop_gone: Take out the texts whose files are gone; without anything to add, that alone.
        document_prefix: Of a new collection: what the model wants before each text (default: as its family does;
            '' for nothing).
        query_prefix: Of a new collection: what it wants before what is searched for (default likewise).
        ttl: Keep a model loaded here this long after its last use; 0 unloads it at once.
    """
    from lmstrix.reports.collections import AddProgressLine, show_added
    from lmstrix.service.collecting import AddOptions

    columns = tuple(text_column or ("text",))
    entries = []
    if texts or files or rows or stdin or not drop_gone:
        entries = _entries(texts, text_id, files, rows, form, id_column, columns, stdin=stdin)
        if not entries:
            raise UsageError(f"{rows or 'stdin'} is empty: there is no text to add")
    options = AddOptions(
        model=model,
        chunk_tokens=chunk_tokens,
        keep_texts=keep_texts,
        ttl_s=ttl,
        drop_gone=drop_gone,
        document_prefix=document_prefix,
        query_prefix=query_prefix,
    )
    try:
        with AddProgressLine(cli.console) as progress:
            progress.begin("embedding")
            added = cli.run(cli.service.collections.add(name, entries, options, on_progress=progress.show))
    except KeyboardInterrupt:
        cli.console.note(f"what was embedded is kept in {name}; the same line again goes on")
        raise
    show_added(cli.console, added)
    if added.failed:
        first = added.failed[0]
        raise LMStrixError(f"{len(added.failed)} of {len(entries)} failed; the first, {first.entry_id}: {first.error}")


def search(
    cli: CommandLine,
    /,
    name: str,
    text: str | None = None,
    *,
    like: str | None = None,
    top: Annotated[int, COUNT] = 5,
    model: SomeText | None = None,
    ttl: Annotated[Seconds, IDLE] = 300.0,
) -> None:
    """Find the texts of a collection that are nearest to a text, by the cosine of their vectors.

    Args:
        name: Name of the collection.
        text: What to look for.
        like: Look for what is like the text with this id instead, without asking a server.
        top: Show this many.
        model: The embedding model; no other than the collection's can be compared with it.
        ttl: Keep a model loaded here this long after its last use; 0 unloads it at once.
    """
    from lmstrix.reports.collections import show_matches

    found = cli.run(cli.service.collections.search(name, text, like=like, top=top, model=model, ttl_s=ttl))
    show_matches(cli.console, found)


def export(cli: CommandLine, /, name: str, file: str) -> None:
    """Write a collection to a file: with its vectors, or ids and texts alone.

    Args:
        name: Its name.
        file: The file; its ending says the form: .jsonl with vectors, .csv without. One that is there is replaced.
    """
    from lmstrix.reports.collections import as_csv, as_jsonl
    from lmstrix.service.output_file import check_output, save_text

    target = Path(file).expanduser()
    form = {".jsonl": as_jsonl, ".csv": as_csv}.get(target.suffix.lower())
    if form is None:
        raise UsageError(f"{target}: the ending says the form; use .jsonl or .csv")
    with cli.service.collections.open_with(name) as store:
        info = store.get(name)
        check_output(target, "FILE")
        save_text(target, form(info, store.parts(name)))
    if cli.console.json:
        cli.console.result("collections", {"name": name, "file": str(target), "parts": info.parts})
    else:
        cli.console.note(f"written to {target}")


def delete(cli: CommandLine, /, name: str, *ids: str, yes: bool = False) -> None:
    """Delete a collection, or only some texts of it; needs --yes.

    Args:
        name: Its name.
        ids: Only the texts with these ids.
        yes: Do it without asking.
    """
    collections = cli.service.collections
    if not yes:
        info = collections.get(name)
        what = f"{len(ids)} of the texts of {name}" if ids else f"{name} with its texts ({info.entries:,})"
        raise UsageError(f"this deletes {what}; add --yes to do it")
    deleted = collections.delete(name, ids)
    missing = [each for each in ids if each not in deleted]
    if cli.console.json:
        cli.console.result("collections", {"name": name, "deleted": deleted})
    elif deleted:
        cli.console.note(f"deleted {', '.join(deleted)}")
    if missing:
        raise UsageError(f"the collection {name} has no text {missing[0]!r}")


def _entries(
    texts: Sequence[str],
    text_id: str | None,
    files: Sequence[str] | None,
    rows: str | None,
    form: RowForm | None,
    id_column: str,
    text_columns: Sequence[str],
    *,
    stdin: bool,
) -> list[TextEntry]:
    from lmstrix.service import collection_entries

    if sum(map(bool, (texts, files, rows, stdin))) != 1:
        raise UsageError("what is to be added? give TEXTS, --files, --rows or --stdin, one of them")
    if text_id is not None:
        if len(texts) != 1:
            raise UsageError("--id names one text; give one")
        return collection_entries.entries_of_texts({text_id: texts[0]})
    if texts:
        return collection_entries.entries_of_texts(texts)
    if files:
        return collection_entries.entries_of_files(files)
    if rows:
        path = Path(rows).expanduser()
        return collection_entries.entries_of_rows(path, form=form, id_column=id_column, text_columns=text_columns)
    return collection_entries.entries_of_content(
        read_stdin(), form or "lines", source="stdin", id_column=id_column, text_columns=text_columns
    )
