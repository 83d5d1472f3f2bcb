"""Make the pictures of src_docs/assets from real runs: python -m tools.make_screenshots

The bundled model and some tiny ones are tested and measured on the embedded engine, in a temporary home. What the
terminal shows becomes SVG by Rich; the report page is photographed by a headless Chromium, if there is one.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from tests.support.tiny_gguf import tiny_model

from lmstrix import EmbeddedEngine

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "src_docs" / "assets"
COLUMNS = 110
TINY = ("gemma2", "qwen2")
_PIECE = re.compile(
    r"\x1b\[(?P<count>\d*)(?P<command>[A-Za-z])|\x1b\[\?\d+[hl]|(?P<move>[\r\n])|(?P<text>[^\x1b\r\n]+)"
)


def main() -> None:
    """All pictures."""
    with tempfile.TemporaryDirectory() as folder:
        home, models = Path(folder) / "home", Path(folder) / "models"
        shutil.copytree(ROOT / "src" / "lmstrix" / "data" / "models", models)
        for name in TINY:
            target = models / "tiny" / f"tiny-{name}-GGUF" / f"tiny-{name}-f16.gguf"
            target.parent.mkdir(parents=True)
            shutil.copy(tiny_model(name, context_length=8192), target)
        with EmbeddedEngine(models, memory_limit=90 * 2**20) as engine:
            os.environ |= {"LMSTRIX_HOME": str(home), "LMSTRIX_SERVER": engine.address}
            screens("scan")
            running = screens("test", "demo-needle")
            picture("test-running", "lmstrix test demo-needle", running[len(running) // 2])
            picture("test", "lmstrix test demo-needle", running[-1])
            screens("test", "--all", "--fast")
            picture("list", "lmstrix list", screens("list")[-1])
            report = Path(folder) / "report"
            screens(
                "bench", "demo-needle", "tiny-qwen2", "--context-tiers", "0,512", "--no-power", "--out", str(report)
            )
        photograph(report / "index.html", ASSETS / "report.png")


def screens(*words: str) -> list[str]:
    """What a terminal showed while `lmstrix` ran with these words, from moment to moment."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "lmstrix", *words])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    shown = b""
    found = []
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:
            break  # how Linux says that the program has ended
        if not read:
            break
        shown += read
        found.append(_screen(shown.decode(errors="ignore")))
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"lmstrix {' '.join(words)} failed:\n{found[-1]}")
    return found


def _screen(shown: str) -> str:
    """The lines as they stand after everything shown: what a progress display wrote over is gone."""
    lines, row = [""], 0
    for piece in _PIECE.finditer(shown):
        if piece["move"] == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece["command"] == "A":
            row = max(0, row - int(piece["count"] or 1))
        elif piece["command"] == "K":
            lines[row] = ""
        elif piece["command"] == "m" or piece["text"]:
            lines[row] += piece[0]
    return "\n".join(lines).rstrip()


def picture(name: str, command: str, screen: str) -> None:
    """One SVG of a terminal. Without Rich's web font: the site asks nobody for anything."""
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: SIM115
    console.print(Text(f"$ {command}"))
    console.print(Text.from_ansi(screen))
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="lmstrix", theme=MONOKAI, code_format=form, unique_id=name)
    (ASSETS / f"{name}.svg").write_text(svg, encoding="utf-8")


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
