"""Shell completion: what is offered where, and that bash, zsh and fish offer it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.candidates import FILES, Names, candidates
from lmstrix.ground.paths import own_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran

NAMES = Names(
    models=lambda: ["qwen3-8b", "gemma-3-4b"],
    prompts=lambda file: [f"{file}-a", f"{file}-b"],
    collections=lambda: ["docs", "faq"],
    conversations=lambda: ["infer", "tides"],
)
PROGRAMS = Path(sys.executable).parent


def offered(line: str) -> list[str]:
    """What may become of the last word of a line."""
    *before, current = shlex.split(line) + ([""] if line.endswith(" ") else [])
    return [value for value, _ in candidates(before, current, COMMANDS, common_parameters(), NAMES)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lis", ["list"]),
        ("engine st", ["start", "stop", "status"]),
        ("bench co", ["compare"]),
        ("bench q", ["qwen3-8b"]),
        ("bench qwen3-8b g", ["gemma-3-4b"]),
        ("test q", ["qwen3-8b"]),
        ("test qwen3-8b ", []),
        ("test --prec", ["--precision"]),
        ("test --precision ", ["safe", "balanced", "tight", "exhaustive"]),
        ("test --precision=t", ["--precision=tight"]),
        ("test --precision safe --prec", []),
        ("test --no-fl", ["--no-flash-attention"]),
        ("infer -m ", ["qwen3-8b", "gemma-3-4b"]),
        ("infer hello --model=g", ["--model=gemma-3-4b"]),
        ("infer --temperature ", []),
        ("infer -- --mod", []),
        ("infer --file-prompt ", [FILES]),
        ("infer --file-prompt=", [FILES]),
        ("infer --file-prompt p ", ["p-a", "p-b"]),
        ("infer --file-prompt p p-a,p", ["p-a,p-a", "p-a,p-b"]),
        ("prompts render ", [FILES]),
        ("collections search ", ["docs", "faq"]),
        ("collections delete d", ["docs"]),
        ("collections add docs ", []),
        ("conversations show t", ["tides"]),
        ("conversations export tides ", [FILES]),
        ("chat --conversation ", ["infer", "tides"]),
        ("registry restore ", []),
        ("prompts render p p-b", ["p-b"]),
        ("batch --models qwen3-8b,g", ["qwen3-8b,gemma-3-4b"]),
        ("list --server e", ["embedded"]),
        ("nonsense ", []),
        ("--js", ["--json"]),
    ],
)
def test_what_is_offered(line: str, expected: list[str]) -> None:
    assert offered(line) == expected


def test_every_command_and_every_option_can_be_reached() -> None:
    for path in COMMANDS:
        assert path[-1] in offered(" ".join([*path[:-1], path[-1]]))
        assert "--json" in offered(" ".join([*path, "--"]))


def test_completion_asks_nobody_and_is_never_an_error(
    cli: Callable[..., Ran], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTRIX_SERVER", "nowhere.invalid:1")
    assert cli("__complete", "test", "") == (0, "", "")
    assert cli("__complete", "prompts", "render", "no-such.toml", "") == (0, "", "")
    assert cli("__complete", "no-such-command", "") == (0, "", "")
    assert cli("__complete").out.startswith("scan\t")


def test_models_come_from_the_registry(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    cli("scan").ok()
    assert cli("__complete", "infer", "-m", "").ok().out.split() == ["scripted", "text-embedding-embed", "tiny"]


def test_names_of_what_is_kept(cli: Callable[..., Ran], home: Path) -> None:
    from lmstrix.core.answers.conversations import CONVERSATIONS, Conversation, ConversationStore

    assert cli("__complete", "collections", "show", "") == (0, "", "")
    assert not (own_folder(home) / "collections.db").exists()
    ConversationStore(own_folder(home) / CONVERSATIONS).save(Conversation(name="tides"))
    assert cli("__complete", "conversations", "show", "").out == "tides\n"


def test_a_completion_imports_no_event_loop(home: Path) -> None:
    code = "import sys; from lmstrix.cli.app import run; run(['__complete', 'test', '']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"asyncio", "lmstudio", "aiohttp", "httpx", "pydantic"} & set(done.stdout.split())


def test_the_script_is_also_there_as_json(cli: Callable[..., Ran]) -> None:
    assert cli("completion", "fish", "--json").ok().json["script"] == cli("completion", "fish").ok().out
    cli("completion", "tcsh").failed(2, "'tcsh' is not one of bash, zsh, fish")


CASES = [
    ("lmstrix infer -m scr", "scripted"),
    ("lmstrix list --sort sm", "smart"),
    ("lmstrix infer --file-prompt rev", "review.toml"),
    ("lmstrix infer --text-file=rev", "review.toml"),
    ("lmstrix test --precision=ti", "tight"),
]
IN_BASH = """
source <(lmstrix completion bash)
for COMP_LINE in "$@"; do COMP_POINT=${#COMP_LINE}; _lmstrix; echo "${COMPREPLY[*]}"; done
"""
IN_FISH = 'source (lmstrix completion fish | psub); for line in $argv; complete -C "$line"; end'


@pytest.fixture
def at_the_prompt(cli: Callable[..., Ran], engine: EmbeddedEngine, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder with a prompt file, and an environment in which a shell finds lmstrix and the models it has scanned."""
    cli("scan").ok()
    (tmp_path / "review.toml").write_text('a = "b"', encoding="utf-8")
    own = {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path), "PS1": "> "}
    return tmp_path, os.environ | own


@pytest.mark.slow
@pytest.mark.needs_posix("these shells are not there")
@pytest.mark.parametrize(
    ("shell", "words"), [("bash", ["--norc", "-c", IN_BASH, "bash"]), ("fish", ["--no-config", "-c", IN_FISH])]
)
def test_a_shell_completes(shell: str, words: list[str], at_the_prompt: tuple[Path, dict[str, str]]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    folder, environment = at_the_prompt
    done = subprocess.run(
        [shell, *words, *(line for line, _ in CASES)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    shown = [line.partition("\t")[0].rpartition("=")[2] for line in done.stdout.splitlines()]
    assert shown == [expected for _, expected in CASES], done.stderr


@pytest.mark.slow
@pytest.mark.needs_posix("zsh completes on a terminal alone")
@pytest.mark.parametrize(("line", "expected"), CASES)
def test_zsh_completes(line: str, expected: str, at_the_prompt: tuple[Path, dict[str, str]]) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    import pty

    from tests.cli.terminals import Screen

    folder, environment = at_the_prompt
    terminal, other_end = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], cwd=folder, env=environment, stdin=other_end, stdout=other_end, stderr=other_end
    )
    os.close(other_end)
    screen = Screen(terminal)
    screen.type('autoload -U compinit; compinit -u -D; eval "$(lmstrix completion zsh)"; echo rea""dy\n')
    screen.wait_for("ready\r\n")
    screen.type(f"{line}\t")
    screen.wait_for(expected)
    screen.type("\x15exit\n")
    shell.wait(timeout=30)
    screen.wait_for_end()
