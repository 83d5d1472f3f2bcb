"""What the registry and the journal lose: to several writers at once, and to writers that are killed.

    python -m bench.storage [writers] [updates] [kills]

Nothing may be lost: each update of each writer is in the registry at the end, and after each kill the file is whole,
holds what was acknowledged, and takes the next change. The journal's rows are counted the same way. What a full or a
failing disk does is for tests/core/test_failing_calls.py, which makes every single call fail.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lmstrix.core.history import History
from lmstrix.core.registry.store import RegistryStore

WRITERS, UPDATES, KILLS = 4, 100, 200
PRELUDE = """
import sys
from pathlib import Path
from lmstrix.core.history import History
from lmstrix.core.registry.store import RegistryStore
folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store, history = RegistryStore(folder / "lmstrix.json"), History(folder / "lmstrix.db")
run = history.journal.begin_run("test")

def write(number):
    store.update(lambda registry: registry.models.update({f"{name}/{number}": {"padding": "x" * 2000}}))
    history.journal.intend(run, f"{name}/{number}", "default", kind="load", context_length=1024)
"""
SOME = PRELUDE + "for number in range(count): write(number)"
FOREVER = (
    PRELUDE
    + """
number = 0
while True:
    write(number)
    print(number, flush=True)
    number += 1
"""
)


def writer(code: str, folder: Path, name: str, count: int = 0) -> subprocess.Popen[str]:
    """A process that writes."""
    words = [sys.executable, "-P", "-c", code, str(folder), name, str(count)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def kept(folder: Path) -> tuple[set[str], set[str]]:
    """The names in the registry and in the journal."""
    with History(folder / "lmstrix.db") as history:
        return set(RegistryStore(folder / "lmstrix.json").load().models), {
            intent.model_path for intent in history.journal.intents()
        }


def at_once(folder: Path, writers: int, updates: int) -> int:
    """Several at once; how many updates are missing afterwards."""
    processes = [writer(SOME, folder, f"w{number}", updates) for number in range(writers)]
    for process in processes:
        process.wait()
    expected = {f"w{number}/{update}" for number in range(writers) for update in range(updates)}
    return sum(len(expected - names) for names in kept(folder))


def killed(folder: Path, kills: int) -> int:
    """One after the other, each killed at a random moment; how many acknowledged updates are missing."""
    chance, lost = random.Random(0), 0
    for number in range(kills):
        process = writer(FOREVER, folder, f"k{number}")
        assert process.stdout is not None
        acknowledged = {f"k{number}/{process.stdout.readline().strip()}"}
        time.sleep(chance.uniform(0.0, 0.05))
        process.kill()
        acknowledged |= {f"k{number}/{line.strip()}" for line in process.communicate()[0].splitlines() if line.strip()}
        registry, journal = kept(folder)
        lost += len(acknowledged - registry) + len(acknowledged - journal)
        # Small again, so that the last kill meets a file like the first.
        RegistryStore(folder / "lmstrix.json").update(lambda found: found.models.clear())
    return lost


def main(words: list[str]) -> int:
    """Print what was lost; the exit code is 1 where anything was."""
    given = [int(word) for word in words]
    writers, updates, kills = given + [WRITERS, UPDATES, KILLS][len(given) :]
    with tempfile.TemporaryDirectory(prefix="lmstrix-storage-") as name:
        began_at = time.perf_counter()
        lost = at_once(Path(name), writers, updates)
        print(f"{writers} writers x {updates} updates   lost {lost:>3}   {time.perf_counter() - began_at:6.1f} s")
    with tempfile.TemporaryDirectory(prefix="lmstrix-storage-") as name:
        began_at = time.perf_counter()
        lost_to_kills = killed(Path(name), kills)
        print(f"{kills} kills               lost {lost_to_kills:>3}   {time.perf_counter() - began_at:6.1f} s")
    return 1 if lost or lost_to_kills else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
