"""What is known of the time tests take: earlier results and loads of this machine, and the models that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.context.eta import ExpectedTest, MachinePace, RunForecast, Speeds
from lmstrix.core.context.verdict import Outcome
from lmstrix.core.memory.prediction import breakdown, predicted_limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lmstrix.core.history.journal import Journal
    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.core.registry.results import Configuration, ContextResult
    from lmstrix.ground.loads import LoadConfig


def forecast(
    registry: ModelRegistry, journal: Journal, tests: Mapping[str, ExpectedTest], configuration: Configuration
) -> RunForecast:
    """The forecast of a run of these tests, by path."""
    pace = MachinePace()
    # Oldest first: the pace goes by the latest.
    for attempt in journal.intents(configuration=configuration.key):
        if attempt.kind == "load" and attempt.outcome == Outcome.OK and attempt.finished_at is not None:
            pace.note_load(attempt.predicted_bytes or 0, (attempt.finished_at - attempt.started_at).total_seconds())
    for record in registry:
        pace.note_speeds(record.size_bytes or 0, _measured_here(record.results, configuration))
    return RunForecast(tests, pace)


def expected_test(
    record: ModelRecord,
    shape: ModelShape,
    configuration: Configuration,
    *,
    ceiling: int,
    budget_bytes: int | None,
    recall: bool,
) -> ExpectedTest:
    """What a model's test will do, by its last result, else by what the memory formulas let expect."""
    load: LoadConfig = configuration.load
    result = record.result(configuration)
    known = result.loadable_context_length if result is not None else None
    limit = predicted_limit(shape, budget_bytes, ceiling, load) if budget_bytes is not None else ceiling
    return ExpectedTest(
        size_bytes=record.size_bytes or 0,
        context_length=max(min(known or limit, ceiling), 1),
        cost=lambda length: breakdown(shape, length, load).total_bytes,
        recall=recall,
        speeds=_measured_here([result] if result is not None else [], configuration),
    )


def speeds_of(result: ContextResult) -> Speeds:
    return Speeds(
        prefill_tokens_per_second=result.prefill_tokens_per_second,
        decode_tokens_per_second=result.decode_tokens_per_second,
    )


def _measured_here(results: Iterable[ContextResult], configuration: Configuration) -> Speeds:
    """The speeds of a model's result in this configuration, which says the machine too."""
    for result in results:
        if result.configuration.key == configuration.key:
            return speeds_of(result)
    return Speeds()
