"""Every exception LMStrix raises on purpose. Each carries its facts as attributes and its remedy in the message.

LMStrixError
├── UsageError                    bad words on the command line or a bad argument value          (exit code 2)
├── SettingsError                 a config file or environment variable that does not validate   (exit code 2)
├── BackendUnavailableError       no server answers, or it went away                              (exit code 3)
│   └── BackendTimeoutError       it is there but did not answer in time
├── TimeLimitError                the time for the whole call passed before the answer began
├── AuthenticationError           the server refuses our token
├── ModelNotFoundError            no such model on the server or in the registry
├── ModelLoadError                the model did not load
│   ├── LoadRefusedError          a guardrail refused before anything was tried
│   │   └── HeadroomError         the memory would not stay free that is to stay free
│   ├── OutOfMemoryError          the engine could not allocate
│   ├── EngineDiedError           the engine process ended while loading
│   └── LoadTimeoutError
├── GenerationError               a prediction failed
│   ├── ContextOverflowError      the prompt does not fit the loaded context
│   ├── EngineCrashedError        the engine process ended while predicting
│   ├── StreamStalledError        a deadline passed: first token, between tokens, silence or total
│   ├── EmptyAnswerError          the server reported success and sent nothing
│   ├── InvalidAnswerError        the answer is not of the shape that was asked for
│   └── ModelUnloadedError        the model was unloaded meanwhile
├── ChatTemplateError             the model's own chat template fails, when it loads or when it is asked
├── RegistryError                 lmstrix.json cannot be read or written
├── HistoryError                  lmstrix.db or collections.db cannot be read or written
├── GgufError                     a model file whose header is not valid GGUF
├── MlxError                      a folder that is no usable MLX model
├── PromptError                   a prompt file or a template that cannot be rendered
└── EngineError                   the embedded engine cannot start, stop or serve
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.ground.types import GenerationResult

ProblemKind = Literal["corrupt", "empty", "incomplete", "unreadable", "not a model", "path taken"]
"""What a scan says of a file or folder that is no usable model."""


class LMStrixError(Exception):
    """Base of all; `exit_code` is what the command line returns.

    `memory_evidence` tells whether the failure by itself says something about how much memory there is; two kinds do.
    `EngineCrashedError` does when it ended a prefill, which is for the caller to know.
    """

    exit_code = 1
    memory_evidence = False  # the safe default: a failure not understood must not lower a limit


class Stopped(KeyboardInterrupt):
    """A command is to end, and not only what it does now: what Ctrl-C is to a chat is no reason to leave it."""


class UsageError(LMStrixError):
    """Bad words on the command line, or a bad argument value."""

    exit_code = 2


class SettingsError(LMStrixError):
    """A config file or environment variable that does not validate."""

    exit_code = 2


class BackendUnavailableError(LMStrixError):
    """No server answers at `address`, or the connection to it was lost."""

    exit_code = 3

    def __init__(self, message: str, *, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


class BackendTimeoutError(BackendUnavailableError):
    """The server is there but did not answer within `waited_s` seconds."""

    def __init__(self, message: str, *, address: str | None = None, waited_s: float | None = None) -> None:
        super().__init__(message, address=address)
        self.waited_s = waited_s


class TimeLimitError(LMStrixError):
    """The time for the whole call, `limit_s`, passed while it did `step`; what was under way is cancelled.

    An answer whose time passes after it was asked for raises StreamStalledError, which has the text so far.
    """

    def __init__(self, message: str, *, step: str, limit_s: float) -> None:
        super().__init__(message)
        self.step = step
        self.limit_s = limit_s


class AuthenticationError(LMStrixError):
    """The server refuses our API token."""


class ModelNotFoundError(LMStrixError):
    """No model answers to `model_key`; `suggestions` are the closest known names."""

    def __init__(self, message: str, *, model_key: str | None = None, suggestions: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.model_key = model_key
        self.suggestions = tuple(suggestions)


class ModelLoadError(LMStrixError):
    """The model did not load at `context_length`; `detail` is the engine's own text."""

    def __init__(
        self,
        message: str,
        *,
        model_key: str | None = None,
        context_length: int | None = None,
        detail: str = "",
        exit_status: int | None = None,
        required_bytes: int | None = None,
    ) -> None:
        super().__init__(message)
        self.model_key = model_key
        self.context_length = context_length
        self.detail = detail
        self.exit_status = exit_status
        self.required_bytes = required_bytes


class LoadRefusedError(ModelLoadError):
    """A guardrail refused the load before anything was tried."""


class HeadroomError(LoadRefusedError):
    """The load would not leave free what `safety.headroom` keeps free; the server was not asked."""


class OutOfMemoryError(ModelLoadError):
    """The engine could not allocate."""

    memory_evidence = True


class EngineDiedError(ModelLoadError):
    """The engine process ended while loading; `exit_status` when known."""

    memory_evidence = True


class LoadTimeoutError(ModelLoadError):
    """The load did not finish within its deadline; it was cancelled."""


class GenerationError(LMStrixError):
    """A prediction failed; `detail` is the engine's own text."""

    def __init__(self, message: str, *, model_key: str | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.model_key = model_key
        self.detail = detail


class ContextOverflowError(GenerationError):
    """The prompt (`prompt_tokens`, when known) does not fit the loaded context (`context_length` tokens)."""

    def __init__(
        self,
        message: str,
        *,
        model_key: str | None = None,
        detail: str = "",
        prompt_tokens: int | None = None,
        context_length: int | None = None,
    ) -> None:
        super().__init__(message, model_key=model_key, detail=detail)
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length


class EngineCrashedError(GenerationError):
    """The engine process ended, or failed to compute, while predicting."""

    def __init__(
        self, message: str, *, model_key: str | None = None, detail: str = "", exit_status: int | None = None
    ) -> None:
        super().__init__(message, model_key=model_key, detail=detail)
        self.exit_status = exit_status


class StreamStalledError(GenerationError):
    """A deadline passed; the prediction was cancelled.

    `stage` is "first token", "between tokens", "silence" or "total".
    """

    def __init__(
        self,
        message: str,
        *,
        stage: str,
        waited_s: float,
        partial_text: str = "",
        model_key: str | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message, model_key=model_key, detail=detail)
        self.stage = stage
        self.waited_s = waited_s
        self.partial_text = partial_text


class EmptyAnswerError(GenerationError):
    """The server reported success and sent nothing."""


class InvalidAnswerError(GenerationError):
    """The answer is not of the shape that was asked for; `text` is the answer.

    `result` is all of it, with its token counts and times, where a model was asked here.
    """

    def __init__(self, message: str, *, text: str) -> None:
        super().__init__(message)
        self.text = text
        self.result: GenerationResult | None = None


class ModelUnloadedError(GenerationError):
    """The model was unloaded while, or before, it was asked."""


class ChatTemplateError(LMStrixError):
    """The model's own chat template fails; `detail` is the engine's own text."""

    def __init__(self, message: str, *, model_key: str | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.model_key = model_key
        self.detail = detail


class RegistryError(LMStrixError):
    """lmstrix.json cannot be read or written."""


class HistoryError(LMStrixError):
    """lmstrix.db or collections.db cannot be read or written."""


class GgufError(LMStrixError):
    """A model file whose header is not valid GGUF. The message names the file, the offset and the fault."""


class MlxError(LMStrixError):
    """A folder that is no usable MLX model; the message says why, `kind` what a scan lists it as."""

    def __init__(self, message: str, *, kind: ProblemKind) -> None:
        super().__init__(message)
        self.kind = kind


class PromptError(LMStrixError):
    """A prompt file or a template that cannot be rendered; `missing` are the variables it still needs."""

    def __init__(self, message: str, *, missing: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


class EngineError(LMStrixError):
    """The embedded engine cannot start, stop or serve."""
