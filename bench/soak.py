"""An engine under five ordinary clients, while models are killed and others do their worst: what is lost, what leaks.

    python -m bench.soak [seconds]

The clients use LM Studio's own SDK: they ask and compare the answer, break answers off, count, embed, load and unload.
Every few seconds a model's process is killed; a hostile client goes through `hostile_clients`; the log has no room to
be written. A request may end with an error only while a model was killed under it, or unloaded by the client who had
loaded it (counted apart). Meanwhile a greeting is asked ten times a second: its worst wait is how long one client can
keep the others waiting.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import aiohttp
import lmstudio
import psutil
from bench.hostile_clients import ACTS, PATIENCE_S, Target
from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import RAMBLE, scripted_model

from lmstrix.ground.paths import engine_files

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 5
SECONDS = 60.0
KILL_EVERY_S = 7.0
LOG_ROOM_BYTES = 64 * 2**10
REQUEST_LIMIT_S = 60.0
ALLOWED_GREETING_S = 1.0
ALLOWED_FILES = 5
ALLOWED_GROWTH_BYTES = 64 * 2**20
SCRIPTED, EMBEDDING = "scripted", "text-embedding-embed"


@dataclass
class Tally:
    """What happened."""

    outcomes: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)
    greetings_s: list[float] = field(default_factory=list)


async def ordinary_client(address: str, number: int, until: float, tally: Tally) -> None:
    """One program that uses the engine as it should be used."""
    chance = random.Random(number)
    while time.monotonic() < until:
        action = chance.choice((ask, ask, break_off, count, embed, load_and_unload))
        began_at = time.monotonic()
        try:
            # A client of its own for each request: whoever a kill has hit comes back as a program would that restarts.
            async with asyncio.timeout(REQUEST_LIMIT_S), lmstudio.AsyncClient(address) as client:
                await action(client, f"{number}-{began_at}")
        except (lmstudio.LMStudioError, TimeoutError, OSError, AssertionError) as exc:
            killed = any(began_at - 1 < moment for moment in tally.kills)
            if killed and isinstance(exc, lmstudio.LMStudioError):
                tally.outcomes["ended by a kill"] += 1
            elif isinstance(exc, lmstudio.LMStudioModelNotFoundError) and "answers to soak-" in str(exc):
                # It was lent the instance of another client, who has unloaded it.
                tally.outcomes["unloaded by its owner"] += 1
            else:
                since_s = began_at - max(tally.kills, default=0.0)
                what = f"{action.__name__}, begun {since_s:.1f} s after the last kill"
                tally.lost.append(f"{what}: {type(exc).__name__}: {' '.join(str(exc).split())[:200]}")
        else:
            tally.outcomes[action.__name__.replace("_", " ")] += 1


async def ask(client: lmstudio.AsyncClient, _name: str) -> None:
    model = await client.llm.model(SCRIPTED)
    answer = await model.respond("a story", config={"maxTokens": 60})
    assert RAMBLE.text.startswith(answer.content.strip()[:40]), answer.content


async def break_off(client: lmstudio.AsyncClient, _name: str) -> None:
    model = await client.llm.model(SCRIPTED)
    stream = await model.respond_stream("a story", config={"maxTokens": 1000})
    async for _ in stream:
        await stream.cancel()
        break


async def count(client: lmstudio.AsyncClient, _name: str) -> None:
    model = await client.llm.model(SCRIPTED)
    assert await model.count_tokens("some words " * 500) > 100


async def embed(client: lmstudio.AsyncClient, _name: str) -> None:
    model = await client.embedding.model(EMBEDDING)
    vectors = await model.embed(["one", "two"])
    assert len(vectors) == 2


async def load_and_unload(client: lmstudio.AsyncClient, name: str) -> None:
    model = await client.llm.load_new_instance(SCRIPTED, f"soak-{name}", config={"contextLength": 512})
    await model.unload()


async def killer(engine: psutil.Process, until: float, tally: Tally) -> None:
    """Kills a model's process now and then."""
    chance = random.Random(0)
    while time.monotonic() + KILL_EVERY_S < until:
        await asyncio.sleep(KILL_EVERY_S)
        children = engine.children()
        if children:
            tally.kills.append(time.monotonic())
            with suppress(psutil.NoSuchProcess):
                chance.choice(children).kill()


async def hostile_client(target: Target, until: float, tally: Tally) -> None:
    """Goes through all acts, again and again."""
    while time.monotonic() < until:
        for act in ACTS:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await act(target)
                tally.acts["answered"] += 1
            # Whatever becomes of a hostile client is its own business; only that it ends is wanted.
            except Exception as exc:  # noqa: BLE001
                tally.acts[f"{act.__name__}: {type(exc).__name__}"] += 1
            if time.monotonic() > until:
                return


async def greeter(address: str, until: float, tally: Tally) -> None:
    """Asks ten times a second what any client asks first."""
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < until:
            began_at = time.monotonic()
            async with session.get(f"http://{address}/lmstudio-greeting") as answer:
                await answer.read()
            tally.greetings_s.append(time.monotonic() - began_at)
            await asyncio.sleep(0.1)


async def soak(address: str, engine: psutil.Process, models: Path, seconds: float) -> tuple[Tally, list[str]]:
    """Everything at once; what happened, and what is left over afterwards."""
    tally = Tally()
    async with lmstudio.AsyncClient(address) as client:
        await client.llm.load_new_instance(SCRIPTED, "victim", config={"contextLength": 1024})
        await client.llm.model(SCRIPTED)
    before = engine.memory_info().rss, engine.num_fds()
    until = time.monotonic() + seconds
    target = Target(address, "victim", models)
    await asyncio.gather(
        *(ordinary_client(address, number, until, tally) for number in range(CLIENTS)),
        killer(engine, until, tally),
        hostile_client(target, until, tally),
        greeter(address, until, tally),
    )
    async with lmstudio.AsyncClient(address) as client:
        for model in await client.list_loaded_models():
            await model.unload()
    await asyncio.sleep(3)
    rss, files = engine.memory_info().rss, engine.num_fds()
    faults = [f"lost: {line}" for line in tally.lost]
    worst_s = max(tally.greetings_s)
    if worst_s > ALLOWED_GREETING_S:
        faults.append(f"a greeting took {worst_s:.2f} s")
    if rss - before[0] > ALLOWED_GROWTH_BYTES:
        faults.append(f"memory grew from {before[0] >> 20} to {rss >> 20} MiB")
    if files - before[1] > ALLOWED_FILES:
        faults.append(f"open files grew from {before[1]} to {files}")
    if children := engine.children():
        faults.append(f"processes left: {len(children)}")
    print(f"requests        {sum(tally.outcomes.values()):>7}  {dict(sorted(tally.outcomes.items()))}")
    print(f"lost            {len(tally.lost):>7}")
    print(f"kills           {len(tally.kills):>7}")
    print(f"hostile acts    {sum(tally.acts.values()):>7}  {dict(sorted(tally.acts.items()))}")
    print(f"worst greeting  {worst_s * 1000:>7.0f} ms of {len(tally.greetings_s)}")
    print(f"memory          {before[0] >> 20:>7} -> {rss >> 20} MiB")
    print(f"open files      {before[1]:>7} -> {files}")
    return tally, faults


def running_engine(folder: Path, models: Path) -> tuple[subprocess.Popen[str], str]:
    """An engine whose log has no room and whose terminal is gone; and its address."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LOG_ROOM_BYTES, LOG_ROOM_BYTES))

    words = ["run", "--home", str(folder / "home"), "--models-dir", str(models), "--memory-limit", "2GiB"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lmstrix.engine", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    state = json.loads(engine_files(folder / "home")[0].read_text())
    process.stdout.close()
    process.stderr.close()
    return process, f"127.0.0.1:{state['port']}"


def models_folder(folder: Path) -> Iterator[Path]:
    """A model that says the same each time, and one that embeds."""
    files: dict[str, Any] = {
        "scripted": scripted_model(context_length=2048, n_layers=2, feed_forward=1024),
        "embed": tiny_model("bert"),
    }
    for name, file in files.items():
        repository = folder / "acme" / f"{name}-GGUF"
        repository.mkdir(parents=True)
        yield Path(shutil.copy(file, repository / f"{name}-f16.gguf"))


def main(words: list[str]) -> int:
    """Run it; the exit code is 1 where anything was lost, leaked or kept waiting."""
    seconds = float(words[0]) if words else SECONDS
    logging.disable(logging.CRITICAL)  # the SDK tells of each piece that comes after an answer was broken off
    with tempfile.TemporaryDirectory(prefix="lmstrix-soak-") as name:
        folder = Path(name)
        models = folder / "models"
        list(models_folder(models))
        process, address = running_engine(folder, models)
        try:
            _, faults = asyncio.run(soak(address, psutil.Process(process.pid), models, seconds))
        finally:
            process.terminate()
            process.wait(30)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
