"""What an engine makes of wrong requests: 20,000 over REST and the wire, of which none may end in an internal error.

    python -m bench.wrong_requests [requests] [seed]

Prints one table: requests and failures by interface, and how late the engine's loop was at worst. Budget: no failure.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path

import aiohttp
from tests.engine.wrong_requests import Asker, wrong_requests
from tests.support.model_files import put_model
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import scripted_model

from lmstrix.engine import EmbeddedEngine

REQUESTS = 20_000
SHOWN = 20


async def ask_all(address: str, count: int, seed: int) -> tuple[Counter[str], list[str], dict[str, float]]:
    """Requests by interface, what failed, and the lag of the engine's loop."""
    asked: Counter[str] = Counter()
    failures = []
    async with aiohttp.ClientSession() as session:
        asker = Asker(address, session)
        for number, request in enumerate(islice(wrong_requests(seed), count)):
            asked["wire" if request.namespace else "/".join(request.place.split("/")[:3])] += 1
            failure = await asker.ask(request)
            if failure is not None:
                failures.append(f"{number} {request.place}: {failure}\n    {request.text[:2000]}")
        async with session.get(f"http://{address}/api/lmstrix/loop") as answer:
            lag = await answer.json()
    return asked, failures, lag


def main(count: int, seed: int) -> int:
    """Ask, print the table, and fail when a request did."""
    # Each failure is shown once, at the end; its traceback would be thirty lines each.
    with tempfile.TemporaryDirectory() as folder:
        for name, file in (("scripted", scripted_model()), ("embed", tiny_model("bert"))):
            put_model(Path(folder), name, file)
        with EmbeddedEngine(folder, memory_limit=2**30) as engine:
            asked, failures, lag = asyncio.run(ask_all(engine.address, count, seed))
    for interface, number in sorted(asked.items()):
        print(f"{interface:<12}{number:>8,} requests")
    print(f"{'failures':<12}{len(failures):>8,}")
    print(f"{'worst lag':<12}{lag['worst_ms']:>8,.0f} ms")
    for failure in failures[:SHOWN]:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*arguments, *(REQUESTS, 1)[len(arguments) :]))
