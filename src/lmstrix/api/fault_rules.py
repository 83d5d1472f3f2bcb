"""Every error LM Studio's wire reports -> one exception of `ground.errors`. Pure; no other module reads its texts.

LM Studio has codes for "no such model" and the like, none for memory or an overflowing prompt: those are told apart by
what the texts say, title, cause, suggestion and data searched together. The first rule of the table that fits decides,
so particular ones stand before general ones. A failure no rule knows stays what the operation makes of it and never
counts as evidence about memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from lmstrix.ground.errors import (
    AuthenticationError,
    BackendUnavailableError,
    ChatTemplateError,
    ContextOverflowError,
    EngineCrashedError,
    EngineDiedError,
    GenerationError,
    LMStrixError,
    LoadRefusedError,
    ModelLoadError,
    ModelNotFoundError,
    ModelUnloadedError,
    OutOfMemoryError,
)
from lmstrix.ground.units import parse_bytes
from lmstrix.ground.wording import call

if TYPE_CHECKING:
    from lmstrix.api.faults import Operation, ServerFault, ServerRequest

# --- what the texts look like ---------------------------------------------------------------------------------------

_SMALLER = "try a shorter context, a smaller quantization or fewer loaded models"
_MEMORY = (
    r"unable to allocate|cudaMalloc failed|\bout of memory\b|failed to allocate|ErrorOutOfDeviceMemory|"
    r"insufficient memory|cannot allocate memory|std::bad_alloc|aligned_malloc|memory allocation of size \d+ failed|"
    r"attempting to allocate \d+ bytes which is greater"  # the last two: Vulkan and Metal (MLX)
)
_TEMPLATE = r"\bjinja\b|\bminja\b|\bchat[ _]?template"
# llama.cpp's words where a batch cannot be computed; on Metal this is how memory runs out in a prefill.
_NOT_COMPUTED = r"compute error|failed to decode|llama_decode"
_BROKEN_FILE = (
    r"corrupt(?:ed)? or incomplete|unknown model architecture|unsupported model|invalid magic|bad magic|"
    r"not a (?:valid )?gguf|missing tensor|wrong number of tensors|failed to open|no such file"
)
# The embedded engine's own words: a context beyond what the model declares.
_TOO_LONG = r"tokens of context were asked for"
_DIED = r"exit code:|SIGABRT|SIGKILL|SIGSEGV|crashed without additional information|received load-error"
_UNEXPLAINED = r"failed to load model|error loading model|model_load_failed"
_OVERFLOW = (
    r"exceeds the available context size|greater than the context length|\bn_keep\b|context length of only|"
    r"tokens to keep from the initial prompt|keep the first \d+ tokens|exceed_context_size_error"
)
_FILLED = r"reached context length|mid-generation context overflow|context size has been exceeded"
_NEEDED_SIZE = re.compile(r"approximately\s+([\d.]+\s*[KMGT]i?B)\b", re.IGNORECASE)

# --- what each kind of fault becomes ------------------------------------------------------------------------------


def _exit_status(fault: ServerFault) -> int | None:
    """The engine's exit status as the server tells it; a signal is negative, however it was written."""
    data = fault.error_data or {}
    found = data.get("exitCode")
    if not isinstance(found, int):
        match = re.search(r"exit code:?\s*(-?\d+)", fault.all_text, re.IGNORECASE)
        if match is None:
            return None
        found = int(match[1])
    return 128 - found if 128 < found < 160 else found  # a shell writes signal 9 as 137


def _required_bytes(fault: ServerFault) -> int | None:
    match = _NEEDED_SIZE.search(fault.all_text)
    return parse_bytes(match[1]) if match else None


def _load_failure(
    kind: type[ModelLoadError], happened: str, remedy: str, *, reason: Callable[[ServerFault], str] | None = None
) -> Callable[[ServerFault, ServerRequest], LMStrixError]:
    def make(fault: ServerFault, asked: ServerRequest) -> LMStrixError:
        why = reason(fault) if reason is not None else fault.headline
        return kind(
            f"{asked.model} {happened}{asked.at_context} ({why}); {remedy}",
            model_key=asked.model_key,
            context_length=asked.context_length,
            detail=fault.all_text.strip(),
            exit_status=_exit_status(fault),
            required_bytes=_required_bytes(fault),
        )

    return make


def _need(fault: ServerFault) -> str:
    """What a guardrail says, without its advice on an app's settings; all of it where it names no size."""
    match = _NEEDED_SIZE.search(fault.all_text)
    return f"it needs about {match[1]} and would overload the memory" if match else fault.headline


def _generation_failure(
    kind: type[GenerationError], happened: str, remedy: str
) -> Callable[[ServerFault, ServerRequest], LMStrixError]:
    def make(fault: ServerFault, asked: ServerRequest) -> LMStrixError:
        message = f"{asked.model} {happened} ({fault.headline}); {remedy}"
        return kind(message, model_key=asked.model_key, detail=fault.all_text.strip())

    return make


def _crashed(fault: ServerFault, asked: ServerRequest) -> LMStrixError:
    return EngineCrashedError(
        f"the engine of {asked.model} ended while predicting ({fault.headline}); load it again with a shorter context",
        model_key=asked.model_key,
        detail=fault.all_text.strip(),
        exit_status=_exit_status(fault),
    )


def _template_failed(fault: ServerFault, asked: ServerRequest) -> LMStrixError:
    return ChatTemplateError(
        f"the chat template of {asked.model} fails ({fault.headline}); update the model or the engine's runtime",
        model_key=asked.model_key,
        detail=fault.all_text.strip(),
    )


_died = _load_failure(EngineDiedError, "ended its engine while loading", _SMALLER)
_did_not_load = _load_failure(ModelLoadError, "did not load", "the server's log tells more")


def _unexplained(fault: ServerFault, asked: ServerRequest) -> LMStrixError:
    """A load that failed: with nothing more said the engine died, any other reason is a failure of its own."""
    match = re.search(rf"(?:{_UNEXPLAINED})(.*)", f"{fault.title}: {fault.cause}", re.IGNORECASE | re.DOTALL)
    explained = match is not None and re.search(r"[a-z]", match[1], re.IGNORECASE)
    return _did_not_load(fault, asked) if explained else _died(fault, asked)


def _overflow(fault: ServerFault, asked: ServerRequest) -> LMStrixError:
    prompt_tokens, context_length = _overflow_numbers(fault)
    context_length = context_length or asked.context_length
    wanted = f"{prompt_tokens} tokens" if prompt_tokens else "the prompt"
    held = f"{context_length} tokens of context" if context_length else "the loaded context"
    return ContextOverflowError(
        f"{wanted} do not fit {held} of {asked.model}; shorten the input or load the model with a longer context",
        model_key=asked.model_key,
        detail=fault.all_text.strip(),
        prompt_tokens=prompt_tokens,
        context_length=context_length,
    )


_PROMPT_PATTERNS = (
    r"request \((\d+) tokens\)",
    r"prompt has (\d+) tokens",
    r"keep the first (\d+) tokens",
    r"n_prompt_tokens\W+(\d+)",
    r"promptTokens\W+(\d+)",
    r"n_keep:?\s*(\d+)",
)
_CONTEXT_PATTERNS = (
    r"context size \((\d+)",
    r"context length of only (\d+)",
    r"n_ctx:?\W+(\d+)",
    r"contextLength\W+(\d+)",
)


def _overflow_numbers(fault: ServerFault) -> tuple[int | None, int | None]:
    text = fault.all_text
    prompt, context = (
        next((int(match[1]) for pattern in patterns if (match := re.search(pattern, text, re.IGNORECASE))), None)
        for patterns in (_PROMPT_PATTERNS, _CONTEXT_PATTERNS)
    )
    return prompt, context


def _not_found(fault: ServerFault, asked: ServerRequest) -> LMStrixError:
    display = fault.display_data or {}
    sample = display.get("availablePathsSample") or display.get("loadedModelsSample") or []
    known = [name for name in sample if isinstance(name, str)] if isinstance(sample, Sequence) else []
    wanted = asked.model_key or ""
    # A server sends only a sample of its names: when none is close, any of them shows what they look like.
    suggestions = get_close_matches(wanted, known, n=3, cutoff=0.4) or known[:3]
    hint = f"did you mean {', '.join(suggestions)}?" if suggestions else f"{call('list_models')} shows the names"
    place = "downloaded" if display.get("code") == "generic.pathNotFound" else "loaded"
    message = f"no model named {wanted or '?'} is {place} at {asked.address}; {hint}"
    return ModelNotFoundError(message, model_key=asked.model_key, suggestions=suggestions)


def refused_token(fault: ServerFault, asked: ServerRequest) -> LMStrixError:
    return AuthenticationError(
        f"{asked.address} refuses our API token ({fault.headline}); create one in LM Studio's developer settings "
        "and set LM_API_TOKEN"
    )


# --- the table ----------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """Faults whose display code is `code`, or whose text matches `pattern`, become what `make` says."""

    operations: frozenset[Operation]
    make: Callable[[ServerFault, ServerRequest], LMStrixError]
    code: str = ""
    pattern: str = ""

    def fits(self, fault: ServerFault, asked: ServerRequest) -> bool:
        """Whether it is a rule for this. Compiling all patterns takes 20 ms: only a fault is worth it."""
        if asked.operation not in self.operations:
            return False
        if self.code and self.code == (fault.display_data or {}).get("code"):
            return True
        return bool(self.pattern and re.search(self.pattern, fault.all_text, re.IGNORECASE | re.DOTALL))


_ANY: frozenset[Operation] = frozenset(("connect", "ask", "load", "predict"))
_LOAD: frozenset[Operation] = frozenset(("load",))
# Counting tokens and applying a template fail as predictions do: they need the loaded model too.
_PREDICT: frozenset[Operation] = frozenset(("predict", "ask"))

RULES: tuple[Rule, ...] = (
    Rule(
        _ANY, refused_token, pattern=r"authentication failed|invalid (?:api )?(?:token|passkey)|passkey does not match"
    ),
    Rule(
        _ANY,
        _generation_failure(ModelUnloadedError, "was unloaded meanwhile", "load it again"),
        code="generic.specificModelUnloaded",
    ),
    Rule(_ANY, _not_found, code="generic.noModelMatchingQuery"),
    Rule(_ANY, _not_found, code="generic.pathNotFound"),
    Rule(_ANY, _not_found, code="generic.identifierNotFound"),
    Rule(
        _LOAD,
        _load_failure(ModelLoadError, "is of another kind than asked for", "load it as what it is (llm or embedding)"),
        code="generic.domainMismatch",
    ),
    Rule(
        _LOAD,
        _load_failure(ModelLoadError, "has no engine for its format", "install the runtime in LM Studio"),
        code="generic.missingRuntimeExtension",
    ),
    Rule(
        _LOAD,
        _load_failure(
            ModelLoadError, "asks for a feature its engine lacks", "update the runtime or leave the option out"
        ),
        code="generic.engineDoesNotSupportFeature",
    ),
    Rule(
        _PREDICT,
        _generation_failure(
            GenerationError, "asks for a feature its engine lacks", "update the runtime or leave it out"
        ),
        code="generic.engineDoesNotSupportFeature",
    ),
    Rule(
        _PREDICT,
        _generation_failure(GenerationError, "was asked with an unknown preset", "choose one that LM Studio lists"),
        code="generic.presetNotFound",
    ),
    # App-side: it could not look at the machine, which says nothing about the model.
    Rule(
        _LOAD,
        _load_failure(
            ModelLoadError, "did not load: LM Studio cannot read the system's resources", "restart LM Studio"
        ),
        pattern=r"snapshot of system resources failed",
    ),
    Rule(
        _LOAD,
        _load_failure(ModelLoadError, "did not load: the instance name is taken", "choose another or unload that one"),
        pattern=r"already exists",
    ),
    Rule(
        _LOAD,
        _load_failure(
            LoadRefusedError,
            "was refused before loading",
            f"{_SMALLER}, or raise the server's memory limit (LM Studio: guardrails; engine: its memory limit)",
            reason=_need,
        ),
        pattern=r"insufficient system resources|model loading guardrails|requires approximately .{1,40}? of memory|"
        r"autofit selected .* below the required minimum",
    ),
    Rule(_LOAD, _load_failure(OutOfMemoryError, "ran out of memory while loading", _SMALLER), pattern=_MEMORY),
    Rule(
        _LOAD,
        _load_failure(
            ModelLoadError, "did not load: its file is not usable", "download it again or update the runtime"
        ),
        pattern=_BROKEN_FILE,
    ),
    Rule(
        _LOAD,
        _load_failure(ModelLoadError, "did not load: it is not made for that", "ask for no more than it declares"),
        pattern=_TOO_LONG,
    ),
    Rule(_LOAD, _template_failed, pattern=_TEMPLATE),
    # After the reasons above: servers put "failed to load model" before any of them.
    Rule(_LOAD, _died, pattern=_DIED),
    Rule(_LOAD, _unexplained, pattern=_UNEXPLAINED),
    Rule(_PREDICT, _overflow, pattern=rf"{_OVERFLOW}|{_FILLED}"),
    Rule(
        _PREDICT,
        _generation_failure(ModelUnloadedError, "was unloaded meanwhile", "load it again"),
        pattern=r"model is unloaded|already been unloaded|model was unloaded",
    ),
    Rule(_PREDICT, _load_failure(OutOfMemoryError, "ran out of memory while predicting", _SMALLER), pattern=_MEMORY),
    Rule(_PREDICT, _template_failed, pattern=_TEMPLATE),
    Rule(_PREDICT, _crashed, pattern=rf"{_DIED}|{_UNEXPLAINED}|has crashed"),
    Rule(
        _PREDICT,
        _generation_failure(EngineCrashedError, "was not computed to its end", "load it again with a shorter context"),
        pattern=_NOT_COMPUTED,
    ),
)


def classify(fault: ServerFault, asked: ServerRequest) -> LMStrixError:
    """What a fault the server reported means."""
    for rule in RULES:
        if rule.fits(fault, asked):
            return rule.make(fault, asked)
    if asked.operation == "load":
        return _did_not_load(fault, asked)
    if asked.operation == "predict":
        remedy = " ".join(fault.suggestion.split()).rstrip(".") or "the server's log tells more"
        return _generation_failure(GenerationError, "failed to answer", remedy)(fault, asked)
    message = f"{asked.address} refused to {asked.what} ({fault.headline}); check that the server is up to date"
    if asked.model_key:
        return GenerationError(message, model_key=asked.model_key, detail=fault.all_text.strip())
    return BackendUnavailableError(message, address=asked.address)
