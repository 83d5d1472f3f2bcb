"""Loading under a limit, names, idle unloading, just-in-time loading, crashes: with real children."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from lmstrix.engine.catalog import Catalog
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.instance import Instance
from lmstrix.engine.llama.client import LlamaClient
from lmstrix.engine.llama.slots import Slots
from lmstrix.engine.pool import InstancePool
from lmstrix.engine.records import CatalogEntry, LoadSettings, LogEvent, PredictionSettings
from lmstrix.engine.run_folder import RunFolder
from tests.engine.children import own_children
from tests.engine.pools import SCRIPTED, asking, collect, noting, put, running_pool, scripted_models, stats_of, user
from tests.support.tiny_gguf import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
SMALL = LoadSettings(context_length=512)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return scripted_models(tmp_path / "models")


def at(context_length: int) -> LoadSettings:
    return LoadSettings(context_length=context_length)


async def gone(pool: InstancePool, identifier: str) -> None:
    """Wait until the instance has left the list."""
    async with asyncio.timeout(10):
        while any(instance.identifier == identifier for instance in pool.list_loaded()):
            await asyncio.sleep(0.01)


async def ended(pid: int) -> None:
    async with asyncio.timeout(10):
        while psutil.pid_exists(pid):
            await asyncio.sleep(0.01)


async def test_load_find_unload(models: Path) -> None:
    ratios: list[float] = []
    async with running_pool(models) as pool:
        instance = await pool.load(SCRIPTED, SMALL, kind="llm", on_progress=noting(ratios))
        assert pool.list_loaded() == [instance]
        assert pool.list_loaded("embedding") == []
        assert pool.find(None) is pool.find("SCRIPTED") is pool.find("acme/scripted") is instance
        assert pool.by_reference(instance.reference) is instance
        assert (instance.slots.status, instance.slots.queued, instance.slots.last_used_ms) == ("idle", 0, None)
        assert ratios == sorted(ratios)
        assert ratios[-1] == 1.0
        with pytest.raises(EngineFault) as caught:
            await pool.unload("acme/scripted")
        assert caught.value.kind == "not_found"
        await pool.unload(SCRIPTED)
        assert pool.list_loaded() == []
        assert not psutil.pid_exists(instance.process.pid)
        with pytest.raises(EngineFault) as caught:
            pool.by_reference(instance.reference)
        assert caught.value.kind == "unloaded"
        with pytest.raises(EngineFault) as caught:
            await collect(instance.predict(asking("Hi")))
        assert caught.value.kind == "unloaded"


@pytest.mark.parametrize("context_length", [100, 256, 300])
async def test_the_context_is_the_one_asked_for(models: Path, context_length: int) -> None:
    """llama.cpp rounds up to 256; a generation must end at what was asked for all the same."""
    async with running_pool(models) as pool:
        instance = await pool.load(SCRIPTED, at(context_length), kind="llm")
        assert instance.context_length == context_length
        stats = stats_of(await collect(instance.predict(asking("Tell me a story"))))
        assert stats.stop_reason == "contextLengthReached"
        assert stats.prompt_tokens is not None
        assert stats.predicted_tokens is not None
        assert stats.prompt_tokens + stats.predicted_tokens == context_length


async def test_a_context_above_the_declared_one_is_refused(models: Path) -> None:
    async with running_pool(models) as pool:
        declared = pool.catalog.find(SCRIPTED).max_context_length
        for context_length in (declared + 1, 0):
            with pytest.raises(EngineFault, match="Failed to load model") as caught:
                await pool.load(SCRIPTED, at(context_length), kind="llm")
            assert caught.value.kind == "invalid"
        assert pool.list_loaded() == []


async def test_without_a_context_the_default_is_taken_but_never_more_than_declared(models: Path) -> None:
    put(models, tiny_model(context_length=1024), "acme/short-GGUF/short-f16.gguf")
    async with running_pool(models, default_context_length=2048) as pool:
        assert (await pool.load(SCRIPTED, LoadSettings(), kind="llm")).context_length == 2048
        assert (await pool.load("short", LoadSettings(), kind="llm")).context_length == 1024


async def test_the_memory_limit_is_exact_and_counts_every_instance(models: Path) -> None:
    async with running_pool(models) as pool:
        taken = pool.estimate(SCRIPTED, at(4096)).total_bytes
    async with running_pool(models, memory_limit_bytes=2 * taken) as pool:
        await pool.load(SCRIPTED, at(4096), kind="llm")
        assert pool.estimate(SCRIPTED, at(4096)).passes_guardrails
        assert not pool.estimate(SCRIPTED, at(4097)).passes_guardrails
        with pytest.raises(EngineFault, match="insufficient system resources") as caught:
            await pool.load(SCRIPTED, at(4097), kind="llm")
        assert caught.value.kind == "refused"
        assert caught.value.error_data is not None
        assert caught.value.error_data["limitBytes"] == 2 * taken
        assert len(own_children()) == 1
        await pool.load(SCRIPTED, at(4096), kind="llm")
        with pytest.raises(EngineFault):
            await pool.load(SCRIPTED, at(256), kind="llm")
        await pool.unload(f"{SCRIPTED}:2")
        await pool.load(SCRIPTED, at(4096), kind="llm")


async def test_two_loads_at_once_cannot_both_take_the_last_room(models: Path) -> None:
    async with running_pool(models) as pool:
        taken = pool.estimate(SCRIPTED, SMALL).total_bytes
    async with running_pool(models, memory_limit_bytes=taken) as pool:
        loads = [pool.load(SCRIPTED, SMALL, kind="llm") for _ in range(3)]
        results = await asyncio.gather(*loads, return_exceptions=True)
        assert sum(isinstance(result, Instance) for result in results) == 1
        assert all(isinstance(result, Instance | EngineFault) for result in results)


async def test_names_are_unique(models: Path) -> None:
    async with running_pool(models) as pool:
        loads = [pool.load(SCRIPTED, SMALL, kind="llm") for _ in range(3)]
        names = {instance.identifier for instance in await asyncio.gather(*loads)}
        assert names == {SCRIPTED, f"{SCRIPTED}:2", f"{SCRIPTED}:3"}
        mine = await pool.load(SCRIPTED, SMALL, kind="llm", identifier="mine")
        assert pool.find("mine") is mine
        with pytest.raises(EngineFault, match="already exists") as caught:
            await pool.load(SCRIPTED, SMALL, kind="llm", identifier="mine")
        assert (caught.value.cause, caught.value.suggestion) == (None, None)


async def test_an_idle_model_is_unloaded_and_a_busy_one_is_not(models: Path) -> None:
    async with running_pool(models) as pool:
        kept = await pool.load(SCRIPTED, SMALL, kind="llm", ttl_s=None)
        instance = await pool.load(SCRIPTED, at(2048), kind="llm", ttl_s=0.4)
        prediction = instance.predict(asking("Tell me a story", overflow_policy="rollingWindow"))
        await anext(prediction)
        await asyncio.sleep(0.6)
        assert instance in pool.list_loaded()
        prediction.stop()
        await collect(prediction)
        assert instance in pool.list_loaded()
        await gone(pool, instance.identifier)
        await ended(instance.process.pid)
        assert pool.list_loaded() == [kept]


async def test_a_model_is_loaded_once_for_all_who_want_it_just_in_time(models: Path) -> None:
    put(models, tiny_model(), "acme/other-GGUF/other-f16.gguf")
    started: list[str] = []

    async def on_start(identifier: str, entry: CatalogEntry) -> None:
        started.append(identifier)
        assert entry.model_key == SCRIPTED

    async with running_pool(models) as pool:
        both = [pool.get_or_load(SCRIPTED, SMALL, kind="llm", ttl_s=3600.0, on_start=on_start) for _ in range(2)]
        (first, loaded), (second, loaded_too) = await asyncio.gather(*both)
        assert first is second
        assert [loaded, loaded_too] == [True, False]
        assert started == [SCRIPTED]
        assert (first.jit, first.ttl_s) == (True, 3600.0)
        assert await pool.get_or_load("acme/scripted-GGUF", SMALL, kind="llm") == (first, False)

        evicted: list[Instance] = []
        other, _ = await pool.get_or_load("other", SMALL, kind="llm", on_evict=noting(evicted))
        assert evicted == [first]
        assert pool.list_loaded() == [other]


async def test_a_busy_just_in_time_model_is_not_evicted(models: Path) -> None:
    put(models, tiny_model(), "acme/other-GGUF/other-f16.gguf")
    async with running_pool(models) as pool:
        busy, _ = await pool.get_or_load(SCRIPTED, at(4096), kind="llm")
        prediction = busy.predict(asking("Tell me a story", overflow_policy="rollingWindow"))
        await anext(prediction)
        other, _ = await pool.get_or_load("other", SMALL, kind="llm")
        assert pool.list_loaded() == [busy, other]
        await prediction.aclose()


async def test_a_model_just_handed_out_is_kept_until_it_is_asked(models: Path) -> None:
    put(models, tiny_model(), "acme/other-GGUF/other-f16.gguf")
    async with running_pool(models) as pool:
        handed_out, _ = await pool.get_or_load(SCRIPTED, at(4096), kind="llm")
        evicted: list[Instance] = []
        wanting = asyncio.create_task(pool.get_or_load("other", SMALL, kind="llm", on_evict=noting(evicted)))
        await asyncio.sleep(0.1)  # the other load has come to where it makes room
        prediction = handed_out.predict(asking("Tell me a story", overflow_policy="rollingWindow"))
        await anext(prediction)
        other, _ = await wanting
        assert not evicted
        assert pool.list_loaded() == [handed_out, other]
        await prediction.aclose()


async def test_a_model_handed_out_to_two_waits_for_both(models: Path) -> None:
    put(models, tiny_model(), "acme/other-GGUF/other-f16.gguf")
    async with running_pool(models) as pool:
        for _ in range(2):
            handed_out, _ = await pool.get_or_load(SCRIPTED, SMALL, kind="llm")
        with handed_out.slots.request():
            pass
        wanting = asyncio.create_task(pool.get_or_load("other", SMALL, kind="llm"))
        await asyncio.sleep(0.1)
        assert not handed_out.slots.unloaded
        with handed_out.slots.request():
            other, _ = await wanting
            assert pool.list_loaded() == [handed_out, other]


async def test_what_makes_room_is_handed_to_nobody_any_more(models: Path) -> None:
    put(models, tiny_model(), "acme/other-GGUF/other-f16.gguf")
    async with running_pool(models) as pool:
        going, _ = await pool.get_or_load(SCRIPTED, SMALL, kind="llm")
        with going.slots.request():
            pass
        handed_out: list[Instance] = []

        async def telling(_going: Instance) -> None:
            # Somebody asks for it while a client is told that it goes.
            handed_out.append((await pool.get_or_load(SCRIPTED, SMALL, kind="llm"))[0])

        await pool.get_or_load("other", SMALL, kind="llm", on_evict=telling)
        assert going.slots.unloaded
        assert handed_out != [going]


async def test_a_model_handed_out_again_while_room_is_made_is_kept(models: Path) -> None:
    put(models, tiny_model(), "acme/other-GGUF/other-f16.gguf")
    async with running_pool(models) as pool:
        kept, _ = await pool.get_or_load(SCRIPTED, SMALL, kind="llm")
        wanting = asyncio.create_task(pool.get_or_load("other", SMALL, kind="llm"))
        await asyncio.sleep(0.1)
        # In one step of the loop the first asks, and a second is handed the same.
        with kept.slots.request():
            pass
        assert (await pool.get_or_load(SCRIPTED, SMALL, kind="llm"))[0] is kept
        await asyncio.sleep(0.1)
        with kept.slots.request():
            await wanting
            assert not kept.slots.unloaded


async def test_what_makes_room_ends_though_nobody_could_be_told(models: Path) -> None:
    put(models, tiny_model(), "acme/other-GGUF/other-f16.gguf")
    async with running_pool(models) as pool:
        going, _ = await pool.get_or_load(SCRIPTED, SMALL, kind="llm")

        async def telling(_going: Instance) -> None:
            raise ConnectionError("the client is gone")

        with pytest.raises(ConnectionError):
            await pool.get_or_load("other", SMALL, kind="llm", on_evict=telling)
        async with asyncio.timeout(10):
            await asyncio.shield(going.process.exited)


async def test_nobody_waits_for_promises_about_a_model_that_is_unloaded() -> None:
    slots = Slots(1, on_idle=lambda: None)
    slots.promise(within_s=3600)
    waiting = asyncio.create_task(slots.promises_kept())
    await asyncio.sleep(0)
    slots.close()
    async with asyncio.timeout(10):
        await waiting


async def test_a_slow_load_delays_no_other_model(models: Path) -> None:
    put(models, tiny_model(), "acme/other-GGUF/other-f16.gguf")
    waiting = asyncio.Event()
    release = asyncio.Event()

    async def hold(_: float) -> None:
        waiting.set()
        await release.wait()

    async with running_pool(models) as pool:
        slow = asyncio.create_task(pool.get_or_load(SCRIPTED, SMALL, kind="llm", on_progress=hold))
        await waiting.wait()
        async with asyncio.timeout(10):
            other, _ = await pool.get_or_load("other", SMALL, kind="llm")
        assert pool.list_loaded() == [other]
        release.set()
        await slow


async def test_a_cancelled_load_frees_name_and_memory(models: Path) -> None:
    async with running_pool(models) as pool:
        taken = pool.estimate(SCRIPTED, SMALL).total_bytes
    async with running_pool(models, memory_limit_bytes=taken) as pool:
        load = asyncio.create_task(pool.load(SCRIPTED, SMALL, kind="llm"))
        while not own_children():
            await asyncio.sleep(0.001)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        assert own_children() == []
        assert (await pool.load(SCRIPTED, SMALL, kind="llm")).identifier == SCRIPTED


@pytest.mark.needs_posix("signals to a process")
async def test_progress_is_repeated_while_a_load_takes_long(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmstrix.engine.llama.process._PROGRESS_POLL_S", 0.001)
    monkeypatch.setattr("lmstrix.engine.llama.process._PROGRESS_HEARTBEAT_S", 0.0)
    ratios: list[float] = []

    async def hold_until_repeated(ratio: float) -> None:
        ratios.append(ratio)
        for child in own_children():
            child.send_signal(signal.SIGCONT if ratio == 1.0 or ratios[-3:] == [ratio] * 3 else signal.SIGSTOP)

    async with running_pool(models) as pool:
        await pool.load(SCRIPTED, SMALL, kind="llm", on_progress=hold_until_repeated)
    assert ratios == sorted(ratios)
    assert ratios[-1] == 1.0


async def test_closing_ends_a_load_that_is_under_way(models: Path) -> None:
    async with running_pool(models) as pool:
        load = asyncio.create_task(pool.load(SCRIPTED, SMALL, kind="llm"))
        while not own_children():
            await asyncio.sleep(0.001)
    with pytest.raises(EngineFault, match="shutting down"):
        await load


@pytest.mark.needs_posix("signals to a process")
async def test_a_crash_takes_one_instance_and_says_so(models: Path) -> None:
    async with running_pool(models) as pool:
        doomed = await pool.load(SCRIPTED, at(4096), kind="llm")
        other = await pool.load(SCRIPTED, SMALL, kind="llm")
        prediction = doomed.predict(asking("Tell me a story", overflow_policy="rollingWindow"))
        await anext(prediction)
        os.kill(doomed.process.pid, signal.SIGKILL)
        with pytest.raises(EngineFault, match=r"The model has crashed .*\(Exit code: 137\)") as caught:
            await collect(prediction)
        assert caught.value.kind == "crashed"
        await gone(pool, doomed.identifier)
        assert pool.list_loaded() == [other]
        assert stats_of(await collect(other.predict(asking("What is 2+3=?")))).stop_reason == "eosFound"
        with pytest.raises(EngineFault, match="crashed"):
            await doomed.model.count_tokens("late")
        assert (await pool.load(SCRIPTED, SMALL, kind="llm")).identifier == SCRIPTED


async def test_a_file_shortened_after_the_load_ends_its_instance_only(models: Path) -> None:
    victim = put(models, tiny_model(), "acme/victim-GGUF/victim-f16.gguf")
    async with running_pool(models) as pool:
        doomed = await pool.load("victim", SMALL, kind="llm")
        other = await pool.load(SCRIPTED, SMALL, kind="llm")
        os.truncate(victim, 4096)
        with pytest.raises(EngineFault, match=r"\(Exit code: 135\)"):
            await collect(doomed.predict(asking("Hi")))
        await gone(pool, doomed.identifier)
        assert pool.list_loaded() == [other]


async def test_unloading_ends_what_runs_and_what_waits(models: Path) -> None:
    async with running_pool(models) as pool:
        instance = await pool.load(SCRIPTED, at(4096), kind="llm")
        running = instance.predict(asking("Tell me a story", overflow_policy="rollingWindow"))
        await anext(running)
        waiting = instance.predict(asking("Hi"))
        await anext(waiting)
        await pool.unload(instance.identifier)
        assert stats_of(await collect(running)).stop_reason == "modelUnloaded"
        with pytest.raises(EngineFault) as caught:
            await collect(waiting)
        assert caught.value.kind == "unloaded"


async def test_memory_comes_back(models: Path) -> None:
    async with running_pool(models) as pool:
        instance = await pool.load(SCRIPTED, at(32768), kind="llm")
        child = psutil.Process(instance.process.pid)
        assert child.memory_info().rss <= instance.memory_bytes
        await pool.unload(instance.identifier)
        assert not child.is_running()


async def test_a_damaged_model_fails_alone(models: Path) -> None:
    whole = tiny_model().read_bytes()
    broken = put(models, tiny_model(), "acme/broken-GGUF/broken-f16.gguf")
    async with running_pool(models) as pool:
        assert pool.catalog.find("broken").kind == "llm"
        broken.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(EngineFault, match="Failed to load model") as caught:
            await pool.load("broken", SMALL, kind="llm")
        assert caught.value.cause is not None
        assert "corrupted or incomplete" in caught.value.cause
        assert (await pool.load(SCRIPTED, SMALL, kind="llm")).slots.status == "idle"


async def test_a_long_runtime_folder_still_gets_sockets(models: Path, tmp_path: Path) -> None:
    long = tmp_path / ("deep" * 30)
    long.mkdir(mode=0o700)
    run_folder = RunFolder({"XDG_RUNTIME_DIR": str(long)})
    pool = InstancePool(Catalog(models), run_folder=run_folder, on_log=lambda _: None)
    await pool.start()
    assert (await pool.load(SCRIPTED, SMALL, kind="llm")).slots.status == "idle"
    await pool.close()


async def test_what_llama_cpp_says_is_logged(models: Path) -> None:
    logs: list[LogEvent] = []
    async with running_pool(models, logs=logs) as pool:
        instance = await pool.load(SCRIPTED, SMALL, kind="llm")
        await collect(instance.predict(asking("What is 2+3=?")))
    assert any("KV buffer" in event.text for event in logs if event.type == "runtime.log")
    (given,) = [event for event in logs if event.type == "llm.prediction.input"]
    assert "What is 2+3=?" in given.text
    (made,) = [event for event in logs if event.type == "llm.prediction.output"]
    assert made.text == "5"
    assert made.stats is not None


async def test_templates_and_tokens(models: Path) -> None:
    async with running_pool(models) as pool:
        instance = await pool.load(SCRIPTED, SMALL, kind="llm")
        text = await instance.model.apply_template([user("Hi there")])
        assert "<|im_start|>user\nHi there<|im_end|>" in text
        assert await instance.model.count_tokens(text) == len(await instance.model.tokenize(text))
        assert await instance.model.count_tokens("") == 0
        own = "{% for m in messages %}{{ m.content }}!{% endfor %}"
        assert await instance.model.apply_template([user("Hi")], prompt_template=own) == "Hi!"
        with pytest.raises(EngineFault, match="jinja"):
            await instance.model.render([user("Hi")], PredictionSettings(prompt_template="{{ nope( }}"), None)


async def test_a_model_that_does_not_pool_is_averaged(models: Path) -> None:
    put(models, tiny_model("bert"), "acme/pooled-GGUF/pooled-f16.gguf")
    data = bytearray(tiny_model("bert").read_bytes())
    value = data.index(b"bert.pooling_type") + len(b"bert.pooling_type") + 4
    assert data[value] == 1  # the mean
    data[value] = 0
    put(models, tiny_model("bert"), "acme/plain-GGUF/plain-f16.gguf").write_bytes(data)
    async with running_pool(models) as pool:
        vectors = []
        for key in ("text-embedding-pooled", "text-embedding-plain"):
            instance = await pool.load(key, LoadSettings(context_length=64), kind="embedding")
            vectors.append(await instance.model.embed("one text"))
        assert vectors[1] == pytest.approx(vectors[0], abs=1e-4)


async def test_embeddings(models: Path) -> None:
    put(models, tiny_model("bert"), "acme/bert-GGUF/bert-f16.gguf")
    async with running_pool(models) as pool:
        instance = await pool.load("text-embedding-bert", LoadSettings(context_length=64), kind="embedding")
        one, two, again = [await instance.model.embed(text) for text in ("one text", "another", "one text")]
        assert one == again != two
        assert abs(sum(value * value for value in one) - 1) < 1e-3
        with pytest.raises(EngineFault) as caught:
            await instance.model.embed("word " * 400)
        assert caught.value.kind == "overflow"
        with pytest.raises(EngineFault, match="embedding model"):
            instance.predict(asking("Hi"))
        llm = await pool.load(SCRIPTED, SMALL, kind="llm")
        with pytest.raises(EngineFault, match="no embedding model"):
            await llm.model.embed("Hi")


@pytest.mark.needs_posix("signals to a process")
async def test_a_child_that_dies_as_soon_as_it_is_ready_has_failed_to_load(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def kill_first(client: LlamaClient, path: str) -> object:
        (child,) = own_children()
        child.send_signal(signal.SIGABRT)
        await ended(child.pid)
        return await ask(client, path)

    ask = LlamaClient.get
    async with asyncio.timeout(30), running_pool(models) as pool:
        monkeypatch.setattr(LlamaClient, "get", kill_first)
        with pytest.raises(EngineFault) as caught:
            await pool.load(SCRIPTED, SMALL)
        assert caught.value.kind == "load_failed"
        assert caught.value.error_data == {"exitCode": 128 + signal.SIGABRT}
        assert pool.list_loaded() == []
