"""Write constraints.txt: the exact version of everything the tests run with, so that CI repeats what was tested.

    python -m tools.update_constraints           # newest versions, from a fresh environment (needs the network)
    python -m tools.update_constraints --here    # the versions of the environment that runs this

Only CI installs with it; `pip install lmstrix` and `make demo` take what pyproject.toml allows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
EXTRAS = "engine,dev"
HEADER = "# Written by tools/update_constraints.py with Python {version}; do not edit. Used by .ci/run.\n"


def frozen(python: Path) -> list[str]:
    """`name==version` of every package of an environment; pip leaves itself and its like out."""
    command = [str(python), "-m", "pip", "freeze", "--exclude-editable"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # A package that was installed from a folder or an address has no version that others could install.
    return sorted((line for line in done.stdout.splitlines() if "==" in line), key=str.lower)


def fresh() -> list[str]:
    """The newest versions that pyproject.toml allows, from an environment made for this."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--editable", f"{ROOT}[{EXTRAS}]"], check=True)
        return frozen(python)


def main(words: list[str]) -> None:
    lines = frozen(Path(sys.executable)) if "--here" in words else fresh()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    CONSTRAINTS.write_text(HEADER.format(version=version) + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{CONSTRAINTS.name}: {len(lines)} versions")


if __name__ == "__main__":
    main(sys.argv[1:])
