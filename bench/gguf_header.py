"""Time to read a GGUF header with a 151,936-token vocabulary: ours, skipping arrays or not, and the `gguf` package.

    python bench/gguf_header.py [runs]

Prints one table of medians; all readers take turns on the same file in the same process.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGUFReader, GGUFWriter, TokenType

from lmstrix.loaders.gguf import read_header

if TYPE_CHECKING:
    from collections.abc import Callable

VOCABULARY_SIZE = 151_936
MERGE_COUNT = 151_387
PEER_RUNS = 2
"""The peer takes seconds per run, so it gets fewer."""


def write_model(path: Path) -> None:
    """A file with the header of a 28-layer model and hardly any tensor data."""
    writer = GGUFWriter(path, "qwen2")
    writer.add_context_length(32_768)
    writer.add_block_count(28)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"Ġtoken{number}" for number in range(VOCABULARY_SIZE)])
    writer.add_token_types([TokenType.NORMAL] * VOCABULARY_SIZE)
    writer.add_token_merges([f"Ġtok en{number}" for number in range(MERGE_COUNT)])
    for number in range(28 * 12):
        writer.add_tensor(f"blk.{number}.weight", np.zeros((32, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def timed_ms(read: Callable[[], object]) -> float:
    """One run, in milliseconds."""
    start = time.perf_counter()
    read()
    return (time.perf_counter() - start) * 1000


def main(runs: int) -> None:
    """Write the file, take turns, print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_model(path)
        readers: dict[str, tuple[Callable[[], object], int]] = {
            "lmstrix, skipping arrays": (lambda: read_header(path), runs),
            "lmstrix, with tokens": (lambda: read_header(path, with_arrays={"tokenizer.ggml.tokens"}), runs),
            "lmstrix, every array": (lambda: read_header(path, with_arrays=True), runs),
            "gguf.GGUFReader": (lambda: GGUFReader(path), min(runs, PEER_RUNS)),
        }
        samples: dict[str, list[float]] = {name: [] for name in readers}
        for turn in range(runs):
            for name, (read, wanted) in readers.items():
                if turn < wanted:
                    samples[name].append(timed_ms(read))
        print(f"{VOCABULARY_SIZE:,} tokens, {MERGE_COUNT:,} merges, {path.stat().st_size / 1e6:.1f} MB")
        print(f"{'reader':<28}{'runs':>6}{'median ms':>12}")
        for name, times in samples.items():
            print(f"{name:<28}{len(times):>6}{median(times):>12.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
