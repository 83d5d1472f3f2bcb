"""LMStrix: the Python API for scripts and notebooks. It runs AsyncLMStrix through a portal, and adds nothing to it.

    with LMStrix() as lms:
        lms.scan()
        print(lms.infer("Why is the sky blue?", model="qwen3-8b").text)

It knows the same settings, registry and servers as the command line, and raises the exceptions of `ground.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, Unpack

from lmstrix.api.portal import Portal
from lmstrix.python.aio import AsyncLMStrix
from lmstrix.python.chat import Chat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from lmstrix.core.answers.batch import BatchProgress, BatchReport
    from lmstrix.core.answers.recommend import Advice, Wish
    from lmstrix.core.benchmark.records import BenchReport, BenchRequest
    from lmstrix.core.context.report import ContextOutcome, ContextReport
    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.registry.listing import ScanReport
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.documents import Value
    from lmstrix.ground.types import LoadedModel, StreamEvent
    from lmstrix.python.options import (
        AnswerKeywords,
        BenchKeywords,
        ChatKeywords,
        ContextTestKeywords,
        LoadKeywords,
        PromptKeywords,
        WishKeywords,
    )
    from lmstrix.python.results import ActResult, InferenceResult
    from lmstrix.service.due_tests import ContextTestRequest


class LMStrix:
    """LMStrix, blocking. Safe to use from several threads. Use as a context manager, or call `close()`.

    `server` is "auto", "lmstudio", "embedded" or an address; `home` is where the registry lives; what is not given
    comes from the configuration files and the environment. `notify` receives one-line remarks. Callbacks are called in
    the thread that waits.
    """

    def __init__(
        self,
        *,
        server: str | None = None,
        home: str | Path | None = None,
        models_dir: str | Path | None = None,
        api_token: str | None = None,
        timeout_s: float | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._portal = Portal()
        self._lms = AsyncLMStrix(
            server=server, home=home, models_dir=models_dir, api_token=api_token, timeout_s=timeout_s, notify=notify
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the server."""
        self._portal.close(last=self._lms.close())

    # Models

    def scan(self, models_dir: str | Path | None = None, *, refresh: bool = False) -> ScanReport:
        """Find models on disk and on the server; merge them into the registry."""
        return self._portal.run(self._lms.scan(models_dir, refresh=refresh))

    def list_models(self, filter: str | None = None) -> list[ModelRecord]:  # noqa: A002 - the word of the command line
        """The registry's models, by key."""
        return self._portal.run(self._lms.list_models(filter))

    def estimate(self, model: str, context_length: int | None = None, **load: Unpack[LoadKeywords]) -> EstimateReport:
        """What a load takes and which context fits, by arithmetic."""
        return self._portal.run(self._lms.estimate(model, context_length, **load))

    def recommend(self, wish: Wish | None = None, **changes: Unpack[WishKeywords]) -> Advice:
        """The best models for a wish; `changes` are fields of Wish (task="code", min_context_length=…)."""
        return self._portal.run(self._lms.recommend(wish, **changes))

    def load(
        self, model: str, context_length: int | None = None, *, ttl_s: float | None = None, **load: Unpack[LoadKeywords]
    ) -> LoadedModel:
        """Load a model at its tested context, or the one given, and keep it."""
        return self._portal.run(self._lms.load(model, context_length, ttl_s=ttl_s, **load))

    def unload(self, instance: str | None = None) -> list[LoadedModel]:
        """Unload one instance, or with None everything."""
        return self._portal.run(self._lms.unload(instance))

    def ps(self) -> list[LoadedModel]:
        """The loaded models."""
        return self._portal.run(self._lms.ps())

    # Context limits

    def test_model(
        self, model: str, options: ContextTestRequest | None = None, **changes: Unpack[ContextTestKeywords]
    ) -> ContextOutcome:
        """Find one model's real context limit. `changes` are fields of ContextTestRequest (threshold=…, fast=True).

        The outcome's `result.tested_context_length` is the context to use, None if nothing was proven.
        """
        return self._portal.run(self._lms.test_model(model, options, **changes))

    def test_all(
        self, options: ContextTestRequest | None = None, **changes: Unpack[ContextTestKeywords]
    ) -> ContextReport:
        """Find the limits of all models that have no result yet, smallest risk first."""
        return self._portal.run(self._lms.test_all(options, **changes))

    # Answers

    def infer(self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]) -> InferenceResult:
        """One answer. `options` are fields of InferRequest: system_prompt, max_tokens, temperature, seed, …

        With `variables` the prompt is a template; with `prompt_file` it names prompts of that file.
        """
        return self._portal.run(self._lms.infer(prompt, model, **options))

    def stream(self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]) -> Iterator[str]:
        """The text of one answer as it comes; leaving early cancels it on the server."""
        return self._portal.iterate(self._lms.stream(prompt, model, **options))

    def events(
        self, prompt: str = "", model: str | None = None, **options: Unpack[PromptKeywords]
    ) -> Iterator[StreamEvent]:
        """All events of one answer: prompt progress, text, reasoning, and the result at the end."""
        return self._portal.iterate(self._lms.events(prompt, model, **options))

    def act(
        self,
        prompt: str,
        model: str | None = None,
        *,
        tools: Iterable[Callable[..., object]],
        max_rounds: int = 10,
        **options: Unpack[PromptKeywords],
    ) -> ActResult:
        """An answer for which the model may call these Python functions, as often as `max_rounds` allows.

        Their annotations and docstrings tell the model what they take and do; they run in the thread that waits here.
        What a call fails with is told to the model. Raises GenerationError when it still calls tools after the last
        round.
        """
        from lmstrix.core.answers.acting import refuse_coroutines

        # Refused here, because AsyncLMStrix below takes them.
        functions = refuse_coroutines(tools)
        return self._portal.run(self._lms.act(prompt, model, tools=functions, max_rounds=max_rounds, **options))

    def chat(
        self, model: str | None = None, *, system_prompt: str | None = None, **options: Unpack[ChatKeywords]
    ) -> Chat:
        """A conversation; `options` hold for each of its turns."""
        return Chat(self._portal, self._lms.chat(model, system_prompt=system_prompt, **options))

    def batch(
        self,
        prompts: Mapping[str, str] | Sequence[str],
        models: Sequence[str],
        out: str | Path,
        *,
        inputs: Mapping[str, str] | Sequence[str] = (),
        variables: Mapping[str, Value] | None = None,
        parallel: int = 1,
        skip_existing: bool = True,
        on_progress: Callable[[BatchProgress], None] | None = None,
        **options: Unpack[AnswerKeywords],
    ) -> BatchReport:
        """Prompts by models by inputs to files below `out`, one model loaded at a time; what is answered is skipped.

        Prompts and inputs are texts by name, or words as on the command line. `options` are fields of InferRequest.
        """
        return self._portal.run(
            self._lms.batch(
                prompts,
                models,
                out,
                inputs=inputs,
                variables=variables,
                parallel=parallel,
                skip_existing=skip_existing,
                on_progress=on_progress,
                **options,
            )
        )

    def embed(
        self, texts: str | Sequence[str], model: str | None = None, *, ttl_s: float | None = 300.0
    ) -> tuple[tuple[float, ...], ...]:
        """One vector per text. Without a model, by the only embedding model there is."""
        return self._portal.run(self._lms.embed(texts, model, ttl_s=ttl_s))

    # Benchmarks

    def bench(
        self, models: str | Sequence[str], request: BenchRequest | None = None, **changes: Unpack[BenchKeywords]
    ) -> BenchReport:
        """Measure models; the report's page is written to the LMStrix home. Keywords change fields of `request`.

        An interrupt ends it early, with a report of what was measured (`interrupted` is set).

        Raises:
            BackendUnavailableError: no server to measure.
        """
        # Not through AsyncLMStrix.bench: an interrupt comes to this thread, where it must end in a report.
        return self._lms._benchmarking(models, request, changes).measure(self._portal.run).report
