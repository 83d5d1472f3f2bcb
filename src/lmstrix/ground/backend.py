"""How `core` reaches models: the protocol that `api` implements over the lmstudio SDK, and tests in memory.

Every call raises only exceptions of `ground.errors`. A call that passes its deadline is cancelled on the server before
the error is raised.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import (
        Deadlines,
        GenerationRequest,
        HardwareSurvey,
        InstanceMemory,
        LoadedModel,
        MemoryShortage,
        Message,
        ModelInfo,
        ModelKind,
        ResourceEstimate,
        RuntimeVersion,
        ServerInfo,
        ServerMemory,
        StreamEvent,
        ToolDefinition,
    )

LoadProgress = Callable[[float], None]  # ratio 0..1, increasing


class ModelBackend(Protocol):
    """What a server of models can do. Instances are named by the caller (`instance_id`), uniquely."""

    @property
    def server(self) -> ServerInfo: ...

    async def list_downloaded(self) -> list[ModelInfo]: ...

    async def list_loaded(self) -> list[LoadedModel]: ...

    async def load(
        self,
        model_key: str,
        config: LoadConfig,
        *,
        instance_id: str,
        kind: ModelKind = "llm",
        ttl_s: float | None = None,
        deadlines: Deadlines | None = None,
        on_progress: LoadProgress | None = None,
    ) -> LoadedModel:
        """Load a new instance with exactly this config; return it with its effective context length read back."""

    # The kind is a parameter because servers keep llm and embedding instances in namespaces of their own.
    async def unload(self, instance_id: str, *, kind: ModelKind = "llm") -> None: ...

    def stream(self, instance_id: str, request: GenerationRequest) -> AsyncGenerator[StreamEvent]:
        """Events of one prediction; the last is `Finished`. Leaving early cancels it on the server.

        It waits for as long as the server takes: `core.answers.streaming` sets the deadlines.
        """

    async def count_tokens(self, instance_id: str, text: str) -> int: ...

    async def tokenize(self, instance_id: str, text: str) -> list[int]: ...

    async def apply_template(
        self, instance_id: str, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> str: ...

    async def embed(self, instance_id: str, texts: Sequence[str]) -> list[list[float]]: ...

    async def estimate(self, model_key: str, config: LoadConfig) -> ResourceEstimate: ...

    async def runtime(self, model_format: str) -> RuntimeVersion | None:
        """What the server has chosen to load models of this format; None where it does not say. Never an error."""

    async def memory(self) -> ServerMemory | None:
        """What one more model may take now; None where the server does not say. Never an error."""

    async def survey(self) -> HardwareSurvey | None:
        """What the server's runtime has found to compute on; None where the server does not say. Never an error."""

    async def instance_memory(self, instance_id: str) -> InstanceMemory | None:
        """What a loaded instance takes; None where the server does not say. Never an error."""

    async def memory_shortage(self, instance_id: str) -> MemoryShortage | None:
        """How an instance was ended for lack of memory; None where it was not or nobody knows. Never an error."""

    async def loaded_with(self, instance_id: str, *, kind: ModelKind = "llm") -> LoadConfig | None:
        """The settings a loaded instance has; None where the server does not say. Never an error."""

    async def reasoning_options(self, model_key: str) -> tuple[str, ...] | None:
        """What a model can be told of its reasoning ("off", "on", "low", …); None where the server does not say. Never
        an error.
        """

    async def close(self) -> None: ...
