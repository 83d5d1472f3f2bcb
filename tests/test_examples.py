"""The examples: the script that runs them all runs them, and every prompt file is sound."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmstrix import EmbeddedEngine
from lmstrix.service.prompting import lint, open_library
from tests.support.model_files import put_model
from tests.support.tiny_gguf_scripted import scripted_model

EXAMPLES = Path(__file__).parent.parent / "examples"
PROMPTS = sorted(EXAMPLES.glob("prompts/*.toml"))


@pytest.mark.parametrize("file", PROMPTS, ids=lambda file: file.name)
def test_a_prompt_file_has_nothing_wrong(file: Path) -> None:
    assert [finding for finding in lint(str(file)) if finding.severity == "error"] == []
    assert open_library(str(file)).templates


def test_prompt_files_cover_what_people_ask() -> None:
    assert {"coding.toml", "creative.toml", "documents.toml", "qa.toml"} <= {file.name for file in PROMPTS}


@pytest.mark.slow
@pytest.mark.needs_posix("the script is one of bash")
def test_all_examples_run(tmp_path: Path) -> None:
    put_model(tmp_path / "models", "echo", scripted_model(context_length=2048))
    with EmbeddedEngine(tmp_path / "models") as engine:
        own = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "LMSTRIX_HOME": str(tmp_path / "home"),
            "LMSTRIX_MODELS_DIR": str(tmp_path / "models"),
            "LMSTRIX_SERVER": engine.address,
            "MAX_TOKENS": "8",
            "THRESHOLD": "1024",
        }
        done = subprocess.run(
            [str(EXAMPLES / "run_all_examples.sh"), "echo"],
            cwd=tmp_path,
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=170,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    scripts = [*EXAMPLES.glob("cli/*.sh"), *EXAMPLES.glob("python/*.py")]
    assert [script.name for script in scripts if f"=== {script.name}\n" not in done.stdout] == []
    assert done.stdout.endswith("all examples ran\n")
