"""The limit found under a memory limit, against loads: never above, within 10 % below, one failure at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.engine import EmbeddedEngine
from lmstrix.ground.errors import ModelLoadError
from lmstrix.ground.loads import LoadConfig
from tests.cli.conftest import client_of, loaded_on
from tests.support.model_files import put_model
from tests.support.tiny_gguf import tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Ran

DECLARED = 4096
MEMORY_LIMIT = 44 * 2**20  # so little that all but the model without a cache stop at a part of what they declare
DIMENSIONS = {
    "context_length": DECLARED, "n_layers": 6, "n_heads": 4, "n_kv_heads": 4, "head_dim": 32, "width": 128,
    "feed_forward": 64, "sliding_window": 512, "kv_lora_rank": 128,
}  # fmt: skip
ARCHITECTURES = ["llama", "qwen2", "gemma2", "gemma3", "deepseek2", "lfm2", "granitehybrid", "mamba2"]
ALIGNMENT = 256


@pytest.fixture(scope="session")
def narrow_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    """An engine with little memory for models of every architecture."""
    directory = tmp_path_factory.mktemp("narrow")
    for name in ARCHITECTURES:
        put_model(directory, name, tiny_model(name, name=None, **DIMENSIONS))
    with EmbeddedEngine(directory, memory_limit=MEMORY_LIMIT) as engine:
        yield engine


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_limit_found_is_the_limit(
    cli: Callable[..., Ran], narrow_engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    monkeypatch.setenv("LMSTRIX_SERVER", narrow_engine.address)
    (found,) = cli("test", architecture, "--fast", "--json").ok().json["models"]
    limit = found["tested_context_length"]
    assert found["failing_loads"] <= 1
    assert 0 < limit <= DECLARED
    assert found["ended_by"] == ("declared" if limit == DECLARED else "guardrail")
    beyond = -(-int(limit / 0.9) // ALIGNMENT) * ALIGNMENT
    if limit < DECLARED:
        config = LoadConfig(context_length=min(beyond, DECLARED))
        with client_of(narrow_engine.address) as client, pytest.raises(ModelLoadError):
            client.portal.run(client.backend.load(architecture, config, instance_id="beyond"))
    assert loaded_on(narrow_engine.address) == []
