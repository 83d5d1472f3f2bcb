"""Install the wheel with each extra into an environment of its own, and use it: python -m tools.try_extras [EXTRA…]

Not a test of the suite: it downloads every package, several times. For a release, after `make dist`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLAIN = "none"
USES = {
    PLAIN: ["lmstrix version", "lmstrix list", f"lmstrix prompts list {ROOT / 'examples' / 'prompts' / 'qa.toml'}"],
    "engine": ["lmstrix version", "lmstrix demo"],
    "serve": ["lmstrix version", "lmstrix list"],
    "power": ["lmstrix version", "lmstrix power --watch 1s"],
    "docs": [
        "lmstrix version",
        f"mkdocs build --strict --config-file {ROOT / 'mkdocs.yml'} --site-dir {{folder}}/site",
    ],
    "dev": ["lmstrix version", "pytest --version", "mypy --version", "ruff --version", "hatchling build --help"],
}
"""What each extra is used for: commands that must succeed, of lmstrix or of what the extra brings."""


def main(wanted: list[str]) -> int:
    """The number of extras that do not work."""
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    if not wheels:
        sys.exit("there is no wheel in dist/: make dist")
    failed = 0
    for extra in wanted or USES:
        with tempfile.TemporaryDirectory() as folder:
            works = _works(wheels[-1], extra, Path(folder))
        print(f"{extra}: {'works' if works else 'FAILS'}", flush=True)
        failed += not works
    return failed


def _works(wheel: Path, extra: str, folder: Path) -> bool:
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    what = str(wheel) if extra == PLAIN else f"{wheel}[{extra}]"
    environment = os.environ | {"LMSTRIX_HOME": str(folder / "home"), "LMSTRIX_SERVER": "embedded"}
    uses = [shlex.split(use.format(folder=folder), posix=os.name != "nt") for use in USES[extra]]
    for command in (["python", "-m", "pip", "install", "--quiet", what], *uses):
        done = subprocess.run([str(programs / command[0]), *command[1:]], env=environment, cwd=folder, check=False)
        if done.returncode:
            print(f"{' '.join(command)}: exit code {done.returncode}", file=sys.stderr)
            return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
