"""Collections: texts are added, found, exported and deleted; nothing is embedded twice, cut silently or mixed."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix.core.vectors.prefixes import Prefixes
from lmstrix.ground.paths import own_folder
from lmstrix.reports.collections import AddProgressLine
from lmstrix.service import collecting
from tests.cli.conftest import EMBEDDING, SCRIPTED, TINY, loaded_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix import EmbeddedEngine
    from lmstrix.core.vectors.records import AddProgress
    from tests.cli.conftest import Ran

LONG = " ".join(["the tide was early and the harbour was full of gulls."] * 200)


def matches(ran: Ran) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ran.ok().json["matches"]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in."""
    place = tmp_path / "work"
    (place / "docs" / "deep").mkdir(parents=True)
    monkeypatch.chdir(place)
    return place


def test_a_text_finds_itself_first(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    added = cli("collections", "add", "notes", "the tide was early", "--id", "monday", "--json").ok().json
    assert added["collection"]["model_key"] == EMBEDDING
    assert (added["added"], added["unchanged"], added["failed"]) == (1, 0, [])
    cli("collections", "add", "notes", "fog until noon", "--id", "tuesday").ok()
    first, second = matches(cli("collections", "search", "notes", "fog until noon", "--json"))
    assert (first["id"], first["text"]) == ("tuesday", "fog until noon")
    assert first["cosine_similarity"] == pytest.approx(1.0, abs=1e-5)
    assert second["cosine_similarity"] < first["cosine_similarity"]
    table = cli("collections", "search", "notes", "fog until noon", "--top", "1").ok().out.splitlines()
    assert table[0].split() == ["ID", "COSINE", "BEGINS", "WITH"]
    assert table[1].split()[:2] == ["tuesday", "1.0000"]
    assert len(table) == 2
    like = matches(cli("collections", "search", "notes", "--like", "monday", "--server", "127.0.0.1:1", "--json"))
    assert like[0]["id"] == "monday"
    cli("collections", "search", "notes", "--like", "nosuch").failed(2, "'nosuch'", "lmstrix collections show notes")
    cli("collections", "search", "notes").failed(2, "--like")
    cli("collections", "search", "notes", " ").failed(2, "empty")


def test_what_is_unchanged_is_not_embedded_again(cli: Callable[..., Ran], engine: EmbeddedEngine, folder: Path) -> None:
    (folder / "docs" / "a.md").write_text("the tide", encoding="utf-8")
    (folder / "docs" / "deep" / "b.md").write_text("the fog", encoding="utf-8")
    (folder / "docs" / "c.txt").write_text("no part of it", encoding="utf-8")
    words = ("collections", "add", "docs", "--files", "docs/**/*.md")
    assert "2 added; docs has 2 texts" in cli(*words).ok().out
    cli("unload", "--all").ok()
    assert "0 added, 2 unchanged" in cli(*words).ok().out
    assert loaded_on(engine.address) == []  # no model was needed
    (folder / "docs" / "a.md").write_text("the moon", encoding="utf-8")
    assert "1 added, 1 unchanged" in cli(*words).ok().out
    shown = cli("collections", "show", "docs", "--json").ok().json
    assert [(each["id"], each["text"]) for each in shown["ids"]] == [
        ("docs/a.md", "the moon"),
        ("docs/deep/b.md", "the fog"),
    ]
    assert (shown["scaling"], shown["dimensions"] > 0, shown["entries"]) == ("unit", True, 2)


@pytest.mark.slow
def test_a_text_that_is_too_long_is_refused_or_cut_and_never_cut_silently(
    cli: Callable[..., Ran], engine: EmbeddedEngine, folder: Path
) -> None:
    (folder / "docs" / "long.md").write_text(LONG, encoding="utf-8")
    (folder / "docs" / "short.md").write_text("the tide was early", encoding="utf-8")
    words = ("collections", "add", "docs", "--files", "docs/*.md")
    ran = cli(*words)
    assert ran.code == 1
    assert "1 added, 1 failed; docs has 1 text\n" in ran.out
    assert "docs/long.md has" in ran.err
    assert "--chunk-tokens" in ran.lines[-1]
    assert "in" in cli(*words, "--chunk-tokens", "60").ok().out
    shown = cli("collections", "show", "docs", "--last", "1000", "--json").ok().json
    pieces = [each for each in shown["ids"] if each["entry_id"] == "docs/long.md"]
    assert [each["id"] for each in pieces] == [f"docs/long.md#{n}" for n in range(1, len(pieces) + 1)]
    assert len(pieces) > 5
    assert " ".join(each["text"] for each in pieces) == LONG
    assert all(each["text"].endswith("gulls.") for each in pieces)
    assert shown["entries"] == 2
    # Short again, it is one text again: the pieces go.
    (folder / "docs" / "long.md").write_text("short now", encoding="utf-8")
    cli(*words, "--chunk-tokens", "60").ok()
    assert cli("collections", "show", "docs", "--json").ok().json["parts"] == 2
    cli("collections", "add", "docs", "new", "--chunk-tokens", "999999").failed(2, "--chunk-tokens", "tokens at most")
    cli("collections", "search", "docs", LONG).failed(1, "the text to search for has", "give a shorter one")


def test_rows_come_from_lines_objects_and_tables(cli: Callable[..., Ran], engine: EmbeddedEngine, folder: Path) -> None:
    def ids(name: str) -> dict[str, str]:
        shown = cli("collections", "show", name, "--json").ok().json["ids"]
        return {each["id"]: each["text"] for each in shown}

    cli("collections", "add", "lines", "--stdin", stdin="one\n\ntwo\r\none\n日本\u2028x\n".encode()).ok()
    assert sorted(ids("lines").values()) == ["one", "two", "日本\u2028x"]
    (folder / "t.csv").write_text('number,question,answer\n7,"What, now?",Nothing\n8,Why?,"So,\nthere"\n', "utf-8")
    columns = ("--id-column", "number", "--text-column", "question", "--text-column", "answer")
    cli("collections", "add", "table", "--rows", "t.csv", *columns).ok()
    assert ids("table") == {"7": "What, now?\nNothing", "8": "Why?\nSo,\nthere"}
    objects = b'{"id": 1, "text": "one"}\n{"id": "b", "text": "two", "more": []}\n'
    cli("collections", "add", "objects", "--stdin", "--form", "jsonl", stdin=objects).ok()
    assert ids("objects") == {"1": "one", "b": "two"}


@pytest.mark.parametrize(
    ("words", "content", "parts"),
    [
        (("--form", "jsonl"), b'{"id": 1}', ("line 1", "'text'", "--text-column", "it has id")),
        (("--form", "jsonl"), b'{"id": 1, "text": "a"}\nnonsense', ("line 2", "not JSON")),
        (("--form", "jsonl"), b"[1]", ("line 1", "no JSON object")),
        (("--form", "csv"), b"a,b\n1,2\n", ("line 2", "'id'", "it has a, b")),
        (("--form", "csv"), b"id,text\n1,a\n1,b\n", ("two texts have the id '1'",)),
        (("--form", "csv"), b'id,text\n1,"' + b"x" * 200_000, ("line", "no table")),
        (("--form", "csv"), b"id,text\n ,a\n", ("an id is empty",)),
        ((), b"\xff\xfe\xff", ("stdin is not valid",)),
    ],
)
def test_rows_that_are_wrong_are_refused_by_their_number(
    cli: Callable[..., Ran], engine: EmbeddedEngine, words: tuple[str, ...], content: bytes, parts: tuple[str, ...]
) -> None:
    cli("collections", "add", "notes", "--stdin", *words, stdin=content).failed(2, *parts)
    assert cli("collections", "list", "--json").ok().json["collections"] == []


def test_an_interrupted_one_goes_on_where_it_was(
    cli: Callable[..., Ran], engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_AT_ONCE", 4)
    lines = "\n".join(f"line {number}" for number in range(20)).encode()
    show = AddProgressLine.show

    def interrupted(line: AddProgressLine, progress: AddProgress) -> None:
        show(line, progress)
        if progress.done == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(AddProgressLine, "show", interrupted)
        ran = cli("collections", "add", "notes", "--stdin", stdin=lines)
    assert ran.code == 130
    assert "what was embedded is kept in notes" in ran.err
    kept = cli("collections", "show", "notes", "--json").ok().json["parts"]
    assert 8 <= kept < 20
    assert f"{20 - kept} added, {kept} unchanged" in cli("collections", "add", "notes", "--stdin", stdin=lines).ok().out


def test_vectors_of_two_models_are_never_compared(
    cli: Callable[..., Ran], engine: EmbeddedEngine, models_dir: Path
) -> None:
    other = models_dir / "acme" / "other-GGUF" / "other-f16.gguf"
    other.parent.mkdir()
    try:
        shutil.copy(models_dir / "acme" / "embed-GGUF" / "embed-f16.gguf", other)
        cli("scan").ok()
        cli("collections", "add", "notes", "a").failed(2, "which embedding model?", "-m MODEL")
        cli("collections", "add", "notes", "a", "-m", EMBEDDING).ok()
        for words in (("search", "notes", "a"), ("add", "notes", "b")):
            cli("collections", *words, "-m", "text-embedding-other").failed(2, EMBEDDING, "leave out -m MODEL")
        cli("collections", "add", "notes", "b").ok()  # by the collection's own
        cli("collections", "add", "more", "a", "-m", SCRIPTED).failed(2, "makes no embeddings")
        assert cli("collections", "list").ok().out.splitlines()[1].split()[:3] == ["notes", "2", "2"]
    finally:
        shutil.rmtree(other.parent)


def test_texts_are_kept_beside_their_vectors_only_where_that_is_wanted(
    cli: Callable[..., Ran], engine: EmbeddedEngine, home: Path
) -> None:
    cli("collections", "add", "bare", "a private word", "--id", "x", "--no-keep-texts").ok()
    (own_folder(home) / "config.toml").write_text("log_texts = false\n", encoding="utf-8")
    cli("collections", "add", "quiet", "a private word", "--id", "x").ok()
    for name in ("bare", "quiet"):
        assert "(not kept)" in cli("collections", "search", name, "a private word").ok().out
    assert b"a private word" not in (own_folder(home) / "collections.db").read_bytes()


def test_hostile_ids_and_texts_drive_no_terminal(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    evil = "../\x1b[2J\u202e\n.md"
    cli("collections", "add", "notes", "text \x1b]0;x\x07", "--id", evil).ok()
    for words in (("show", "notes"), ("search", "notes", "text")):
        out = cli("collections", *words).ok().out
        assert "\x1b" not in out
        assert "\u202e" not in out
    assert "\x1b" not in cli("collections", "delete", "notes", evil, "--yes").ok().err


def test_one_is_exported_with_vectors_or_without(cli: Callable[..., Ran], engine: EmbeddedEngine, folder: Path) -> None:
    cli("collections", "add", "notes", "the tide", "--id", "a").ok()
    cli("collections", "export", "notes", "out.jsonl").ok()
    (line,) = (folder / "out.jsonl").read_text("utf-8").splitlines()
    assert (json.loads(line)["id"], json.loads(line)["model_key"]) == ("a", EMBEDDING)
    assert sum(number**2 for number in json.loads(line)["vector"]) == pytest.approx(1.0, abs=1e-5)
    cli("collections", "export", "notes", "out.csv").ok()
    with (folder / "out.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["id", "text"], ["a", "the tide"]]
    for file_name in ("out.jsonl", "out.csv"):  # what was written can be added
        assert "0 added, 1 unchanged" in cli("collections", "add", "notes", "--rows", file_name).ok().out
    cli("collections", "export", "notes", "out.txt").failed(2, ".jsonl or .csv")


def test_long_ids_leave_room_for_the_texts(
    cli: Callable[..., Ran], engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "documents/of/a/folder/that/is/deep/and/has/a/long/name.md"
    text = "the tide was early and the harbour was full of gulls that nobody had seen"
    cli("collections", "add", "notes", text, "--id", name).ok()
    for words in (["search", "notes", "gulls"], ["show", "notes"]):
        shown = cli("collections", *words).ok().out.splitlines()[-1]
        assert len(shown) <= 80
        assert shown.startswith("documents")
        assert "name.md" in shown
        assert "  the tide was early and the harbour was full" in shown


def test_before_there_is_any_none_is_made_to_say_so(cli: Callable[..., Ran], home: Path) -> None:
    for words in (["show", "notes"], ["search", "notes", "--like", "a"], ["export", "notes", "n.csv"]):
        cli("collections", *words).failed(2, "no collection 'notes'", "lmstrix collections add")
    cli("collections", "delete", "notes", "--yes").failed(2, "no collection 'notes'")
    assert not (own_folder(home) / "collections.db").exists()


def test_deleting_needs_a_yes(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("collections", "add", "notes", "one", "two", "three").ok()
    ids = [each["id"] for each in cli("collections", "show", "notes", "--json").ok().json["ids"]]
    cli("collections", "delete", "notes").failed(2, "notes with its texts (3)", "--yes")
    cli("collections", "delete", "notes", ids[0]).failed(2, "1 of the texts of notes", "--yes")
    assert cli("collections", "delete", "notes", ids[0], "--yes", "--json").ok().json["deleted"] == [ids[0]]
    cli("collections", "delete", "notes", ids[0], "--yes").failed(2, ids[0])
    cli("collections", "delete", "notes", "--yes").ok()
    cli("collections", "delete", "notes", "--yes").failed(2, "no collection 'notes'", "collections add")


def test_what_is_not_asked_in_one_way_is_refused(cli: Callable[..., Ran], engine: EmbeddedEngine, folder: Path) -> None:
    add = ("collections", "add", "notes")
    cli(*add).failed(2, "TEXTS, --files, --rows or --stdin")
    cli(*add, "a", "--stdin").failed(2, "one of them")
    cli(*add, "a", "b", "--id", "x").failed(2, "--id names one text")
    cli(*add, "a", "--form", "csv").failed(2, "--rows or --stdin")
    cli(*add, "--files", "nosuch/*.md").failed(2, "--files", "no files")
    cli(*add, "--files", "docs").failed(2, "a folder", "docs/**/*.md")
    assert (
        cli(*add, "--files", "nosuch.md")
        .lines[-1]
        .endswith("1 of 1 failed; the first, nosuch.md: no file at nosuch.md")
    )
    cli(*add, "--rows", "rows.xml").failed(2, ".jsonl, .csv, .tsv, .txt")
    cli("collections", "add", "\x1b[2J", "a").failed(2, "no name for a collection")
    cli("collections", "search", "notes", "a").failed(2, "there is none yet", "lmstrix collections add")
    assert "lmstrix collections add NAME TEXT" in cli("collections", "list").ok().err
    cli(*add, "a", "-m", TINY).failed(2, "makes no embeddings")


def test_texts_of_files_that_are_gone_are_told_and_dropped_on_demand(
    cli: Callable[..., Ran], engine: EmbeddedEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (folder / "docs" / f"{name}.md").write_text(f"about {name}", encoding="utf-8")
    cli("collections", "add", "notes", "--files", "docs/*.md").ok()
    cli("collections", "add", "notes", "given", "--id", "docs/c.md").ok()
    assert "gone" not in cli("collections", "list").ok().err
    (folder / "docs" / "b.md").unlink()
    monkeypatch.chdir(folder / "docs")  # a file is known in full, wherever its collection is asked for
    told = "notes: 1 text is of a file that is gone (lmstrix collections add notes --drop-gone takes what is gone out)"
    assert told in cli("collections", "list").ok().lines
    assert cli("collections", "list", "--json").ok().json["collections"][0]["gone"] == 1
    shown = cli("collections", "show", "notes", "--json").ok().json
    assert shown["gone"] == ["docs/b.md"]
    assert {one["id"]: one["source"] is None for one in shown["ids"]} == {
        "docs/a.md": False,
        "docs/b.md": False,
        "docs/c.md": True,
    }
    assert "gone: docs/b.md" in cli("collections", "show", "notes", "--verbose").ok().lines
    dropped = cli("collections", "add", "notes", "--drop-gone", "--server", "127.0.0.1:1").ok()
    assert dropped.out == "0 added, 1 dropped as gone; notes has 2 texts\n"
    assert cli("collections", "add", "notes", "--drop-gone", "--json").ok().json["dropped"] == []
    assert cli("collections", "show", "notes", "--json").ok().json["gone"] == []
    cli("collections", "add", "others", "--drop-gone").failed(2, "no collection 'others'")


def test_a_collection_of_an_earlier_version_learns_its_files(
    cli: Callable[..., Ran], engine: EmbeddedEngine, folder: Path, home: Path
) -> None:
    (folder / "a.md").write_text("about a", encoding="utf-8")
    cli("collections", "add", "notes", "--files", "a.md").ok()
    with sqlite3.connect(own_folder(home) / "collections.db") as database:
        database.execute("ALTER TABLE parts DROP COLUMN source")
        database.execute("ALTER TABLE collections DROP COLUMN document_prefix")
        database.execute("ALTER TABLE collections DROP COLUMN query_prefix")
        database.execute("PRAGMA user_version = 1")
    database.close()
    assert matches(cli("collections", "search", "notes", "about a", "--json"))[0]["id"] == "a.md"
    assert cli("collections", "add", "notes", "--files", "a.md", "--json").ok().json["unchanged"] == 1
    (folder / "a.md").unlink()
    assert cli("collections", "show", "notes", "--json").ok().json["gone"] == ["a.md"]


def test_prefixes_stand_before_what_is_embedded_and_not_in_what_is_kept(
    cli: Callable[..., Ran], engine: EmbeddedEngine
) -> None:
    wanted = ("--document-prefix", "search_document: ", "--query-prefix", "search_query: ")
    begun = cli("collections", "add", "notes", "fog until noon", *wanted, "--json").ok().json["collection"]
    assert (begun["document_prefix"], begun["query_prefix"]) == ("search_document: ", "search_query: ")
    [part] = cli("collections", "show", "notes", "--json").ok().json["ids"]
    assert part["text"] == "fog until noon"
    shown = cli("collections", "show", "notes").ok().out
    assert "before   a text: 'search_document: ', a question: 'search_query: '" in shown
    # What is searched for gets the words for questions: with those for texts it finds itself exactly.
    plain = ("--document-prefix", "search_query: ", "--query-prefix", "search_query: ")
    cli("collections", "add", "same", "fog until noon", *plain).ok()
    assert matches(cli("collections", "search", "same", "fog until noon", "--json"))[0][
        "cosine_similarity"
    ] == pytest.approx(1.0, abs=1e-5)
    [found] = matches(cli("collections", "search", "notes", "fog until noon", "--json"))
    assert found["cosine_similarity"] < 0.9999
    cli("collections", "add", "notes", "more", "--document-prefix", "").failed(2, "begun with 'search_document: '")
    cli("collections", "add", "notes", "more", *wanted).ok()


def test_the_prefixes_of_a_known_family_are_taken_unless_others_are_given(
    cli: Callable[..., Ran], engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "prefixes_of", lambda *_: Prefixes("search_document: ", "search_query: "))
    begun = cli("collections", "add", "notes", "fog")
    assert "notes puts 'search_document: ' before each text and 'search_query: ' before a question" in begun.ok().lines
    bare = cli("collections", "add", "bare", "fog", "--document-prefix", "", "--query-prefix", "", "--json").ok().json
    assert (bare["collection"]["document_prefix"], bare["collection"]["query_prefix"]) == ("", "")
