"""Make the pictures of src_docs/assets from real runs: python -m tools.make_screenshots

The bundled model and some tiny ones are tested and measured on the embedded engine, in temporary homes. What the
terminal shows becomes SVG by Rich; the report page is photographed by a headless Chromium, if there is one. Three of
the homes are those of newcomers: one without models, one with LM Studio's folders, one with files of lmstrix 1.0.84.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import original_home
from tests.support.tiny_gguf import tiny_model

from lmstrix import EmbeddedEngine
from tools.terminal_pictures import screens, write_picture

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "src_docs" / "assets"
COLUMNS = 110
WALK_COLUMNS = 100
TINY = ("gemma2", "qwen2")
MEMORY_LIMIT = 90 * 2**20
"""Too little for all that the bundled model declares."""
WITHOUT_MODEL = ("lmstrix list", "lmstrix scan", "lmstrix infer Hello")
WITH_LM_STUDIO = (
    "lmstrix scan",
    "lmstrix list",
    "lmstrix test demo-needle --dry-run",
    "lmstrix test demo-needle --threshold 2048 --quiet",
    'lmstrix infer "Who are you?" -m demo-needle',
    "lmstrix list",
)
FROM_THE_ORIGINAL = (
    "lmstrix list",
    "lmstrix scan --quiet",
    "lmstrix models default",
    "lmstrix list -r",
    "lmstrix config validate",
)


def main() -> None:
    """All pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _user(folder / "without"):
            walk("without-a-model", WITHOUT_MODEL, may_fail=True)
        with _user(folder / "studio") as user, _engine(user / ".lmstudio" / "models"):
            walk("with-lm-studio", WITH_LM_STUDIO)
        with _user(folder / "original") as user, _engine(user / ".lmstudio" / "models"):
            original_home.leave(user, user / ".lmstudio")
            walk("from-the-original", FROM_THE_ORIGINAL)
        with _user(folder / "user") as user, _engine(user / ".lmstudio" / "models"):
            _pictures_of_tests(folder / "report")
        photograph(folder / "report" / "index.html", ASSETS / "report.png")


@contextmanager
def _user(user: Path) -> Iterator[Path]:
    """Commands run as somebody whose folder is this; where it lies is not to be seen on a picture."""
    user.mkdir()
    before = dict(os.environ)
    for name in ("LMSTRIX_HOME", "LMSTRIX_SERVER", "LMSTRIX_MODELS_DIR", "XDG_DATA_HOME"):
        os.environ.pop(name, None)
    os.environ["HOME"] = str(user)
    try:
        yield user
    finally:
        os.environ.clear()
        os.environ |= before


@contextmanager
def _engine(models: Path) -> Iterator[None]:
    """A server for some models in this folder, which lies in what looks like a home of LM Studio's."""
    shutil.copytree(ROOT / "src" / "lmstrix" / "data" / "models", models)
    (models.parent / ".internal").mkdir()
    for name in TINY:
        target = models / "tiny" / f"tiny-{name}-GGUF" / f"tiny-{name}-f16.gguf"
        target.parent.mkdir(parents=True)
        shutil.copy(tiny_model(name, context_length=8192), target)
    with EmbeddedEngine(models, memory_limit=MEMORY_LIMIT) as engine:
        os.environ["LMSTRIX_SERVER"] = engine.address
        yield


def walk(name: str, commands: tuple[str, ...], *, may_fail: bool = False) -> None:
    """One picture of commands that a newcomer gives, one after the other."""
    runs = []
    for command in commands:
        screen = screens(*shlex.split(command)[1:], columns=WALK_COLUMNS, may_fail=may_fail)[-1]
        runs.append((command, screen.replace(os.environ["HOME"], "~")))
    write_picture(ASSETS / f"{name}.svg", runs, WALK_COLUMNS)


def _pictures_of_tests(report: Path) -> None:
    screens("scan", columns=COLUMNS)
    running = screens("test", "demo-needle", columns=COLUMNS)
    write_picture(ASSETS / "test-running.svg", [("lmstrix test demo-needle", running[len(running) // 2])], COLUMNS)
    write_picture(ASSETS / "test.svg", [("lmstrix test demo-needle", running[-1])], COLUMNS)
    screens("test", "--all", "--fast", columns=COLUMNS)
    write_picture(ASSETS / "list.svg", [("lmstrix list", screens("list", columns=COLUMNS)[-1])], COLUMNS)
    bench = ("bench", "demo-needle", "tiny-qwen2", "--context-tiers", "0,512", "--no-power")
    screens(*bench, "--out", str(report), columns=COLUMNS)


def photograph(page: Path, target: Path) -> None:
    """The top of a page as PNG; the picture there is stays where no Chromium is installed."""
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser is None:
        print("no Chromium found: report.png stays as it is", file=sys.stderr)
        return
    size = ["--window-size=1100,1000", "--hide-scrollbars", f"--screenshot={target}"]
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", *size, page.as_uri()], check=True, timeout=120
    )


if __name__ == "__main__":
    main()
