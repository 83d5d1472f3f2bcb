# ruff: noqa: ARG002 - these are the earlier signatures, and some of their arguments have no effect
"""The objects that asked and tested models in the earlier LMStrix, over today's LMStrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.earlier.answers import failed_answer
from lmstrix.earlier.client import LMStrix
from lmstrix.earlier.gone_names import WithoutEquivalents
from lmstrix.earlier.models import Model
from lmstrix.ground.errors import LMStrixError, ModelNotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from lmstrix.earlier.registry import LMStudioClient, ModelRegistry

_NOT_OURS = ("stream_timeout", "context_data", "unload_all_models")


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a request; the names are translated further on."""
    if given.get("context_data") is not None:
        raise UsageError("context_data= is of the earlier LMStrix; now: variables=, for a prompt that names them")
    options = {name: value for name, value in given.items() if name not in _NOT_OURS}
    if given.get("stream_timeout") is not None:
        options["between_tokens_s"] = float(given["stream_timeout"])
    if options.get("top_k") == -1:  # it meant that the number of candidates has no limit
        options["top_k"] = 0
    return options


class InferenceManager(WithoutEquivalents):
    """Asks models; a failure is part of the answer, not an exception."""

    def __init__(
        self,
        client: LMStudioClient | None = None,
        registry: ModelRegistry | None = None,
        verbose: bool = False,
        base_url: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> None:
        self._lms = LMStrix(server=base_url, timeout_s=timeout, notify=print if verbose else None)

    def infer(self, model_id: str, prompt: str, **options: Any) -> dict[str, Any]:
        """One answer, or with `succeeded` False what went wrong. Raises ModelNotFoundError."""
        request = _options(options)
        try:
            answer = self._lms.infer(prompt, model_id, **request)
            about = {"id": answer.model_key, "context_length": answer.context_length}
            return dict(answer) | {"model_info": about}
        except ModelNotFoundError:
            raise
        except LMStrixError as exc:
            return failed_answer(model_key=model_id, prompt=prompt, error=str(exc))

    def infer_with_template(
        self, template_name: str, model_id: str, template_file: str | Path, variables: Mapping[str, Any], **options: Any
    ) -> dict[str, Any]:
        """One answer to a prompt of a file."""
        return self.infer(model_id, template_name, prompt_file=template_file, variables=variables, **options)

    def stream_infer(
        self, model_id: str, prompt: str, on_token: Callable[[str], None] | None = None, **options: Any
    ) -> Iterator[str]:
        """The text of an answer as it comes."""
        for text in self._lms.stream(prompt, model_id, **_options(options)):
            if on_token is not None:
                on_token(text)
            yield text


class ContextTester(WithoutEquivalents):
    """Finds the context limits of models."""

    def __init__(
        self,
        client: LMStudioClient | None = None,
        verbose: bool = False,
        fast_mode: bool = False,
        custom_prompt: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        max_iterations: int | None = None,
        safety_threshold: int | None = None,
    ) -> None:
        self._lms = LMStrix(server=base_url, notify=print if verbose else None)
        self._threshold = safety_threshold
        self._how = {"fast": fast_mode, "prompt": custom_prompt, "load_timeout_s": timeout}

    def test_model(self, model: Model, max_context: int | None = None, registry: ModelRegistry | None = None) -> Model:
        """Find the limit up to `max_context`; the model as the registry has it then."""
        self._lms.test_model(model.path, threshold=max_context or self._threshold, **self._how)
        if registry is not None:
            registry.reload()
        return next(Model.of(record) for record in self._lms.list_models() if record.path == model.path)

    def test_all_models(
        self, models_to_test: Iterable[Model], threshold: int | None = None, registry: ModelRegistry | None = None
    ) -> list[Model]:
        """The same for several."""
        return [self.test_model(model, threshold, registry) for model in models_to_test]

    def test_model_by_id(
        self, model_id: str, min_context: int | None = None, max_context: int | None = None
    ) -> dict[str, Any]:
        """The same by name, as a dictionary."""
        found = self._lms.test_model(model_id, threshold=max_context or self._threshold, **self._how)
        return {
            "model_id": model_id,
            "max_working_context": found.result.tested_context_length or None,
            "final_status": "completed" if found.result.tested_context_length else "failed",
        }

    def test_model_context(
        self,
        model_id: str,
        threshold: int | None = None,
        prompt: str | None = None,
        reset: bool = False,
        verbose: bool = False,
    ) -> dict[str, Any]:
        """The same with the keys of the documentation."""
        how = self._how | ({"prompt": prompt} if prompt is not None else {})
        found = self._lms.test_model(model_id, threshold=threshold or self._threshold, reset=reset, **how)
        length = found.result.tested_context_length or None
        loads = [event for event in self._lms.test_history(model_id).events if event.kind == "load"]
        return {
            "model_id": model_id,
            "optimal_context": length,
            "final_working_size": length,
            "test_successful": length is not None,
            "iterations": found.loads,
            "test_points": [{"context": load.tokens, "success": load.outcome == "ok"} for load in loads],
            "failure_point": found.result.last_known_bad,
            "total_time": found.elapsed_s,
            "error": found.refused or found.result.error,
        }

    def test_multiple_models(
        self, model_ids: Iterable[str], threshold: int | None = None, parallel: bool = False, max_workers: int = 2
    ) -> list[dict[str, Any]]:
        """The same for several, one after the other: at once, each would see less memory."""
        return [self.test_model_context(model_id, threshold) for model_id in model_ids]
