"""A stand-in for the launcher that `python.exe` is in a Windows venv: it starts the interpreter as a second process.

As there, the interpreter takes the launcher for itself (`sys.executable`), so what it starts goes through the launcher
again; the launcher waits, and ends with the interpreter's exit code.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

_LAUNCHER = """#!{interpreter} -IS
import signal, subprocess, sys
interpreter = subprocess.Popen(sys.argv, executable={interpreter!r})
signal.signal(signal.SIGINT, signal.SIG_IGN)
status = interpreter.wait()
sys.exit(status if status >= 0 else 128 - status)
"""


def make_launcher(folder: Path) -> Path:
    """A venv in `folder` with the packages of ours; the path of its `python`."""
    interpreter = os.path.realpath(sys.executable)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    ours = [*site.getsitepackages(), str(Path(__file__).parents[2] / "src")]
    lines = [f"import site; site.addsitedir({path!r})" for path in ours]
    (packages / "ours.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "pyvenv.cfg").write_text(f"home = {Path(interpreter).parent}\n", encoding="utf-8")
    launcher = folder / "bin" / "python"
    launcher.parent.mkdir()
    launcher.write_text(_LAUNCHER.format(interpreter=interpreter), encoding="utf-8")
    launcher.chmod(0o755)
    return launcher
