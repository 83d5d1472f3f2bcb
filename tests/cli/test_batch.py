"""`lmstrix batch`: files with safe names, going on, several at a time, failures that stop nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix import EmbeddedEngine, LMStrix
from lmstrix.core.answers import answer_folder
from lmstrix.core.answers.answer_folder import AnswerFolder
from lmstrix.core.answers.batch_names import file_names
from lmstrix.core.answers.inference import InferenceManager
from lmstrix.ground.errors import BackendTimeoutError
from lmstrix.ground.files import write_whole
from tests.cli.conftest import EMBEDDING, SCRIPTED, TINY, client_of, loaded_on
from tests.cli.processes import finish, start, wait_until
from tests.support.model_files import put_model
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.core.answers.batch import BatchProgress
    from lmstrix.core.answers.inference import Acquired, PlannedAnswer, Prepared
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

PROMPTS = """
sum = "2+3={{text}}"
[a.hello]
system_prompt = "Be {{mood}}."
prompt = "hello {{text}}"
defaults = { mood = "kind" }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder commands run in: two prompts, three inputs, two of one name."""
    folder = tmp_path / "work"
    (folder / "notes").mkdir(parents=True)
    (folder / "prompts.toml").write_text(PROMPTS, encoding="utf-8")
    for name in ("notes/one.txt", "notes/two.md", "one.txt"):
        (folder / name).write_text(f"of {name}", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def answers(out: Path) -> dict[str, str]:
    return {file.relative_to(out).as_posix(): file.read_text(encoding="utf-8") for file in out.rglob("*.txt")}


def index(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "index.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_prompt_every_model_every_input(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    words = (
        "batch",
        "--prompts",
        "prompts.toml",
        "--models",
        f"{SCRIPTED},{TINY}",
        "--inputs",
        "notes",
        "--out",
        "out",
    )
    ran = cli(*words, "--out-ctx", "4", "--verbose").ok()
    assert "8 answered" in ran.out
    assert "8/8" in ran.err
    files = answers(here / "out")
    assert set(files) == {
        f"{model}/{prompt}__{name}.txt"
        for model in (SCRIPTED, TINY)
        for prompt in ("sum", "a.hello")
        for name in ("notes~one", "notes~two.md")
    }
    assert files[f"{SCRIPTED}/sum__notes~one.txt"] == "5"
    lines = index(here / "out")
    assert {line["outcome"] for line in lines} == {"ok"}
    models = [line["model_key"] for line in lines]
    assert models in (4 * [SCRIPTED] + 4 * [TINY], 4 * [TINY] + 4 * [SCRIPTED])
    assert all(line["prompt_tokens"] > 0 and line["total_s"] > 0 for line in lines)
    assert loaded_on(engine.address) == []


def test_it_goes_on_where_it_was(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    words = (
        "batch",
        "--prompts",
        "prompts.toml:sum",
        "--models",
        SCRIPTED,
        "--out",
        "out",
        "--var",
        "text=!",
        "--json",
    )
    assert [item["outcome"] for item in cli(*words).ok().json["items"]] == ["ok"]
    (here / "out" / SCRIPTED / "sum.txt").write_text("mine", encoding="utf-8")
    again = cli(*words).ok()
    assert [item["outcome"] for item in again.json["items"]] == ["skipped"]
    assert "loading" not in again.err
    assert answers(here / "out") == {f"{SCRIPTED}/sum.txt": "mine"}
    assert [item["outcome"] for item in cli(*words, "--no-skip-existing").ok().json["items"]] == ["ok"]
    assert answers(here / "out") == {f"{SCRIPTED}/sum.txt": "5"}


def test_several_at_a_time(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    for number in range(12):
        (here / "notes" / f"n{number}.txt").write_text("=", encoding="utf-8")
    words = ("batch", "--prompts", "@prompts.toml:sum", "--models", SCRIPTED, "--inputs", "notes/n*.txt")
    report = cli(*words, "--out", "out", "--parallel", "4", "--in-ctx", "2048", "--json").ok().json
    assert report["schema"] == "lmstrix.batch/1"
    assert len(report["items"]) == 12
    assert set(answers(here / "out").values()) == {"5"}


def test_one_failure_stops_nothing(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    (here / "notes" / "huge.txt").write_text("word " * 5000, encoding="utf-8")
    words = ("batch", "--prompts", "prompts.toml:sum", "--models", SCRIPTED, "--inputs", "notes", "--out", "out")
    ran = cli(*words, "--in-ctx", "1024", "--quiet")
    assert ran.code == 1
    assert "2 answered, 1 failed" in ran.out
    assert "1 of 3 failed" in ran.lines[-1]
    assert "~huge.txt: the prompt has" in ran.lines[-1]
    assert set(answers(here / "out")) == {f"{SCRIPTED}/sum__notes~{name}.txt" for name in ("one", "two.md")}
    assert sorted(line["outcome"] for line in index(here / "out")) == ["ContextOverflowError", "ok", "ok"]
    again = cli(*words, "--in-ctx", "1024", "--quiet", "--json")
    assert sorted(item["outcome"] for item in again.json["items"]) == ["ContextOverflowError", "skipped", "skipped"]


def test_a_model_that_does_not_load_fails_its_items(cli: Callable[..., Ran], faulty: FaultyServer, here: Path) -> None:
    faulty.faults.load = "out of memory"
    words = ("batch", "--prompts", "one.txt", "--models", "acme/tiny", "--inputs", "notes", "--out", "out")
    ran = cli(*words, "--quiet", "--json")
    assert ran.code == 1
    assert {item["outcome"] for item in ran.json["items"]} == {"OutOfMemoryError"}


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["--prompts", "prompts.toml", "--models", SCRIPTED], 2, "needs --out"),
        (["--prompts", "prompts.toml", "--models", SCRIPTED, "--out", "o"], 1, "needs text"),
        (["--prompts", "no.toml", "--models", SCRIPTED, "--out", "o"], 1, "no file at no.toml"),
        (["--prompts", "one.txt", "--models", "nosuch", "--out", "o"], 1, "nosuch"),
        (["--prompts", "one.txt", "--models", EMBEDDING, "--out", "o"], 2, "embedding model"),
        (["--prompts", "one.txt", "--models", ",", "--out", "o"], 2, "which models?"),
        (["--prompts", "one.txt", "--models", SCRIPTED, "--inputs", "*.pdf", "--out", "o"], 2, "no files in *.pdf"),
        (["--prompts", "one.txt", "--models", SCRIPTED, "--parallel", "0", "--out", "o"], 2, "at least 1"),
        (["--prompts", "one.txt", "--models", SCRIPTED, "--out", "one.txt"], 1, "one.txt cannot be made a folder"),
    ],
)
def test_wrong_words_are_told_before_anything_runs(
    cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path, words: list[str], code: int, part: str
) -> None:
    cli("scan", "--quiet")
    cli("batch", *words).failed(code, part)
    assert not (here / "o").exists()


def test_inputs_of_one_name_stay_apart(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    words = ("batch", "--prompts", "prompts.toml:sum", "--models", SCRIPTED, "--out", "out")
    cli(*words, "--inputs", "notes/one.txt", "--inputs", "one.txt").ok()
    assert len(answers(here / "out")) == 2


SUM = ("batch", "--prompts", "prompts.toml:sum", "--models", SCRIPTED, "--out", "out")


def test_inputs_are_named_by_their_paths_whatever_else_is_asked_about(
    cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path
) -> None:
    (here / "c2").mkdir()
    for name in ("x.txt", "x.md", "c2/x.txt"):
        (here / name).write_text(f"of {name}", encoding="utf-8")
    cli(*SUM, "--inputs", "./x.txt").ok()
    assert set(answers(here / "out")) == {f"{SCRIPTED}/sum__x.txt"}
    words = ("--inputs", "x.txt", "--inputs", "x.md", "--inputs", "c2", "--inputs", "c2/x.txt", "--json")
    items = cli(*SUM, *words).ok().json["items"]
    assert [(item["input"], item["outcome"]) for item in items] == [
        ("x.txt", "skipped"),
        ("x.md", "ok"),
        ("c2/x.txt", "ok"),
    ]
    names = ("x", "x.md", "c2~x")
    assert set(answers(here / "out")) == {f"{SCRIPTED}/sum__{name}.txt" for name in names}


def test_prompts_of_one_name_stay_apart(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    (here / "other.toml").write_text("sum = 'hello {{text}}'", encoding="utf-8")
    words = ("batch", "--prompts", "prompts.toml:sum", "--prompts", "other.toml", "--models", SCRIPTED, "--out", "out")
    cli(*words, "--inputs", "one.txt").ok()
    assert len(answers(here / "out")) == 2


def test_long_names_of_wide_characters_can_be_written(
    cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path
) -> None:
    (here / f"{'文' * 80}.txt").write_text("of one", encoding="utf-8")
    words = ("batch", "--prompts", f"{'文' * 80}.txt", "--inputs", f"{'文' * 80}.txt", "--models", SCRIPTED)
    cli(*words, "--out", "out").ok()
    assert len(answers(here / "out")) == 1


@pytest.mark.needs_posix("Windows has no such names")
def test_hostile_names_stay_in_the_folder(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    hostile = here / "hostile"
    hostile.mkdir()
    for name in ("-rf", "a\nb", "..x", "Case.txt", "case.txt", "~", "a b\u202etxt", "CON", "back\\slash", "*"):
        (hostile / name).write_text("=", encoding="utf-8")
    (hostile / os.fsdecode(b"latin-\xe9")).write_text("=", encoding="utf-8")
    ran = cli(*SUM, "--inputs", "hostile", "--json").ok()
    assert {item["outcome"] for item in ran.json["items"]} == {"ok"}
    written = answers(here / "out")
    assert len({name.casefold() for name in written}) == 11 - 1  # ..x is hidden, as any name that begins with a dot
    assert all(name.startswith(f"{SCRIPTED}/sum__") and name.isprintable() for name in written)
    assert {item["outcome"] for item in cli(*SUM, "--inputs", "hostile", "--json").ok().json["items"]} == {"skipped"}


@pytest.mark.slow
def test_what_has_changed_is_asked_again(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    words = (*SUM, "--inputs", "notes", "--json")

    def outcomes(*more: str) -> list[str]:
        return [item["outcome"] for item in cli(*words, *more).ok().json["items"]]

    assert outcomes() == ["ok", "ok"]
    (here / "notes" / "two.md").write_text("changed", encoding="utf-8")
    assert outcomes() == ["skipped", "ok"]
    (here / "prompts.toml").write_text("sum = 'two and {{text}}'", encoding="utf-8")
    assert outcomes() == ["ok", "ok"]
    assert outcomes("--temperature", "0") == ["ok", "ok"]
    assert outcomes("--temperature", "0", "--in-ctx", "1024") == ["skipped", "skipped"]
    assert outcomes("--temperature", "0", "--out-ctx", "9", "--system-prompt", "Be kind.") == ["ok", "ok"]


def test_answers_of_earlier_versions_are_kept(cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path) -> None:
    answer = here / "out" / SCRIPTED / "one.txt"
    answer.parent.mkdir(parents=True)
    answer.write_text("earlier", encoding="utf-8")
    line = {"file": f"{SCRIPTED}/one.txt", "model_key": SCRIPTED, "prompt": "one", "input": None, "outcome": "ok"}
    (here / "out" / "index.jsonl").write_text(f"{json.dumps(line)}\n", encoding="utf-8")
    words = ("batch", "--prompts", "one.txt", "--models", SCRIPTED, "--out", "out", "--json")
    assert [item["outcome"] for item in cli(*words).ok().json["items"]] == ["skipped"]


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_a_file_that_cannot_be_asked_about_fails_alone(
    cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path
) -> None:
    notes = here / "notes"
    (notes / "latin.txt").write_bytes(b"caf\xe9")
    (notes / "empty.txt").write_text(" \n", encoding="utf-8")
    (notes / "gone.txt").symlink_to("nowhere")
    (notes / "large.txt").write_text("word " * 200_000, encoding="utf-8")
    ran = cli(*SUM, "--inputs", "notes", "--inputs", "typo.txt")
    assert ran.code == 1
    assert "2 answered, 5 failed" in ran.out
    for part in ("latin.txt is not UTF-8", "empty.txt is empty", "no file at notes/gone.txt", "no file at typo.txt"):
        assert part in ran.err
    assert "loading scripted at 2,048 tokens" in ran.err
    assert ran.lines[-1].startswith("lmstrix: 5 of 7 failed")
    assert len(answers(here / "out")) == 2
    assert len([line for line in index(here / "out") if line["error"]]) == 5


def test_a_prompt_that_fails_with_every_input_is_told_at_once(
    cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path
) -> None:
    (here / "prompts.toml").write_text("sum = '{{missing}} {{text}}'", encoding="utf-8")
    cli("scan", "--quiet")
    cli(*SUM, "--inputs", "notes").failed(1, "missing")
    (here / "blank.txt").write_text(" ", encoding="utf-8")
    cli("batch", "--prompts", "blank.txt", "--models", SCRIPTED, "--out", "out").failed(1, "blank.txt", "empty")
    assert not (here / "out").exists()


def test_a_variable_that_no_prompt_asks_for_is_told(
    cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path
) -> None:
    ran = cli(*SUM, "--inputs", "one.txt", "--var", "mod=1").ok()
    assert "mod is given, but no prompt asks for it" in ran.err


def test_a_second_batch_into_the_same_folder_is_refused(
    cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path
) -> None:
    with AnswerFolder(here / "out").opened():
        cli("scan", "--quiet")
        cli(*SUM, "--inputs", "one.txt").failed(1, "another batch is writing to out")
    cli(*SUM, "--inputs", "one.txt").ok()


def test_a_full_disk_ends_the_batch_and_loses_nothing(
    cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("scan", "--quiet")
    calls = iter(range(9))

    def full(path: Path, data: bytes, **options: bool) -> None:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_whole(path, data, **options)

    monkeypatch.setattr(answer_folder, "write_whole", full)
    ran = cli(*SUM, "--inputs", "notes", "--inputs", "one.txt", "--quiet")
    assert ran.code == 1
    assert ran.lines == [
        "lmstrix: out cannot be written: No space left on device; what was answered before is there, and the same "
        "command goes on from it"
    ]
    assert len(answers(here / "out")) == 1
    report = cli(*SUM, "--inputs", "notes", "--inputs", "one.txt", "--json").ok().json
    assert [item["outcome"] for item in report["items"]] == ["skipped", "ok", "ok"]


def test_the_half_line_and_half_answer_of_a_killed_batch_do_no_harm(tmp_path: Path) -> None:
    folder = AnswerFolder(tmp_path / "out")
    with folder.opened() as kept:
        kept.write("m/a.txt", "one")
        kept.record({"file": "m/a.txt", "outcome": "ok", "request_hash": "1"})
    with (tmp_path / "out" / "index.jsonl").open("ab") as stream:
        stream.write(b'{"file": "m/b.txt", "outc')
    (tmp_path / "out" / "m" / ".b.txt.lmstrix-0123abcd.tmp").write_text("hal", encoding="utf-8")
    with AnswerFolder(tmp_path / "out").opened() as kept:
        assert (kept.has("m/a.txt", "1"), kept.has("m/a.txt", "2"), kept.has("m/b.txt", "1")) == (True, False, False)
        kept.write("m/b.txt", "two")
        kept.record({"file": "m/b.txt", "outcome": "ok", "request_hash": "2"})
    with AnswerFolder(tmp_path / "out").opened() as kept:
        assert kept.has("m/b.txt", "2")
    assert sorted(file.name for file in (tmp_path / "out" / "m").iterdir()) == ["a.txt", "b.txt"]


@pytest.mark.slow
def test_a_model_that_is_unloaded_meanwhile_is_loaded_again(engine: EmbeddedEngine, tmp_path: Path) -> None:
    unloaded: list[str] = []

    def unload_once(_: BatchProgress) -> None:
        if not unloaded:
            with client_of(engine.address) as client:
                for model in client.portal.run(client.backend.list_loaded()):
                    unloaded.append(model.instance_id)
                    client.portal.run(client.backend.unload(model.instance_id))

    inputs = {str(number): "a story" for number in range(6)}
    with LMStrix(server=engine.address) as lms:
        report = lms.batch(
            {"tell": "tell"}, [SCRIPTED], tmp_path / "out", inputs=inputs, max_tokens=400, on_progress=unload_once
        )
    assert unloaded
    assert [outcome.outcome for outcome in report.outcomes] == 6 * ["ok"]


def test_one_question_that_is_slow_to_count_fails_alone_and_a_hanging_server_ends_the_batch(
    cli: Callable[..., Ran], engine: EmbeddedEngine, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = InferenceManager.fit

    async def slow(manager: InferenceManager, acquired: Acquired, planned: PlannedAnswer) -> Prepared:
        if "slow" in planned.request.messages[-1].text:
            raise BackendTimeoutError("no answer in time")
        return await fit(manager, acquired, planned)

    monkeypatch.setattr(InferenceManager, "fit", slow)
    (here / "notes" / "pause.txt").write_text("slow", encoding="utf-8")
    items = cli(*SUM, "--inputs", "notes", "--json").json["items"]
    assert sorted(item["outcome"] for item in items) == ["BackendTimeoutError", "ok", "ok"]
    for number in range(5):
        (here / "notes" / f"pause{number}.txt").write_text("slow", encoding="utf-8")
    ran = cli(*SUM, "--inputs", "notes", "--quiet")
    assert (ran.code, ran.lines[-1]) == (3, "lmstrix: no answer in time")


@given(st.lists(st.text(), unique=True, max_size=6))
def test_names_are_safe_and_different(names: list[str]) -> None:
    safe = file_names((name, name) for name in names)
    assert len({name.casefold() for name in safe}) == len(names)
    assert safe == file_names((name, name) for name in names)
    for name in safe:
        assert name not in ("", ".", "..")
        assert len(name.encode()) <= 110
        assert "__" not in name
        assert name[0] not in "-._"
        assert name[-1] not in "._ "
        assert not set(name) & set('/\\:*?"<>|\0\n')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("SIGINT", 130, ["lmstrix: interrupted"]),
        ("SIGTERM", 143, ["lmstrix: terminated"]),
        ("SIGKILL", -9, []),
    ],
)
@pytest.mark.needs_posix("no such signals")
def test_a_stopped_batch_goes_on(cli: Callable[..., Ran], here: Path, name: str, code: int, said: list[str]) -> None:
    put_model(here / "models", "slow", scripted_model(context_length=32768, n_layers=4, feed_forward=2048))
    (here / "ask.txt").write_text("hello", encoding="utf-8")
    (here / "tell.txt").write_text("a story", encoding="utf-8")
    with EmbeddedEngine(here / "models") as engine:
        asked = ("batch", "--prompts", "ask.txt", "--prompts", "tell.txt", "--models", "slow", "--out", "out")
        words = (*asked, "--server", engine.address)
        running = start(*words, "--in-ctx", "32768", "--quiet")
        index_file = here / "out" / "index.jsonl"
        wait_until(lambda: (index_file.exists() and index_file.stat().st_size > 0) or running.poll() is not None)
        running.send_signal(signal.Signals[name])
        ended, _, err = finish(running)
        assert (ended, err.splitlines()[-1:]) == (code, said)
        assert name == "SIGKILL" or loaded_on(engine.address) == []
        assert set(answers(here / "out")) == {"slow/ask.txt"}
        (here / "tell.txt").write_text("2+3=", encoding="utf-8")
        outcomes = cli(*words, "--in-ctx", "32768", "--json").ok().json["items"]
        assert [item["outcome"] for item in outcomes] == ["skipped", "ok"]
