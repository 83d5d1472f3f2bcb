"""Which runtime LM Studio has chosen for a format: read from what it answers, and no error where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.types import RuntimeVersion

if TYPE_CHECKING:
    from lmstrix.api.client import AsyncLMStudioBackend
    from tests.support.faulty_server import FaultyServer

MLX = {"name": "mlx-llm-mac-arm64-apple-metal-advsimd", "version": "1.10.1"}
OLDER = {"name": "mlx-llm-mac-arm64-apple-metal-advsimd", "version": "1.8.5"}
LLAMA = {"name": "llama.cpp-mac-arm64-apple-metal-advsimd", "version": "2.3.0"}
FOUND = RuntimeVersion(name=MLX["name"], version="1.10.1")
SELECTED = {"json": [["GGUF", LLAMA], ["MLX", MLX]], "meta": {"values": ["map"]}}


def engine(specifier: dict[str, str], *formats: str) -> dict[str, object]:
    about = {"engine": specifier["name"].partition("-mac")[0], "platform": "macos", "cpu": {"architecture": "arm64"}}
    return {**specifier, **about, "supportedModelFormatNames": list(formats)}


@pytest.mark.parametrize("selections", [SELECTED, SELECTED["json"], {"GGUF": LLAMA, "MLX": MLX}])
async def test_the_chosen_one_is_named(selections: object, server: FaultyServer, backend: AsyncLMStudioBackend) -> None:
    server.faults.answers["getEngineSelections"] = selections
    assert await backend.runtime("safetensors") == FOUND
    assert await backend.runtime("gguf") == RuntimeVersion(**LLAMA)


async def test_the_only_one_installed_is_it_and_of_several_none(
    server: FaultyServer, backend: AsyncLMStudioBackend
) -> None:
    server.faults.answers["listEngines"] = [engine(LLAMA, "GGUF"), engine(MLX, "MLX"), None, {"name": "?"}]
    assert await backend.runtime("safetensors") == FOUND
    server.faults.answers["listEngines"] = [engine(OLDER, "MLX"), engine(MLX, "MLX")]
    assert await backend.runtime("safetensors") is None


@pytest.mark.parametrize("odd", [None, 5, [], {}, [["MLX"]], {"json": {"MLX": "1.10.1"}}, [["MLX", {"name": "x"}]]])
async def test_an_odd_answer_says_nothing(odd: object, server: FaultyServer, backend: AsyncLMStudioBackend) -> None:
    server.faults.answers |= {"getEngineSelections": odd, "listEngines": odd}
    assert await backend.runtime("safetensors") is None


async def test_a_server_that_knows_nothing_of_it_or_never_answers(
    server: FaultyServer, backend: AsyncLMStudioBackend
) -> None:
    assert await backend.runtime("safetensors") is None  # "Unknown endpoint"
    server.faults.mute |= {"getEngineSelections", "listEngines"}
    assert await backend.runtime("safetensors") is None
    assert await backend.list_loaded() == []


async def test_a_server_without_the_namespace(server: FaultyServer, backend: AsyncLMStudioBackend) -> None:
    server.faults.cuts["/runtime"] = float("inf")
    assert await backend.runtime("safetensors") is None
    assert await backend.list_loaded() == []
