"""Run every benchmark in this folder and print its table: `make bench`, or `python bench/run.py NAME…` for some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
HELPERS = {"run", "hostile_clients", "simulated_worlds", "context_peers", "real_peers", "__init__"}


def main(names: list[str]) -> int:
    """Run the named scripts, or all; the exit code is that of the worst."""
    scripts = sorted(path for path in FOLDER.glob("*.py") if path.stem not in HELPERS)
    chosen = [path for path in scripts if not names or path.stem in names]
    worst = 0
    for script in chosen:
        print(f"\n== {script.stem}", flush=True)
        worst = max(
            worst,
            subprocess.run([sys.executable, "-m", f"bench.{script.stem}"], cwd=FOLDER.parent, check=False).returncode,
        )
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
