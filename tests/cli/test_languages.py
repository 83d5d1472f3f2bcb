"""Text of every language through pipes and files, in a process whose locale knows Latin letters only."""

from __future__ import annotations

import codecs
import os
import sys
from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder
from tests.cli.processes import COMMAND, PATIENCE_S, start
from tests.support.faulty_server import FaultyModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

TEXT = "→ 世界 🌍"
# As on Windows: Python takes the locale's code page, and neither UTF-8 mode nor another locale in its place.
POOR = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
IN_ASCII = [sys.executable, "-X", "utf8=0", *COMMAND[1:]]
LITTLE_ENDIAN = codecs.BOM_UTF16_LE + f"{TEXT}\n".encode("utf-16-le")
BIG_ENDIAN = codecs.BOM_UTF16_BE + f"{TEXT}\n".encode("utf-16-be")
WRITTEN = {
    "utf-8": f"{TEXT}\n".encode(),
    "with a mark": codecs.BOM_UTF8 + f"{TEXT}\n".encode(),
    "powershell": LITTLE_ENDIAN,
    "big-endian": BIG_ENDIAN,
}


@pytest.fixture
def python_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONIOENCODING", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("python_says_nothing", "home")
class TestPipes:
    def run(self, *words: str, stdin: bytes = b"", **environment: str) -> bytes:
        process = start(*words, command=IN_ASCII, stdin=-1, environment=POOR | environment)
        out, err = process.communicate(stdin, timeout=PATIENCE_S)
        assert process.returncode == 0, err
        return out

    @pytest.mark.slow
    @pytest.mark.parametrize("form", WRITTEN)
    def test_a_prompt_goes_in_and_comes_out_as_it_is(self, form: str) -> None:
        for words in (("--stdin",), ()):
            assert self.run("infer", *words, "--dry-run", stdin=WRITTEN[form]) == f"{TEXT}\n".encode()

    @pytest.mark.slow
    def test_an_answer_reaches_a_file_and_is_read_from_it_again(
        self, cli: Callable[..., Ran], faulty: FaultyServer, tmp_path: Path
    ) -> None:
        faulty.models["acme/tiny"] = FaultyModel(key="acme/tiny", answer=TEXT)
        cli("scan", "--quiet").ok()
        answer = self.run("infer", "hi", "-m", "acme/tiny", "--quiet")
        assert answer.replace(os.linesep.encode(), b"\n") == f"{TEXT}\n".encode()
        assert self.run("infer", "--dry-run", stdin=answer) == answer
        shown = self.run("infer", "hi", "-m", "acme/tiny", "--json", "--quiet")
        assert TEXT in shown.decode()

    def test_who_chose_an_encoding_gets_it(self) -> None:
        out = self.run("infer", "--dry-run", stdin=f"{TEXT} é".encode(), PYTHONIOENCODING="cp1252")
        assert out == f"{TEXT} é".encode("cp1252", "replace")


@pytest.mark.parametrize("form", WRITTEN)
def test_chat_over_a_pipe_says_what_was_written(cli: Callable[..., Ran], faulty: FaultyServer, form: str) -> None:
    said = faulty.models["acme/tiny"]
    said.answer = TEXT
    cli("scan", "--quiet").ok()
    ran = cli("chat", "-m", "acme/tiny", "--quiet", stdin=WRITTEN[form])
    assert (ran.code, ran.out) == (0, f"{TEXT}\n")
    assert f"'text': '{TEXT}'" in str(faulty.seen)


@pytest.mark.parametrize("form", WRITTEN)
def test_files_of_text_variables_prompts_and_settings_are_read(
    cli: Callable[..., Ran], home: Path, tmp_path: Path, form: str
) -> None:
    mark = {
        "utf-8": b"",
        "with a mark": codecs.BOM_UTF8,
        "powershell": codecs.BOM_UTF16_LE,
        "big-endian": codecs.BOM_UTF16_BE,
    }
    encoding = {"powershell": "utf-16-le", "big-endian": "utf-16-be"}.get(form, "utf-8")

    def write(name: str, text: str) -> str:
        (tmp_path / name).write_bytes(mark[form] + text.encode(encoding))
        return str(tmp_path / name)

    prompts = write("p.toml", 'greet = "{{word}} 世界 {{text}}"')
    variables = [write("v.toml", 'word = "→"'), write("v.json", '{"word": "→"}')]
    text = write("t.txt", "🌍")
    for file in variables:
        ran = cli("infer", f"@{prompts}:greet", "--vars-file", file, "--text-file", text, "--dry-run").ok()
        assert ran.out == TEXT
    own_folder(home).mkdir(parents=True, exist_ok=True)
    (own_folder(home) / "config.toml").write_bytes(mark[form] + '"世界" = 1'.encode(encoding))
    ran = cli("list")
    assert "世界" in ran.err
