"""Models that load because a request names them: at which context, and where that is told."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import lmstudio
import pytest

from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.core.registry.store import RegistryStore
from lmstrix.engine import EmbeddedEngine
from lmstrix.engine.faults import EngineFault
from lmstrix.engine.llama.process import LlamaProcess
from lmstrix.engine.records import LoadSettings
from lmstrix.ground.addresses import host_name
from tests.engine.pools import SCRIPTED, put, running_pool, scripted_models
from tests.support.tiny_gguf import tiny_model, write_tiny

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from lmstrix.engine.llama.process import Launch
    from lmstrix.engine.records import CatalogEntry, LogEvent

PATH = "acme/scripted-GGUF/scripted-f16.gguf"
TINY_PATH = "acme/tiny-GGUF/tiny-f16.gguf"
EMBED_PATH = "acme/embed-GGUF/embed-f16.gguf"
HERE = Configuration(engine="embedded", host=host_name())
PROVEN = 16384


class Bench:
    """An engine beside a registry, REST to it, and what it logs."""

    def __init__(self, models: Path, registry: Path, engine: EmbeddedEngine, log: list[LogEvent]) -> None:
        self.models = models
        self.registry = registry
        self.engine = engine
        self.http = httpx.Client(base_url=f"http://{engine.address}", timeout=30)
        self._log = log

    def prove(
        self, length: int, configuration: Configuration = HERE, *, path: str = PATH, size_bytes: int | None = None
    ) -> None:
        """Have a test prove a length."""
        size_bytes = (self.models / path).stat().st_size if size_bytes is None else size_bytes
        facts = ModelFacts(path=path, model_key="x", size_bytes=size_bytes)
        result = ContextResult(
            configuration=configuration,
            outcome="ok",
            tested_at=datetime.now(UTC),
            loadable_context_length=length,
        )
        store = RegistryStore(self.registry)
        known = store.load()
        if known.get(path) is None:
            store.update(lambda registry: registry.merge_scan([*_facts(registry), facts]))
        store.update(lambda registry: registry.record_outcome(path, result))

    def ask(self, model: str = SCRIPTED) -> httpx.Response:
        """A completion, by which the model loads."""
        answer = self.http.post("/v1/completions", json={"model": model, "prompt": "2+3=", "max_tokens": 1})
        assert answer.status_code == 200, answer.text
        return answer

    def unload(self, model: str = SCRIPTED) -> None:
        """Make the next request load it again."""
        self.http.post("/api/v1/models/unload", json={"instance_id": model}).raise_for_status()

    def lines(self, part: str) -> list[str]:
        """Lines of the log with `part` in them."""
        return [event.text for event in self._log if part in event.text]


def _facts(registry: Any) -> list[ModelFacts]:
    return [ModelFacts(path=each.path, model_key=each.model_key, size_bytes=each.size_bytes) for each in registry]


def context_of(answer: httpx.Response) -> tuple[int, str]:
    return int(answer.headers["X-LMStrix-Context-Length"]), answer.headers["X-LMStrix-Context-Source"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    models = scripted_models(tmp_path / "models")
    put(models, tiny_model("llama", context_length=2048, n_layers=1), TINY_PATH)
    put(models, tiny_model("bert"), EMBED_PATH)
    registry, log = tmp_path / "lmstrix.json", list[Any]()
    with EmbeddedEngine(models, memory_limit=2**30, registry_file=registry, on_log=log.append) as engine:
        bench = Bench(models, registry, engine, log)
        with contextlib.closing(bench.http):
            yield bench


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "2+3="}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "2+3="}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "2+3="}], "stream": True}),
        ("/api/v0/chat/completions", {"messages": [{"role": "user", "content": "2+3="}]}),
        ("/api/v1/chat", {"input": "2+3="}),
    ],
)
def test_a_model_loads_at_the_length_its_test_proved_and_says_so(bench: Bench, path: str, body: dict[str, Any]) -> None:
    bench.prove(PROVEN)
    answer = bench.http.post(path, json={"model": SCRIPTED, **body})
    assert answer.status_code == 200
    assert context_of(answer) == (PROVEN, "tested")
    assert bench.lines("just in time") == [
        f"loaded {SCRIPTED} just in time with a context of {PROVEN} tokens: the length its test proved"
    ]
    rows = {row["id"]: row for row in bench.http.get("/api/v0/models").json()["data"]}
    assert (rows[SCRIPTED]["loaded_context_length"], rows[SCRIPTED]["loaded_context_source"]) == (PROVEN, "tested")
    models = {row["key"]: row for row in bench.http.get("/api/v1/models").json()["models"]}
    assert models[SCRIPTED]["loaded_instances"][0]["context_source"] == "tested"
    # The second request finds it loaded, and is told the same.
    assert context_of(bench.ask()) == (PROVEN, "tested")


def test_a_stream_that_tells_of_the_load_tells_its_context(bench: Bench) -> None:
    bench.prove(PROVEN)
    answer = bench.http.post("/api/v1/chat", json={"model": SCRIPTED, "input": "2+3=", "stream": True})
    loaded = next(block for block in answer.text.split("\n\n") if block.startswith("event: model_load.end"))
    told = json.loads(loaded.partition("data: ")[2])
    assert (told["context_length"], told["context_source"]) == (PROVEN, "tested")


def test_embedding_models_too(bench: Bench) -> None:
    bench.prove(256, path=EMBED_PATH)
    answer = bench.http.post("/v1/embeddings", json={"model": "text-embedding-embed", "input": "hello"})
    assert context_of(answer) == (256, "tested")


def test_what_was_asked_for_is_kept(bench: Bench) -> None:
    bench.prove(PROVEN)
    body = {"model": SCRIPTED, "input": "2+3=", "context_length": 8192}
    assert context_of(bench.http.post("/api/v1/chat", json=body)) == (8192, "asked")
    assert bench.lines("as asked for")


def test_a_load_over_the_sdk_is_not_changed(bench: Bench) -> None:
    bench.prove(PROVEN)
    with lmstudio.Client(bench.engine.address) as client:
        assert client.llm.model(SCRIPTED).get_context_length() == 4096


@pytest.mark.parametrize(
    "elsewhere",
    [
        Configuration(engine="lmstudio", host=host_name()),
        Configuration(engine="embedded", host="another-machine"),
    ],
    ids=["engine", "machine"],
)
def test_what_was_proven_elsewhere_proves_nothing_here(bench: Bench, elsewhere: Configuration) -> None:
    bench.prove(PROVEN, elsewhere)
    assert context_of(bench.ask()) == (4096, "default")
    assert bench.lines("the default, as no test on this machine has proven another")


def test_another_file_in_the_place_of_the_tested_one_is_untested(bench: Bench) -> None:
    bench.prove(PROVEN)
    with (bench.models / PATH).open("ab") as file:
        file.write(bytes(64))
    assert context_of(bench.ask()) == (4096, "default")


def test_a_model_in_several_files_is_one_file_as_tested(bench: Bench) -> None:
    folder = bench.models / "acme/split-GGUF"
    folder.mkdir()
    write_tiny(folder / "split-f16.gguf", tensors_per_file=4)
    shards = sorted(folder.iterdir())
    assert len(shards) > 1
    path, size = shards[0].relative_to(bench.models).as_posix(), sum(shard.stat().st_size for shard in shards)
    bench.prove(1024, path=path, size_bytes=size)
    assert context_of(bench.ask("split")) == (1024, "tested")


def test_never_more_than_the_model_declares(bench: Bench) -> None:
    bench.prove(PROVEN, path=TINY_PATH)
    assert context_of(bench.ask("tiny")) == (2048, "tested")


def test_the_registry_may_come_change_break_and_go_while_the_engine_runs(bench: Bench) -> None:
    def loaded_at() -> tuple[int, str]:
        context = context_of(bench.ask())
        bench.unload()
        return context

    assert loaded_at() == (4096, "default")
    bench.prove(PROVEN)
    assert loaded_at() == (PROVEN, "tested")
    bench.prove(2 * PROVEN)
    assert loaded_at() == (2 * PROVEN, "tested")
    good = bench.registry.read_bytes()
    bench.registry.write_bytes(good[:-40])
    assert loaded_at() == (4096, "default")
    assert loaded_at() == (4096, "default")
    assert len(bench.lines("models load at the default context")) == 1
    bench.registry.write_bytes(good)
    assert loaded_at() == (2 * PROVEN, "tested")
    bench.registry.unlink()
    assert loaded_at() == (4096, "default")


def at(length: int) -> LoadSettings:
    return LoadSettings(context_length=length)


class TestWhatFits:
    @pytest.fixture
    def models(self, tmp_path: Path) -> Path:
        return scripted_models(tmp_path / "models")

    @pytest.mark.parametrize(("room_for", "expected"), [(65536, 65536), (40000, 32768), (5000, 4096)])
    async def test_half_and_half_again_until_it_fits(self, models: Path, room_for: int, expected: int) -> None:
        async with running_pool(models, memory_limit_bytes=2**40) as pool:
            pool.memory_limit_bytes = pool.estimate(SCRIPTED, at(room_for)).total_bytes
            instance, _ = await pool.get_or_load(SCRIPTED, LoadSettings(), kind="llm", proven_length=proving(65536))
            assert instance.context_length == expected
            assert instance.context_source == ("tested" if expected == 65536 else "reduced")

    async def test_a_load_that_fails_after_all_is_tried_at_the_default(
        self, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried: list[int] = []
        original = LlamaProcess.launch

        async def launch(launch: Launch, **rest: Any) -> LlamaProcess:
            tried.append(launch.n_ctx)
            if launch.n_ctx > 4096:
                raise EngineFault("Failed to load model", kind="load_failed")
            return await original(launch, **rest)

        monkeypatch.setattr(LlamaProcess, "launch", launch)
        async with running_pool(models) as pool:
            instance, _ = await pool.get_or_load(SCRIPTED, LoadSettings(), kind="llm", proven_length=proving(65536))
            assert (instance.context_length, instance.context_source) == (4096, "reduced")
        assert tried == [65536, 4096]

    async def test_less_than_the_default_is_proven(self, models: Path) -> None:
        async with running_pool(models) as pool:
            instance, _ = await pool.get_or_load(SCRIPTED, LoadSettings(), kind="llm", proven_length=proving(1024))
            assert (instance.context_length, instance.context_source) == (1024, "tested")


def proving(length: int) -> Callable[[CatalogEntry], Awaitable[int | None]]:
    """A registry in which the model has this length."""

    async def proven_length(entry: CatalogEntry) -> int | None:
        assert entry.model_key == SCRIPTED
        return length

    return proven_length
