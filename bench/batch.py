"""What a batch costs per item over a plain loop of the SDK that writes each answer to a file.

    python bench/batch.py [rounds]

Both ask the same questions of the same loaded model on the same engine, in turns; the server is a process of its own,
and the model has about the speed of a small real one. A batch also counts each prompt against the context before it is
sent, while the answer before it comes; it logs the call, and keeps a record by which a later run knows what is
answered. Medians of the rounds are shown. Budget, where a core is free: 3 ms more per item than the loop.

Then a second run over the same folder, where nothing is left to ask. Budget: 1 ms per item.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

import lmstudio
from lmstudio import LlmPredictionConfig
from tests.support.tiny_gguf_scripted import scripted_model

from lmstrix import LMStrix
from lmstrix.engine.daemon import start_engine, stop_engine
from lmstrix.engine.options import EngineOptions

MODEL, ITEMS, TOKENS, CONTEXT_LENGTH = "real", 50, 8, 2048
RAW, OURS, AGAIN = "SDK loop", "LMStrix.batch", "LMStrix.batch again"
BUDGET_ITEM_MS, BUDGET_AGAIN_MS = 3.0, 1.0
QUESTIONS = {f"question {number}": f"{number}+3=" for number in range(ITEMS)}


def plain_loop(handle: lmstudio.LLM, out: Path) -> None:
    """What somebody writes who has the SDK and no batch."""
    out.mkdir()
    for name, question in QUESTIONS.items():
        answer = handle.respond(question, config=LlmPredictionConfig(max_tokens=TOKENS, temperature=0))
        (out / f"{name}.txt").write_text(answer.content, encoding="utf-8")


def batch(lms: LMStrix, out: Path) -> None:
    """The same through LMStrix."""
    report = lms.batch(QUESTIONS, [MODEL], out, context_length=CONTEXT_LENGTH, max_tokens=TOKENS, temperature=0)
    assert not report.failed


def measure(address: str, home: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds per item of every way, each as often as the others."""
    with ExitStack() as stack:
        sdk = stack.enter_context(lmstudio.Client(address))
        lms = stack.enter_context(LMStrix(server=address, home=home))
        lms.scan()
        handle = sdk.llm.model(lms.load(MODEL, CONTEXT_LENGTH).instance_id)
        found: dict[str, list[float]] = {RAW: [], OURS: [], AGAIN: []}
        for number in range(rounds + 1):
            out = home / f"out-{number}"
            for way in (RAW, OURS, AGAIN):
                began_at = time.perf_counter()
                if way == RAW:
                    plain_loop(handle, home / f"raw-{number}")
                else:
                    batch(lms, out)
                if number:  # the first round warms up
                    found[way].append((time.perf_counter() - began_at) * 1000 / ITEMS)
        lms.unload()
    return found


def main(rounds: int) -> int:
    """Measure, print the table; 1 when a batch is over its budget."""
    with tempfile.TemporaryDirectory() as folder:
        models_dir, home = Path(folder) / "models", Path(folder) / "home"
        repository = models_dir / "bench" / MODEL
        repository.mkdir(parents=True)
        shutil.copy(
            scripted_model(context_length=CONTEXT_LENGTH, n_layers=8, feed_forward=2048), repository / f"{MODEL}.gguf"
        )
        status = start_engine(home, EngineOptions(models_dir=models_dir))
        try:
            found = measure(str(status.address), home, rounds)
        finally:
            stop_engine(home)
    medians = {way: median(timings) for way, timings in found.items()}
    print(f"medians of {rounds} rounds of {ITEMS} items; load average {os.getloadavg()[0]:.1f}")
    print("way                   ms per item   added")
    for way, item_ms in medians.items():
        print(f"{way:<20} {item_ms:>12.2f} {item_ms - medians[RAW]:>+7.2f}")
    within = medians[OURS] - medians[RAW] <= BUDGET_ITEM_MS and medians[AGAIN] <= BUDGET_AGAIN_MS
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
