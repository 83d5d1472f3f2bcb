"""Words of the earlier LMStrix: each call of its example scripts and its README, and what runs for it today."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.earlier_words import rewritten
from lmstrix.cli.words import Invocation, parse
from lmstrix.earlier.migration import ROWS
from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.earlier.migration import Migration
    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran

COMMON = common_parameters()

# What is written in the earlier version's shell examples, one line a kind of call, and its words today.
SCRIPTS = {
    "scan": "scan",
    "scan --verbose": "scan --verbose",
    "list": "list",
    "list --sort ctx": "list --sort ctx",
    "list --sort eff": "list --sort eff",
    "list --show id": "list --show id",
    "test --model_id llama": "test llama",
    "test --model_id llama --verbose": "test llama --verbose",
    "test --model_id llama --threshold 50000": "test llama --threshold 50000",
    "test --model_id llama --fast": "test llama --fast",
    "test --model_id llama --ctx 8192": "test llama --ctx 8192",
    "test --all --verbose": "test --all --verbose",
    "test --all --ctx 4096": "test --all --ctx 4096",
    "test --all --fast": "test --all --fast",
    "test --all --threshold 30000 --fast": "test --all --threshold 30000 --fast",
    'infer "What is 2+2?" llama --out_ctx 10': 'infer "What is 2+2?" -m llama --max-tokens 10',
    "infer 'What is 2+2?' -m llama --out_ctx '25%' --verbose": "infer 'What is 2+2?' -m llama --max-tokens 25% -v",
    "infer 'What is 4+4?' --verbose": "infer 'What is 4+4?' --verbose",
    "infer 'Explain it.' llama --in_ctx 4096 --out_ctx 100": (
        "infer 'Explain it.' -m llama --in-ctx 4096 --max-tokens 100"
    ),
    "infer 'What is Python?' llama --in_ctx 0 --out_ctx 50": (
        "infer 'What is Python?' -m llama --in-ctx 0 --max-tokens 50"
    ),
    "infer 'What is AI?' llama --force-reload --out_ctx 100": "infer 'What is AI?' -m llama --reload --max-tokens 100",
    "infer a.b llama --file_prompt F --dict 'name=A,topic=P' --out_ctx 9": (
        "infer a.b -m llama --file-prompt F --dict 'name=A,topic=P' --max-tokens 9"
    ),
    "infer 'Calculate: 25 * 4 + 10 - 5' llama --temperature 0.1 --out_ctx 20": (
        "infer 'Calculate: 25 * 4 + 10 - 5' -m llama --temperature 0.1 --max-tokens 20"
    ),
    "infer greet llama --file_prompt F --dict 'n=B' --in_ctx 4096 --out_ctx 150 --temperature 0.8": (
        "infer greet -m llama --file-prompt F --dict 'n=B' --in-ctx 4096 --max-tokens 150 --temperature 0.8"
    ),
    "infer code phi --prompt-file prompts.toml --variable 'request=calculate it'": (
        "infer code -m phi --file-prompt prompts.toml --var 'request=calculate it'"
    ),
}
README = {
    "test --all --threshold 102400": "test --all --threshold 102400",
    "list --sort size_gb": "list --sort size --reverse",
    "list --show json --sort name": "list --show json --sort name",
    "list --show path": "list --show path",
    "infer 'Your prompt here' --model m --max-tokens 150": "infer 'Your prompt here' -m m --max-tokens 150",
    "infer llama --prompt 'Explain it' --context 8192": "infer 'Explain it' -m llama --in-ctx 8192",
    "infer summary -m llama --file_prompt adam.toml --text_file d.txt": (
        "infer summary -m llama --file-prompt adam.toml --text-file d.txt"
    ),
    "infer aps --file_prompt adam.toml --text 'Your text'": "infer aps --file-prompt adam.toml --text 'Your text'",
    "test llama --reset": "test llama --reset",
    "health --verbose": "doctor --verbose",
    "optimize llama": "test llama",
    "models list": "list",
    "models scan": "scan",
    "about": "list --show summary",
}
DOCUMENTATION = {
    "list --columns name,size,ctx": "list --columns name,size,tested",
    "registry export --full-metadata models.json": "registry export models.json",
    "--debug --no-color test m": "--debug --no-color test m",
    "--verbose scan": "scan --verbose",
    "scan -r": "scan --refresh",
    "scan --no-update --verbose": "scan --no-update --verbose",
    "scan --server http://192.168.1.100:1234 --timeout 60": "scan --server http://192.168.1.100:1234 --timeout 60",
    "list -r --sort date": "list --reverse --sort date",
    "list --filter 'status:tested,size:>5GB'": "list 'status:tested,size:>5GB'",
    "test -a --threshold 16384 --quiet": "test --all --threshold 16384 --quiet",
    "test -a -c 4096": "test --all --ctx 4096",
    "test -a -c": "test --all --continue",
    "test --continue --verbose": "test --continue --verbose",
    "test --all --parallel 2 --sort size": "test --all --sort size",
    "test --all --sort dtxd": "test --all",
    "test m --file-prompt p.toml --template simple": "test m --file-prompt p.toml --template simple",
    "infer -m m --prompt-file p.toml --template simple --variable a=b": (
        "infer -m m --file-prompt p.toml --template simple --var a=b"
    ),
    "infer m --prompt-file p.toml --template simple": "infer -m m --file-prompt p.toml --template simple",
    "infer hi m -1": "infer hi -m m --max-tokens auto",
    "infer hi m --out_ctx -1": "infer hi -m m --max-tokens auto",
    "infer hi m --out_ctx=-1": "infer hi -m m --max-tokens auto",
    "infer hi -m m --max_tokens -1": "infer hi -m m --max-tokens auto",
    "infer hi --model_id m --param_temp 0.3 --param_top_k 40": "infer hi -m m --temperature 0.3 --top-k 40",
    "infer hi m --param_top_p 0.9 --param_repeat=1.2 --param_min_p 0.05": (
        "infer hi -m m --top-p 0.9 --repeat-penalty 1.2 --min-p 0.05"
    ),
    "infer hi -m m --continue-conv --save-response c.txt": "infer hi -m m --continue --save-response c.txt",
    "infer hi -m m --format yaml --no-wrap": "infer hi -m m --format yaml",
    "infer hi -m m --stream --stream_timeout 3": "infer hi -m m --stream --stream-timeout 3",
    "infer -m m --stdin --format json": "infer -m m --stdin --format json",
    "save --flash --limit '75%'": "save --flash --limit 75%",
    "save --threshold 0": "save",
    "-q health": "doctor --quiet",
}

# What Fire took beside: booleans as words, negations without a dash, options of one dash, letters with =.
FORMS = {
    "infer hi m --stream True": "infer hi -m m --stream",
    "infer hi m --stream=False": "infer hi -m m --no-stream",
    "infer hi m --stream False --out_ctx 5": "infer hi -m m --no-stream --max-tokens 5",
    "infer hi m --nostream": "infer hi -m m --no-stream",
    "infer hi m --noreload --verbose True": "infer hi -m m --no-reload --verbose",
    "infer hi m --reload=True": "infer hi -m m --reload",
    "infer --reload True hi m": "infer hi -m m --reload",
    "infer hi -m=m": "infer hi -m m",
    "infer hi -model m": "infer hi -m m",
    "infer hi m -temperature 0.5": "infer hi -m m --temperature 0.5",
    "infer hi m --in_ctx=50%": "infer hi -m m --in-ctx 50%",
    "infer hi m 100 4096": "infer hi -m m --max-tokens 100 --in-ctx 4096",
    "infer hi m -1 50%": "infer hi -m m --max-tokens auto --in-ctx 50%",
    "infer hi m 25%": "infer hi -m m --max-tokens 25%",
    "infer hi m -o 100 -i 4096 -r": "infer hi -m m --max-tokens 100 --in-ctx 4096 --reload",
    "infer hi m -": "infer hi -m m -",
    "infer --model_id=m hi": "infer hi -m m",
    "infer -5 m": "infer -5 -m m",
    "infer '- item' m": "infer '- item' -m m",
    "infer True m": "infer True -m m",
    "infer '{a}' m": "infer '{a}' -m m",
    "infer 'hello, world' m": "infer 'hello, world' -m m",
    "test m --fast True --force=True": "test m --fast --force",
    "test m --noforce": "test m --no-force",
    "scan --failed True": "scan --failed",
    "save m --flash True --limit=50%": "save m --flash --limit 50%",
    "save -f": "save --flash",
}


def read(line: str) -> Invocation:
    """What `lmstrix` runs for these words."""
    words = shlex.split(line)
    try:
        return parse(words, COMMANDS, COMMON)
    except UsageError:
        found = rewritten(words, COMMANDS, COMMON)
        if found is None:
            raise
        return parse(found.words, COMMANDS, COMMON)


@pytest.mark.parametrize(("old", "new"), (SCRIPTS | README | DOCUMENTATION | FORMS).items())
def test_a_call_of_the_earlier_version_runs_what_it_asked_for(old: str, new: str) -> None:
    assert read(old) == parse(shlex.split(new), COMMANDS, COMMON)


def an_example(row: Migration) -> tuple[str, str]:
    """A row's words with something in the place of its capitals."""
    said = {"N": "8192", "X": "1", "FILE": "f.toml", "NAME=VALUE": "a=b", "MODEL": "m", "PROMPT": "p", "NAME": "n"}

    def filled(text: str) -> str:
        return " ".join(said.get(word, "t" if word.isupper() else word) for word in text.split())

    # What these need beside: words that are no part of what the row is about.
    beside = " m" if row.old.partition(" ")[0] in ("test", "optimize") and "model" not in row.old else ""
    return filled(row.old) + beside, filled(row.new or "") + beside


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.kind in ("command", "option", "words")], ids=lambda r: r.old
)
def test_every_row_of_the_table_is_true(row: Migration) -> None:
    old, new = an_example(row)
    with pytest.raises(UsageError):
        parse(shlex.split(old), COMMANDS, COMMON)
    if row.new is None:
        with pytest.raises(UsageError) as refused:
            read(old)
        assert row.note
        assert row.note in str(refused.value)
        return
    assert read(old) == parse(shlex.split(new), COMMANDS, COMMON)


@pytest.mark.parametrize(
    "line",
    [
        "infer -- '--force-reload'",
        "infer -- '--out_ctx -1'",
        "infer '--param_temp is an option'",
        "infer --prompt=--no-wrap",
        "infer hi -m m",
        "infer hi --system-prompt --no-wrap",
        "list health",
        "list --sort id",
        "infer --stream True -m m",
        "infer True -m m --stream",
        "list -- --nothing",
    ],
)
def test_what_is_understood_today_is_read_as_before(line: str) -> None:
    assert read(line) == parse(shlex.split(line), COMMANDS, COMMON)


@pytest.mark.parametrize(
    "line",
    [
        "infer -- a b",
        "infer a -- b c",
        "infer one two three",
        "infer one two three four",
        "infer hi --temprature 1",
        "infer hi -m a -m b",
        "infer hi m --nostreams",
        "list a b",
        "scan True",
        "nothing",
    ],
)
def test_what_was_never_understood_is_refused_as_before(line: str) -> None:
    assert rewritten(shlex.split(line), COMMANDS, COMMON) is None


def test_what_stands_after_two_dashes_is_no_option() -> None:
    found = rewritten(["infer", "--force-reload", "--", "--no-wrap"], COMMANDS, COMMON)
    assert found is not None
    assert found.words == ["infer", "--reload", "--", "--no-wrap"]


def test_one_line_names_the_words_of_today(cli: Callable[..., Ran], home: Path) -> None:
    ran = cli("list", "--sort", "sized", "-r").ok()
    assert ran.lines[0] == (
        "lmstrix: words of the earlier LMStrix: list --sort sized is now list --sort size --reverse;"
        " list -r is now list --reverse"
    )
    assert cli("list", "--sort", "sized", "--quiet").ok().err == ""


def test_what_has_no_equivalent_fails_and_says_why(cli: Callable[..., Ran], home: Path) -> None:
    cli("list", "--sort", "tps").failed(2, "list --sort tps", "recommend --prefer speed")
    cli("desc", "--all").failed(2, "recommend")


def test_an_answer_comes_through_the_earlier_words(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    ran = cli("infer", "2+3=", "scripted", "--out_ctx", "-1", "--param_temp", "0", "--no-wrap").ok()
    assert ran.out == "5\n"
    assert "infer PROMPT MODEL is now infer PROMPT -m MODEL" in ran.err


def test_an_answer_as_yaml(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    lines = cli("infer", "2+3=", "-m", "scripted", "--format", "yaml").ok().out.splitlines()
    assert lines[0] == 'schema: "lmstrix.infer/1"'
    assert 'text: "5"' in lines


def test_the_list_of_the_earlier_version(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan", "-q").ok()
    cli("test", "tiny", "--ctx", "512", "--fast", "-q").ok()
    models = json.loads(cli("list", "--compat", "--sort", "id").ok().out)
    assert [model["name"] for model in models if model["status"] == "tested"] == ["tiny"]
    tiny = next(model for model in models if model["id"] == "tiny")
    assert (tiny["tested_max_context"], tiny["ctx_in"], tiny["context_test_status"]) == (512, 4096, "completed")
    assert tiny["short_id"] == "tiny-f16"


def test_the_answer_of_the_earlier_version(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    answer = cli("infer", "2+3=", "-m", "scripted", "--compat").ok().json
    assert (answer["response"], answer["succeeded"], answer["model_id"]) == ("5", True, "scripted")
    assert answer["tokens_used"] == answer["prompt_tokens"] + answer["response_tokens"]
    cli("infer", "2+3=", "-m", "scripted", "--compat", "-x").failed(2, "--compat does not go with --extract")
    cli("infer", "2+3=", "-m", "scripted", "--compat", "--format", "yaml").failed(
        2, "--compat does not go with --format yaml"
    )
    assert cli("infer", "2+3=", "scripted", "--format", "json", "--compat").ok().json["response"] == "5"


@pytest.mark.parametrize("row", [row for row in ROWS if row.kind == "output"], ids=lambda row: row.old)
def test_the_help_tells_of_the_earlier_output(row: Migration, cli: Callable[..., Ran]) -> None:
    command, option = (row.new or "").split()
    text = cli(command, "--help").ok().out
    assert option in text
    assert "jq -r" in text


def test_a_context_test_asks_a_prompt_of_a_file(
    cli: Callable[..., Ran], engine: EmbeddedEngine, tmp_path: Path
) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[simple]\nprompt = "2+3="\n', encoding="utf-8")
    cli("scan", "-q").ok()
    words = ("test", "--model_id", "scripted", "-c", "512", "--file-prompt", str(file))
    assert cli(*words, "--template", "simple", "--json").ok().json["models"][0]["tested_context_length"] == 512
    cli("test", "scripted", "--file-prompt", str(file), "--template", "smple").failed(1, "simple")
    cli("test", "scripted", "--template", "simple").failed(2, "--file-prompt FILE.toml")


@pytest.mark.slow
def test_to_continue_alone_is_to_continue_the_test_of_all_models(
    cli: Callable[..., Ran], engine: EmbeddedEngine
) -> None:
    cli("scan", "-q").ok()
    cli("test", "--all", "--fast", "-q").ok()
    # Nothing is left over, and both say so.
    alone, every_model = cli("test", "--continue", "--fast"), cli("test", "--all", "--continue", "--fast")
    assert (
        (alone.code, alone.out, alone.err) == (every_model.code, every_model.out, every_model.err) == (0, "", alone.err)
    )
