"""`lmstrix demo`: scan, list, test and ask, on the embedded engine and the bundled model, in a temporary home.

It runs the very commands a user would type, one process each, so what it shows is what they will see.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from json import loads
from pathlib import Path

from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.processes import own_python, run_on_terminal

MODEL = "demo-needle"
MEMORY_LIMIT_MIB = 85

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoStep:
    """One command of the demo, and what it said with --json."""

    command: str
    output: object


def run_demo(note: Note, *, json: bool = False) -> list[DemoStep]:
    """Start an engine that lets models take little memory, then scan, list, test, ask; clean everything up.

    The commands show what they find themselves; with `json` they show nothing, and it is returned.
    """
    with tempfile.TemporaryDirectory(prefix="lmstrix-demo-") as folder, as_file(files("lmstrix") / "data") as data:
        models = Path(folder) / "models"
        # A copy, so that nothing that serves or scans the folder can write into the installed package.
        shutil.copytree(data / "models", models, ignore=shutil.ignore_patterns("*.md"))
        return _tell(Path(folder) / "home", models, note, json=json)


def _tell(home: Path, models: Path, note: Note, *, json: bool) -> list[DemoStep]:
    # The user's own settings must neither change what the demo shows nor be changed by it.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTRIX_", "LMSTUDIO_"))}
    environment |= {"LMSTRIX_HOME": str(home), "LMSTRIX_SERVER": "embedded", "LMSTRIX_MODELS_DIR": str(models)}
    steps: list[DemoStep] = []

    def command(*words: str, say: str) -> None:
        note("")
        note(f"# {say}")
        note(f"$ lmstrix {' '.join(_quoted(word) for word in words)}")
        lmstrix = own_python("-P", "-m", "lmstrix", *words, *(["--json"] if json else []), environ=environment)
        ended = run_on_terminal(lmstrix, reads=False, captured=json)
        if ended.exit_code != 0:
            raise LMStrixError(f"the demo's command 'lmstrix {' '.join(words)}' ended with exit code {ended.exit_code}")
        if json:
            steps.append(DemoStep(command=f"lmstrix {' '.join(words)}", output=loads(ended.output)))

    note("LMStrix demo: a small bundled model on the embedded engine, in a temporary folder.")
    try:
        command(
            "engine", "start", "--models-dir", str(models), "--memory-limit", f"{MEMORY_LIMIT_MIB}MiB",
            say=f"An LM Studio-compatible server over llama.cpp; models may take {MEMORY_LIMIT_MIB} MiB.",
        )  # fmt: skip
        command("scan", say="What is there? The registry keeps it.")
        command("list", say="The declared context is what the model's file claims.")
        command("test", MODEL, say="What it really holds: load, fill for real, ask for codes hidden in the text.")
        command("list", say="Declared, loads under this limit, really recalls:")
        command(
            "infer", "Who are you?", "-m", MODEL, "--markdown", "--verbose", "--temperature", "0",
            say="Ask it. The prompt is counted against the tested context before it is sent.",
        )  # fmt: skip
    finally:
        # Also after a failure or Ctrl-C: an engine left behind would hold its memory until somebody finds it.
        command("engine", "stop", say="Clean up.")
    note("")
    note("Done; nothing is left running. Next: lmstrix doctor, lmstrix scan, lmstrix test --all")
    return steps


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word or "?" in word else word
