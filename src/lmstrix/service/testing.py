"""`test`: which models in which order, what each may cost, and every result saved the moment it is known."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lmstrix.core.context.machine_belief import MachineBelief
from lmstrix.core.context.report import (
    ContextReport,
    ContextTestOptions,
    Guardrail,
    ModelTest,
    Step,
    Subject,
)
from lmstrix.core.context.tester import ContextTester
from lmstrix.core.context.verdict import Outcome
from lmstrix.core.memory.decode_work import decode_work_bytes
from lmstrix.core.memory.host import read_host_memory
from lmstrix.core.registry.places import place_of
from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.ground.awake import keep_awake
from lmstrix.ground.context_lengths import UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.headroom import NO_HEADROOM
from lmstrix.ground.loads import LoadConfig, Provenance
from lmstrix.ground.tasks import to_its_end
from lmstrix.ground.types import Deadlines
from lmstrix.ground.wording import parameter
from lmstrix.loaders.lmstudio_log import LogEnd
from lmstrix.service import continuing, forecasting
from lmstrix.service.budgets import server_budget
from lmstrix.service.due_tests import (
    ContextTestRequest,
    ceiling_of,
    due_models,
    is_due,
    leaving_free,
    model_shape,
    models_asked_for,
    named_model,
    nothing_left_free,
    tested_already,
)
from lmstrix.service.finding import find_model, known_models
from lmstrix.service.guardrails import explain, guardrail_limit, refused_outcome
from lmstrix.service.making_room import make_room
from lmstrix.service.model_folders import check_served, folder_to_serve
from lmstrix.service.old_failures import announce_cap, present_conditions, refuse, settle_unfinished, standing_failure
from lmstrix.service.told_costs import load_cost
from lmstrix.service.unheeded import check_settings, without_effect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.context.eta import RunForecast, TimeLeft
    from lmstrix.core.history import Conditions, History
    from lmstrix.core.memory.budgets import Budget
    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.core.registry.known_failure import KnownFailure
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.choices import TestOrder
    from lmstrix.service.workspace import Workspace

SILENCE_S = 180.0  # without progress: a prefill of a long prompt may take many minutes, but it advances


class ContextTesting:
    """One `test`: of one model, or with `model` None of all that have no result yet, or that another run left over.

    `run` tests; interrupted, `so_far` tells what was found until then. `on_model` hears each model, its place, and how
    many there are.
    """

    def __init__(
        self,
        workspace: Workspace,
        model: str | None,
        options: ContextTestRequest,
        *,
        order: TestOrder = "risk",
        on_step: Callable[[Step], None] | None = None,
        on_model: Callable[[ModelRecord, int, int], None] | None = None,
        on_time_left: Callable[[TimeLeft], None] | None = None,
    ) -> None:
        options.check_for(model)
        self._workspace = workspace
        self._model = model
        self._options = options.within(workspace.settings.threshold)
        self._order = order
        self._on_step = on_step
        self._on_model = on_model
        self._on_time_left = on_time_left
        self._forecast: RunForecast | None = None
        self._tested: list[ModelTest] = []
        self._skipped: list[ModelTest] = []

    def so_far(self) -> ContextReport:
        """The models whose test has ended; each result is in the registry already."""
        return ContextReport(models=(*self._tested, *self._skipped))

    async def run(self) -> ContextReport:
        """Test them one after the other, until one ends in a way that all others would. Cancelled, it cleans up."""
        workspace, options = self._workspace, self._options
        registry = await known_models(workspace)
        path = (await find_model(workspace, registry, self._model)).path if self._model is not None else None
        named = named_model(registry, path)
        if named is not None:
            check_settings(named, self._options.load)
        asked_for = models_asked_for(registry, options.tag)
        lock = f"lmstrix test of {self._model or ('all models' if options.tag is None else options.tag)}"
        with workspace.open_history() as history, history.journal.tester_lock(lock), keep_awake():
            connection = await workspace.connect(models_dir=folder_to_serve(workspace, [named] if named else asked_for))
            if named is not None:
                check_served(workspace, connection, named)
            backend = connection.backend
            # Which models are due depends on the server: what was measured on another one says nothing here.
            registry.place = place_of(backend.server)
            chosen, self._skipped = (
                ([named], []) if named else due_models(workspace, registry, options, self._order, connection=connection)
            )
            settle_unfinished(history.journal, workspace.notify)
            alone = await _make_room(workspace, backend, all_models=options.unload_others)
            run_id = continuing.begin_run(history.journal, chosen, all_models=self._model is None)
            run = _TestRun(
                workspace,
                history,
                options,
                backend,
                self._step,
                run_id=run_id,
                alone=alone,
                only_due=self._model is None and not options.resume,
            )
            # Reading the headers of all models takes a moment, which is only worth it where somebody watches.
            if self._on_time_left is not None:
                budget = await server_budget(backend, workspace.headroom)
                self._forecast = self._forecast_of(registry, history, chosen, backend, budget.available_bytes)
            ending = continuing.INTERRUPTED
            try:
                if await self._test(run, chosen):
                    ending = continuing.DONE
            finally:
                await to_its_end(run.close(ending))
        return self.so_far()

    async def _test(self, run: _TestRun, chosen: Sequence[ModelRecord]) -> bool:
        """Returns whether all had their turn."""
        for place, record in enumerate(chosen, 1):
            if self._on_model is not None:
                self._on_model(record, place, len(chosen))
            if self._forecast is not None:
                self._forecast.begin(record.path)
            tested = await run.test(record)
            self._tested.append(tested)
            if self._forecast is not None and tested.outcome is not None:
                self._forecast.end(forecasting.speeds_of(tested.outcome.result))
            if tested.outcome is not None and Outcome(tested.outcome.result.outcome).ends_the_run:
                return False
        return True

    def _step(self, step: Step) -> None:
        if self._forecast is not None and self._on_time_left is not None:
            now_s = time.perf_counter()
            self._forecast.note(step, now_s)
            self._on_time_left(self._forecast.left(now_s))
        if self._on_step is not None:
            self._on_step(step)

    def _forecast_of(
        self,
        registry: ModelRegistry,
        history: History,
        chosen: Sequence[ModelRecord],
        backend: ModelBackend,
        budget_bytes: int | None,
    ) -> RunForecast:
        options = self._options
        place = place_of(backend.server)
        configuration = Configuration(engine=place.engine, host=place.host, load=options.load)
        tests = {
            record.path: forecasting.expected_test(
                record,
                model_shape(self._workspace, record),
                configuration,
                ceiling=ceiling_of(record, options)[0],
                budget_bytes=budget_bytes,
                recall=not options.fast and options.prompt is None,
            )
            for record in chosen
        }
        return forecasting.forecast(registry, history.journal, tests, configuration)


class _TestRun:
    """One `test` command on one backend."""

    def __init__(
        self,
        workspace: Workspace,
        history: History,
        options: ContextTestRequest,
        backend: ModelBackend,
        on_step: Callable[[Step], None] | None,
        *,
        run_id: str,
        alone: bool,
        only_due: bool,
    ) -> None:
        self._workspace = workspace
        self._history = history
        self._options = options
        self._backend = backend
        self._place = place_of(backend.server)
        self._local = self._place.is_here
        self._alone = alone
        self._only_due = only_due
        self._run_id = run_id
        stored = history.beliefs.load(self._place.host, self._place.engine)
        self._learned = MachineBelief.from_json(stored) if stored else None
        self._provenance = _provenance(backend, self._place.host, options.load)
        self._tester = ContextTester(
            backend,
            history.journal,
            run_id=self._run_id,
            provenance=self._provenance,
            on_step=on_step,
            on_result=self._save,
            # What another machine's memory does is not seen from here.
            read_memory=_free_bytes if self._local else None,
            read_conditions=self._conditions,
            watch_log=self._log_end if self._local and self._place.engine == "lmstudio" else None,
        )

    async def test(self, record: ModelRecord) -> ModelTest:
        """Test one model, and keep what it teaches for the next."""
        if ignored := without_effect(record, self._options.load):
            return ModelTest(record=record, skipped=ignored)
        shape = model_shape(self._workspace, record)
        guardrail = await self._guardrail(record, shape)
        subject = await self._subject(record, shape, guardrail)
        if subject is None:
            return ModelTest(record=record, skipped=nothing_left_free(self._workspace.headroom))
        # Asked again, now that the guardrail is known: where it still stands, the same would be found once more.
        if self._only_due and not is_due(record, subject.ceiling, self._options):
            return ModelTest(record=record, skipped=tested_already())
        if guardrail is not None and not guardrail.limit:
            refused = refused_outcome(subject, guardrail, self._provenance)
            self._save(subject, refused.result)
            return ModelTest(record=record, outcome=refused)
        # On disk before the first load: a test that takes the machine down leaves a trace of what it tried.
        self._workspace.store.update(lambda registry: registry.mark_testing(record.path))
        options = self._options
        outcome = await self._tester.test(
            subject,
            ContextTestOptions(
                precision=options.precision,
                context_length=options.context_length,
                recall=not options.fast,
                question=options.prompt,
                load=replace(options.load, context_length=None),
                deadlines=Deadlines(
                    load_s=options.load_timeout_s or Deadlines().load_s,
                    silence_s=SILENCE_S,
                    total_s=self._workspace.settings.timeout_s,
                ),
                budget_s=options.budget_s,
                seed=_seed(record.path),
            ),
            learned=self._learned,
        )
        outcome = replace(outcome, guardrail=guardrail)
        self._history.journal.finish_model(self._run_id, record.path, outcome.result.outcome)
        self._learned = outcome.learned
        # Beside other models less memory was free: that says nothing about the machine.
        if self._alone:
            self._history.beliefs.save(self._place.host, self._place.engine, outcome.learned.to_json())
        stored = self._workspace.registry().get(record.path) or record
        return ModelTest(record=stored, outcome=outcome)

    async def close(self, ending: str) -> None:
        """Say in the journal that the run is over, and leave nothing of ours loaded."""
        # First, as it waits for nobody: unloading may be cut short where the server is what hangs.
        with suppress(LMStrixError):
            self._history.journal.end_run(self._run_id, ending)
        with suppress(LMStrixError):
            for stray in await self._tester.unload_strays():
                self._workspace.notify(f"unloaded {stray}, left over from this run")

    def _save(self, subject: Subject, result: ContextResult) -> None:
        # Earlier results go only once there is a new length to put in their place.
        reset = self._options.reset and result.loadable_context_length is not None

        def change(registry: ModelRegistry) -> None:
            (registry.replace_result if reset else registry.record_outcome)(subject.path, result)

        self._workspace.store.update(change)

    async def _guardrail(self, record: ModelRecord, shape: ModelShape) -> Guardrail | None:
        """The server's guardrail, where it stands in the way of what is to be tried."""
        options = self._options
        # A length that the user names is tried as it is, and the refusal reported.
        if options.ignore_guardrail or options.context_length is not None:
            return None
        ceiling, _ = ceiling_of(record, options)
        limit = await guardrail_limit(self._backend, record.model_key, options.load, ceiling)
        if limit is None:
            return None
        allowed = (await self._allowed_budget()).whole
        if allowed.server_headroom_bytes and (without := allowed.limit(shape, ceiling, options.load)) > limit:
            guardrail = Guardrail(limit=limit, predicted_limit=without, headroom_bytes=allowed.server_headroom_bytes)
        else:
            budget = await server_budget(self._backend, NO_HEADROOM)
            predicted = None if budget.available_bytes is None else budget.limit(shape, ceiling, options.load)
            guardrail = Guardrail(limit=limit, predicted_limit=predicted)
        if limit:
            self._workspace.notify(f"{record.model_key}: {explain(guardrail, self._place.engine)}")
        return guardrail

    async def _allowed_budget(self) -> Budget:
        """What the server lets models take: a limit of its own counts, unless its guardrail is to be ignored."""
        return await server_budget(self._backend, NO_HEADROOM, with_own_limit=not self._options.ignore_guardrail)

    async def _subject(self, record: ModelRecord, shape: ModelShape, guardrail: Guardrail | None) -> Subject | None:
        """What is to be tested; None where no context would leave free what is to stay free."""
        options = self._options
        configuration = Configuration(engine=self._place.engine, host=self._place.host, load=options.load)
        ceiling, ceiling_by = ceiling_of(record, options)
        if guardrail is not None:
            ceiling, ceiling_by = guardrail.limit, guardrail.ends_by
        allowed = await self._allowed_budget()
        ceiling, ceiling_by = leaving_free((ceiling, ceiling_by), shape, allowed, options, self._workspace.headroom)
        if not ceiling and ceiling_by == "headroom" and (guardrail is None or guardrail.limit):
            return None
        # The search reckons with all the memory there is, which is what it learns about; only where it ends is limited.
        budget = await server_budget(self._backend, NO_HEADROOM)
        known_bad = await self._known_bad(record, configuration, ceiling)
        ceiling = max(ceiling, 1)
        cost = await load_cost(
            self._backend, budget, shape, model_key=record.model_key, load=options.load, ceiling=ceiling
        )
        return Subject(
            model_key=record.model_key,
            path=record.path,
            declared=record.max_context_length or UNKNOWN_DECLARED_TOKENS,
            ceiling=ceiling,
            ceiling_by=ceiling_by,
            cost=cost.of,
            budget_bytes=budget.for_loading(shape, options.load),
            configuration=configuration,
            decode_work=lambda length: decode_work_bytes(shape, length),
            touched_later=lambda length: budget.touched_later(shape, length, options.load),
            budget_told=budget.limited_by is not None,
            weights_bytes=None if shape.approximate else shape.file_bytes,
            approximate=cost.approximate,
            lazy=record.is_mlx,  # MLX takes the KV cache as the prompt grows: a load alone proves nothing
            runtime=await self._backend.runtime(record.format) if record.is_mlx else None,
            architecture=record.architecture,
            known_bad=known_bad,
            alone=self._alone,
        )

    def _log_end(self) -> Callable[[], str]:
        home = self._workspace.paths.lmstudio_home or self._workspace.paths.home
        return LogEnd(home).added

    async def _conditions(self) -> Conditions:
        return await present_conditions(self._backend, self._workspace.paths.lmstudio_home)

    async def _known_bad(self, record: ModelRecord, configuration: Configuration, ceiling: int) -> KnownFailure | None:
        """What an earlier failure forbids. Raises UsageError where the user names such a length."""
        if self._options.force or self._options.reset:
            return None
        failure = standing_failure(
            self._history.journal, record, configuration.key, await self._conditions(), ceiling=ceiling
        )
        if failure is not None and self._options.context_length is not None:
            raise refuse(record, failure)
        if failure is not None:
            announce_cap(record, failure, self._workspace.notify)
        return failure


async def _make_room(workspace: Workspace, backend: ModelBackend, *, all_models: bool) -> bool:
    """Unload what is ours; what others have loaded goes only when asked for. Returns whether the test is alone."""
    beside = await make_room(workspace, backend, all_models=all_models)
    if beside:
        names = ", ".join(model.instance_id for model in beside)
        workspace.notify(
            f"{names} {'is' if len(beside) == 1 else 'are'} loaded too: this tests what fits beside"
            f" ({parameter('unload_others', True)} makes room)"
        )
    return not beside


def _free_bytes() -> int:
    """What models may take now. The search ignores differences too small to be true: mapped weights count as free."""
    return read_host_memory().model_budget_bytes


def _provenance(backend: ModelBackend, machine: str, load: LoadConfig) -> Provenance:
    server = backend.server
    return Provenance(
        engine=server.engine,
        engine_version=server.version,
        address=server.address,
        host=machine,
        load=load,
    )


def _seed(path: str) -> int:
    """The same numbers for the same model each time, so that a repeated test asks the same questions."""
    import zlib

    return zlib.crc32(path.encode())
