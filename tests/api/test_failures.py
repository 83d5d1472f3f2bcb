"""Every failure the SDK or the server can show becomes exactly one exception, with its facts and a remedy."""

from __future__ import annotations

import json

import lmstudio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.api.failures import timed_out, translate, translated
from lmstrix.api.fault_rules import classify
from lmstrix.api.faults import Operation, ServerFault, ServerRequest, read_fault
from lmstrix.ground import errors


def call(operation: Operation) -> ServerRequest:
    return ServerRequest(
        operation=operation,
        address="127.0.0.1:9",
        what="do that",
        model_key="acme/tiny",
        context_length=4096,
        limit_s=3.0,
    )


GUARDRAIL = (
    "Model loading was stopped due to insufficient system resources. Under the current settings, this model requires "
    "approximately 12.50 GB of memory, and continuing to load it would likely overload your system."
)
OVERFLOW = (
    "Trying to keep the first 9120 tokens when context the overflows. However, the model is loaded with context length "
    "of only 4096 tokens, which is not enough."
)
TEXTS: list[tuple[Operation, str, type[errors.LMStrixError]]] = [
    # Refused before anything was tried.
    ("load", GUARDRAIL, errors.LoadRefusedError),
    ("load", "you can adjust the model loading guardrails in settings", errors.LoadRefusedError),
    ("load", "this model requires approximately NaN undefined of memory", errors.LoadRefusedError),
    ("load", "AutoFit selected 3072, below the required minimum 4096", errors.LoadRefusedError),
    # The engine could not allocate.
    ("load", "llama_kv_cache: unable to allocate CPU buffer", errors.OutOfMemoryError),
    ("load", "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed", errors.OutOfMemoryError),
    ("load", "Failed to load model: CUDA error: out of memory", errors.OutOfMemoryError),
    ("load", "failed to allocate buffer for kv cache", errors.OutOfMemoryError),
    ("load", "vk::Device::allocateMemory: ErrorOutOfDeviceMemory", errors.OutOfMemoryError),
    ("load", "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)", errors.OutOfMemoryError),
    ("predict", "CUDA error: out of memory", errors.OutOfMemoryError),
    ("predict", "ggml_vulkan: Device memory allocation of size 1073741824 failed.", errors.OutOfMemoryError),
    (
        "predict",
        "[metal::malloc] Attempting to allocate 9000000000 bytes which is greater than the maximum allowed buffer size",
        errors.OutOfMemoryError,
    ),
    ("predict", "Compute error.", errors.EngineCrashedError),
    # The model's own template.
    ("ask", "Error rendering prompt with jinja template: Unknown test: sequence", errors.ChatTemplateError),
    ("predict", "Failed to process the Jinja prompt", errors.ChatTemplateError),
    ("load", "Failed to load model: chat template parsing error: Expected closing", errors.ChatTemplateError),
    # The engine died.
    ("load", "(Exit code: 137). Unknown error. Try a different model and/or config.", errors.EngineDiedError),
    ("load", "engine process ended: SIGABRT", errors.EngineDiedError),
    ("load", "The model has crashed without additional information.", errors.EngineDiedError),
    ("load", "Received load-error from worker", errors.EngineDiedError),
    ("load", "Failed to load model", errors.EngineDiedError),
    ("load", "model_load_failed", errors.EngineDiedError),
    ("predict", "The model has crashed without additional information. (Exit code: 9)", errors.EngineCrashedError),
    ("ask", "The model has crashed without additional information. (Exit code: 9)", errors.EngineCrashedError),
    # Files that cannot load, whatever the memory.
    (
        "load",
        "Failed to load model: data is not within the file bounds, corrupted or incomplete",
        errors.ModelLoadError,
    ),
    ("load", "Failed to load model: unknown model architecture: 'quux'", errors.ModelLoadError),
    (
        "load",
        "Failed to load model: 100000 tokens of context were asked for; tiny takes 1 to 4096",
        errors.ModelLoadError,
    ),
    # App-side.
    ("load", "snapshot of system resources failed", errors.ModelLoadError),
    ("load", "Model with identifier x already exists", errors.ModelLoadError),
    # The prompt does not fit, or the answer does not.
    ("predict", OVERFLOW, errors.ContextOverflowError),
    ("predict", "request (9120 tokens) exceeds the available context size (4096 tokens)", errors.ContextOverflowError),
    ("predict", "The number of tokens is greater than the context length", errors.ContextOverflowError),
    ("predict", "n_keep: 9120 >= n_ctx: 4096", errors.ContextOverflowError),
    ("predict", "The number of tokens to keep from the initial prompt is too large", errors.ContextOverflowError),
    ("predict", "Reached context length of 4096 tokens", errors.ContextOverflowError),
    ("predict", "This model does not currently support mid-generation context overflow", errors.ContextOverflowError),
    ("predict", "Context size has been exceeded.", errors.ContextOverflowError),
    # Unloaded meanwhile.
    ("predict", "Model is unloaded.", errors.ModelUnloadedError),
    ("ask", "The model has already been unloaded", errors.ModelUnloadedError),
    # What nobody knows, and what only looks like memory.
    ("load", "The printer is out of paper in room 12; boom", errors.ModelLoadError),
    ("predict", "Sampler exploded", errors.GenerationError),
    ("ask", "Unknown endpoint foo", errors.GenerationError),
    ("ask", "authentication failed", errors.AuthenticationError),
]
CODES: list[tuple[Operation, str, type[errors.LMStrixError]]] = [
    ("predict", "generic.specificModelUnloaded", errors.ModelUnloadedError),
    ("ask", "generic.noModelMatchingQuery", errors.ModelNotFoundError),
    ("load", "generic.pathNotFound", errors.ModelNotFoundError),
    ("ask", "generic.identifierNotFound", errors.ModelNotFoundError),
    ("load", "generic.domainMismatch", errors.ModelLoadError),
    ("predict", "generic.presetNotFound", errors.GenerationError),
    ("load", "generic.engineDoesNotSupportFeature", errors.ModelLoadError),
    ("predict", "generic.engineDoesNotSupportFeature", errors.GenerationError),
    ("load", "generic.missingRuntimeExtension", errors.ModelLoadError),
]


@pytest.mark.parametrize("place", ["title", "cause", "suggestion", "errorData"])
@pytest.mark.parametrize(("operation", "text", "expected"), TEXTS)
def test_a_text_is_understood_wherever_it_stands(
    operation: Operation, text: str, expected: type[errors.LMStrixError], place: str
) -> None:
    body = {place: {"detail": text} if place == "errorData" else text}
    found = classify(read_fault({"title": "It did not work", **body}), call(operation))
    assert type(found) is expected


@pytest.mark.parametrize(("operation", "code", "expected"), CODES)
def test_a_display_code_is_understood(operation: Operation, code: str, expected: type[errors.LMStrixError]) -> None:
    found = classify(read_fault({"title": "No.", "displayData": {"code": code}}), call(operation))
    assert type(found) is expected


@pytest.mark.parametrize(
    "found",
    [classify(ServerFault(title=text), call(operation)) for operation, text, _ in TEXTS]
    + [timed_out(call("load")), timed_out(call("ask"))],
    ids=lambda found: type(found).__name__,
)
def test_a_message_is_one_line_of_fact_and_remedy(found: errors.LMStrixError) -> None:
    fact, semicolon, remedy = str(found).rpartition("; ")
    assert fact
    assert semicolon
    assert remedy
    assert "\n" not in str(found)
    assert "acme/tiny" in fact or "127.0.0.1:9" in fact


@pytest.mark.parametrize(
    "body",
    [
        {"title": "Failed to load model", "cause": "quantized V cache requires flash_attn to be enabled"},
        {"title": "Failed to load model: quantized V cache requires flash_attn to be enabled"},
        {"title": "Error loading model.", "cause": "no such option: --frobnicate"},
    ],
)
def test_a_load_that_failed_for_a_reason_of_its_own_is_no_evidence(body: dict[str, str]) -> None:
    found = classify(read_fault(body), call("load"))
    assert type(found) is errors.ModelLoadError
    assert not found.memory_evidence


def test_only_two_kinds_are_evidence_about_memory() -> None:
    kinds: set[type[errors.LMStrixError]] = {kind for _, _, kind in TEXTS + CODES}
    kinds |= {errors.LoadTimeoutError, errors.StreamStalledError}
    evidence = {errors.OutOfMemoryError, errors.EngineDiedError}
    assert {kind for kind in kinds if kind.memory_evidence} == evidence


def test_facts_are_taken_from_text_and_data() -> None:
    refused = classify(ServerFault(title=GUARDRAIL), call("load"))
    assert isinstance(refused, errors.LoadRefusedError)
    assert (refused.required_bytes, refused.context_length, refused.model_key) == (12_500_000_000, 4096, "acme/tiny")
    nonsense = classify(ServerFault(title="requires approximately NaN undefined of memory"), call("load"))
    assert isinstance(nonsense, errors.LoadRefusedError)
    assert nonsense.required_bytes is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"cause": "(Exit code: 137). Unknown error."}, -9),
        ({"cause": "(Exit code: -6)"}, -6),
        ({"cause": "(Exit code: 1)"}, 1),
        ({"cause": "crashed without additional information", "errorData": {"exitCode": 139}}, -11),
        ({"cause": "crashed without additional information"}, None),
    ],
)
def test_the_exit_status_of_an_engine(body: dict[str, object], status: int | None) -> None:
    died = classify(read_fault({"title": "Error loading model.", **body}), call("load"))
    assert isinstance(died, errors.EngineDiedError)
    assert died.exit_status == status


@pytest.mark.parametrize(
    "body",
    [
        {"title": OVERFLOW},
        {"title": "prompt does not fit: n_keep", "errorData": {"promptTokens": 9120, "contextLength": 4096}},
        {"cause": "request (9120 tokens) exceeds the available context size (4096 tokens), try increasing it"},
        {"cause": '{"type":"exceed_context_size_error","n_prompt_tokens":9120,"n_ctx":4096}'},
        {"title": "The prompt has 9120 tokens; loaded with a context length of only 4096 tokens."},
    ],
)
def test_the_numbers_of_an_overflow(body: dict[str, object]) -> None:
    found = classify(read_fault(body), call("predict"))
    assert isinstance(found, errors.ContextOverflowError)
    assert (found.prompt_tokens, found.context_length) == (9120, 4096)


def test_a_missing_model_is_answered_with_the_names_nearest_to_it() -> None:
    data = {
        "code": "generic.pathNotFound",
        "path": "acme/tiny",
        "availablePathsSample": ["other/huge", "acme/tiny-chat", "acme/tinny"],
    }
    found = classify(read_fault({"title": "?", "displayData": data}), call("load"))
    assert isinstance(found, errors.ModelNotFoundError)
    assert set(found.suggestions) == {"acme/tinny", "acme/tiny-chat"}
    assert "acme/tinny" in str(found)


def server_error(body: dict[str, object]) -> lmstudio.LMStudioServerError:
    return lmstudio.LMStudioServerError.from_details("Model load error", body)


EXCEPTIONS: list[tuple[Exception, Operation, type[errors.LMStrixError]]] = [
    (server_error({"title": GUARDRAIL}), "load", errors.LoadRefusedError),
    (
        server_error({"title": "?", "displayData": {"code": "generic.noModelMatchingQuery"}}),
        "ask",
        errors.ModelNotFoundError,
    ),
    (server_error({"title": "no entry"}), "connect", errors.AuthenticationError),
    (lmstudio.LMStudioServerError("Out of memory"), "load", errors.OutOfMemoryError),
    (lmstudio.LMStudioPredictionError("Model is unloaded"), "predict", errors.ModelUnloadedError),
    (lmstudio.LMStudioWebsocketError("LM Studio is not reachable"), "connect", errors.BackendUnavailableError),
    (lmstudio.LMStudioWebsocketError("Client unexpectedly disconnected."), "predict", errors.BackendUnavailableError),
    (ConnectionResetError(), "ask", errors.BackendUnavailableError),
    (lmstudio.LMStudioTimeoutError(), "ask", errors.BackendTimeoutError),
    (TimeoutError(), "connect", errors.BackendTimeoutError),
    (TimeoutError(), "load", errors.LoadTimeoutError),
    (
        ValueError("dictionary update sequence element #0 has length 1; 2 is required"),
        "connect",
        errors.AuthenticationError,
    ),
    (lmstudio.LMStudioClientError("unexpected message"), "ask", errors.BackendUnavailableError),
    (lmstudio.LMStudioRuntimeError("reading the result of an active channel"), "load", errors.BackendUnavailableError),
    (msgspec.ValidationError("Expected `int`, got `float`"), "predict", errors.BackendUnavailableError),
    (json.JSONDecodeError("Expecting value", "<html>", 0), "ask", errors.BackendUnavailableError),
    (KeyError("tokenCount"), "ask", errors.BackendUnavailableError),
]


@pytest.mark.parametrize(("raised", "operation", "expected"), EXCEPTIONS)
def test_every_exception_of_the_sdk_becomes_ours(
    raised: Exception, operation: Operation, expected: type[errors.LMStrixError]
) -> None:
    assert type(translate(raised, call(operation))) is expected
    with pytest.raises(expected) as caught, translated(call(operation)):
        raise raised
    assert caught.value.__cause__ is raised


def test_a_request_about_no_model_fails_as_the_server_does() -> None:
    listing = ServerRequest(operation="ask", address="127.0.0.1:9", what="list its models")
    assert type(classify(ServerFault(title="Unknown endpoint"), listing)) is errors.BackendUnavailableError


def test_ours_pass_untouched_and_foreign_bugs_are_not_hidden() -> None:
    ours = errors.UsageError("no")
    with pytest.raises(errors.UsageError) as caught, translated(call("ask")):
        raise ours
    assert caught.value is ours
    with pytest.raises(ZeroDivisionError), translated(call("ask")):
        raise ZeroDivisionError


wire_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
members = st.sampled_from(["title", "rootTitle", "cause", "suggestion", "errorData", "displayData", "stack"])


@given(st.dictionaries(members, wire_values) | wire_values, st.sampled_from(["connect", "ask", "load", "predict"]))
def test_any_error_body_becomes_some_exception(body: object, operation: Operation) -> None:
    found = classify(read_fault(body), call(operation))
    assert str(found).count("; ") >= 1
    assert "\n" not in str(found)
