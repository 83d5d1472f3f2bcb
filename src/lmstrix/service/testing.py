"""`test`: which models in which order, what each may cost, and every result saved the moment it is known."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmstrix.core.answers.load_policy import OWN_PREFIX
from lmstrix.core.context.machine_belief import MachineBelief
from lmstrix.core.context.report import ContextReport, ContextTestOptions, ModelTest, PlannedTest, Step, Subject
from lmstrix.core.context.search import ContextSearch
from lmstrix.core.context.tester import INSTANCE_PREFIX, ContextTester
from lmstrix.core.context.verdict import Outcome
from lmstrix.core.history import History
from lmstrix.core.memory.host import read_host_memory
from lmstrix.core.memory.prediction import breakdown, shape_of
from lmstrix.core.registry.results import Configuration, ContextResult
from lmstrix.ground.addresses import is_local
from lmstrix.ground.context_lengths import ALIGNMENT_TOKENS, UNKNOWN_DECLARED_TOKENS
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.tasks import to_its_end
from lmstrix.ground.types import DEFAULT_LOAD, Deadlines, LoadConfig, Provenance
from lmstrix.loaders.gguf import read_header
from lmstrix.service.budgets import Budget, assumed_runtime, host_budget, server_budget
from lmstrix.service.finding import known_models
from lmstrix.service.told_costs import load_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.memory.shape import ModelShape
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.choices import Precision, TestOrder
    from lmstrix.service.workspace import Workspace

SILENCE_S = 180.0  # without progress: a prefill of a long prompt may take many minutes, but it advances


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextTestRequest:
    """What `lmstrix test` can be told; None leaves a default."""

    threshold: int | None = None
    context_length: int | None = None
    precision: Precision = "balanced"
    fast: bool = False
    force: bool = False
    reset: bool = False
    prompt: str | None = None
    load_timeout_s: float | None = None
    budget_s: float | None = None
    load: LoadConfig = DEFAULT_LOAD
    unload_others: bool = False


class ContextTesting:
    """One `test`: of one model, or with `model` None of all that have no result yet.

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
    ) -> None:
        self._workspace = workspace
        self._model = model
        self._options = options
        self._order = order
        self._on_step = on_step
        self._on_model = on_model
        self._tested: list[ModelTest] = []
        self._skipped: list[ModelTest] = []

    def so_far(self) -> ContextReport:
        """The models whose test has ended; each result is in the registry already."""
        return ContextReport(models=(*self._tested, *self._skipped))

    async def run(self) -> ContextReport:
        """Test them one after the other, until one ends in a way that all others would. Cancelled, it cleans up."""
        workspace, options = self._workspace, self._options
        registry = await known_models(workspace)
        chosen, self._skipped = _choose(workspace, registry, self._model, options, self._order)
        with History(workspace.paths.history_file) as history:
            if history.set_aside is not None:
                workspace.notify(f"lmstrix.db was damaged and is set aside as {history.set_aside}")
            with history.journal.tester_lock(f"lmstrix test {self._model or '--all'}"):
                backend = (await workspace.connect()).backend
                _settle_unfinished(workspace, history)
                alone = await _make_room(workspace, backend, all_models=options.unload_others)
                run = _TestRun(workspace, history, options, backend, self._on_step, alone=alone)
                try:
                    await self._test(run, chosen)
                finally:
                    await to_its_end(run.close())
        return self.so_far()

    async def _test(self, run: _TestRun, chosen: Sequence[ModelRecord]) -> None:
        for place, record in enumerate(chosen, 1):
            if self._on_model is not None:
                self._on_model(record, place, len(chosen))
            tested = await run.test(record)
            self._tested.append(tested)
            if tested.outcome is not None and Outcome(tested.outcome.result.outcome).ends_the_run:
                return


def plan(
    workspace: Workspace, model: str | None, options: ContextTestRequest, *, order: TestOrder = "risk"
) -> list[PlannedTest]:
    """What `test` would try, by arithmetic alone: no server is asked and nothing is loaded."""
    chosen, _ = _choose(workspace, workspace.registry(), model, options, order)
    budget = host_budget(assumed_runtime(workspace.settings.server))
    return [_planned(record, _shape_of(workspace, record), budget, options) for record in chosen]


def _planned(record: ModelRecord, shape: ModelShape, budget: Budget, options: ContextTestRequest) -> PlannedTest:
    ceiling = _ceiling(record, options)
    available = budget.for_loading(shape, options.load)
    assert available is not None

    def cost(length: int) -> int:
        return budget.cost(shape, length, options.load)

    search = ContextSearch(
        cost=cost,
        declared=ceiling,
        budget_bytes=available,
        architecture=record.architecture or "",
        precision=options.precision,
        approximate=shape.approximate,
    )
    first = ceiling if options.context_length is not None else search.next_load()
    return PlannedTest(
        record=record,
        ceiling=ceiling,
        predicted_bytes=cost(ceiling),
        budget_bytes=available,
        predicted_limit=budget.limit(shape, ceiling, options.load),
        approximate=shape.approximate,
        first_load=first,
        first_load_bytes=cost(first) if first is not None else None,
        first_load_risk_ratio=search.risk(first) if first is not None else None,
    )


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
        alone: bool,
    ) -> None:
        self._workspace = workspace
        self._history = history
        self._options = options
        self._backend = backend
        self._engine = backend.server.engine
        self._machine = socket.gethostname()
        self._local = is_local(backend.server.address)
        self._alone = alone
        self._run_id = history.journal.begin_run("test")
        stored = history.beliefs.load(self._machine, self._engine)
        self._learned = MachineBelief.from_json(stored) if stored else None
        self._tester = ContextTester(
            backend,
            history.journal,
            run_id=self._run_id,
            provenance=_provenance(backend, self._machine, options.load),
            on_step=on_step,
            on_result=self._save,
            # What another machine's memory does is not seen from here.
            read_memory=_free_bytes if self._local else None,
        )

    async def test(self, record: ModelRecord) -> ModelTest:
        """Test one model, and keep what it teaches for the next."""
        subject = await self._subject(record)
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
        self._history.journal.finish_model(self._run_id, record.path, outcome.result.outcome)
        self._learned = outcome.learned
        # Beside other models less memory was free: that says nothing about the machine.
        if self._alone:
            self._history.beliefs.save(self._machine, self._engine, outcome.learned.to_json())
        stored = self._workspace.store.load().get(record.path) or record
        return ModelTest(record=stored, outcome=outcome)

    async def close(self) -> None:
        """Leave nothing of ours loaded, and say in the journal that the run is over."""
        with suppress(LMStrixError):
            for stray in await self._tester.unload_strays():
                self._workspace.notify(f"unloaded {stray}, left over from this run")
        with suppress(LMStrixError):
            self._history.journal.end_run(self._run_id, "done")

    def _save(self, subject: Subject, result: ContextResult) -> None:
        # Earlier results go only once there is a new one that says something.
        reset = self._options.reset and result.conclusive

        def change(registry: ModelRegistry) -> None:
            (registry.replace_result if reset else registry.record_outcome)(subject.path, result)

        self._workspace.store.update(change)

    async def _subject(self, record: ModelRecord) -> Subject:
        options = self._options
        configuration = Configuration(engine=self._engine, load=options.load)
        shape = _shape_of(self._workspace, record)
        ceiling = _ceiling(record, options)
        # A length that the user names is tried as it is, and the refusal reported.
        if options.context_length is None:
            guardrail = await _guardrail_limit(self._backend, record.model_key, options.load, ceiling)
            if guardrail is not None:
                self._workspace.notify(f"{record.model_key}: the server's guardrail lets {guardrail:,} tokens through")
                ceiling = min(ceiling, guardrail)
        known_bad = None
        if not options.force and not options.reset:
            known_bad = self._history.journal.known_bad(record.path, configuration.key)
        if options.context_length is not None and known_bad is not None and options.context_length >= known_bad:
            raise UsageError(f"{record.model_key} failed at {known_bad:,} tokens before; --force tries again")
        budget = await server_budget(self._backend)
        ceiling = max(ceiling, 1)
        cost = await load_cost(
            self._backend, budget, shape, model_key=record.model_key, load=options.load, ceiling=ceiling
        )
        return Subject(
            model_key=record.model_key,
            path=record.path,
            declared=record.max_context_length or UNKNOWN_DECLARED_TOKENS,
            ceiling=ceiling,
            cost=cost.of,
            budget_bytes=budget.for_loading(shape, options.load),
            configuration=configuration,
            approximate=cost.approximate,
            lazy=record.format != "gguf",  # MLX takes the KV cache as the prompt grows: a load alone proves nothing
            architecture=record.architecture,
            known_bad=known_bad,
            alone=self._alone,
        )


def _settle_unfinished(workspace: Workspace, history: History) -> None:
    """Hold a size against its model where a killed run began it and did not end it."""
    for intent in history.journal.settle_unfinished():
        workspace.notify(
            f"an earlier test ended while it tried {intent.context_length:,} tokens of {intent.model_path}; "
            "that size is avoided from now on (--force tries it again)"
        )


async def _make_room(workspace: Workspace, backend: ModelBackend, *, all_models: bool) -> bool:
    """Unload what is ours: what a killed run left (no other tester runs, the lock says), and idle answerers.

    What others have loaded goes only when asked for. Returns whether nothing is loaded beside the test.
    """
    for loaded in await backend.list_loaded():
        stray = loaded.instance_id.startswith(INSTANCE_PREFIX)
        idle = loaded.instance_id.startswith(OWN_PREFIX) and loaded.status == "idle" and not loaded.queued
        if stray or idle or all_models:
            await backend.unload(loaded.instance_id, kind=loaded.kind)
        if stray:
            workspace.notify(f"unloaded {loaded.instance_id}, left over from an interrupted test")
    beside = await backend.list_loaded()
    if beside:
        names = ", ".join(model.instance_id for model in beside)
        workspace.notify(
            f"{names} {'is' if len(beside) == 1 else 'are'} loaded too: this tests what fits beside"
            " (--unload-others makes room)"
        )
    return not beside


def _choose(
    workspace: Workspace, registry: ModelRegistry, model: str | None, options: ContextTestRequest, order: TestOrder
) -> tuple[list[ModelRecord], list[ModelTest]]:
    """The models to test, in order, and those passed over with the reason."""
    # Below one step of a context nothing is measured: such a result would only stand in the way of a true one.
    if options.threshold is not None and options.threshold < ALIGNMENT_TOKENS:
        raise UsageError(
            f"--threshold {options.threshold:,} leaves no context to test; give {ALIGNMENT_TOKENS} tokens or more"
        )
    if model is not None:
        record = registry.find(model)
        if record.kind == "embedding":
            raise UsageError(f"{record.model_key} is an embedding model; there is no context limit to test")
        return [record], []
    chosen, skipped = [], []
    for record in registry:
        reason = None
        if record.kind == "embedding":
            reason = "embedding model"
        elif record.is_missing:
            reason = "missing"
        elif record.test_status == "completed" and not (options.force or options.reset or options.context_length):
            reason = "tested already (--force tests again)"
        if reason is None:
            chosen.append(record)
        else:
            skipped.append(ModelTest(record=record, skipped=reason))
    keys: dict[TestOrder, Callable[[ModelRecord], object]] = {
        "id": lambda r: r.model_key,
        "size": lambda r: r.size_bytes or 0,
        "ctx": lambda r: r.max_context_length or 0,
        "risk": lambda r: breakdown(_shape_of(workspace, r), _ceiling(r, options), options.load).total_bytes,
    }
    chosen.sort(key=keys[order])  # type: ignore[arg-type]  # each key gives values of one comparable type
    return chosen, skipped


def _shape_of(workspace: Workspace, record: ModelRecord) -> ModelShape:
    return shape_of(workspace.models_dir / record.file, record, read_header)


def _ceiling(record: ModelRecord, options: ContextTestRequest) -> int:
    declared = record.max_context_length or UNKNOWN_DECLARED_TOKENS
    if options.context_length is not None:
        if options.context_length > declared:
            raise UsageError(
                f"{record.model_key} declares {declared:,} tokens; --ctx {options.context_length:,} is beyond that"
            )
        return options.context_length
    return min(declared, options.threshold or declared)


async def _guardrail_limit(backend: ModelBackend, model_key: str, load: LoadConfig, ceiling: int) -> int | None:
    """The longest context the server's own guardrail lets through, when that is below `ceiling`; None when it is not.

    Asking costs milliseconds and loads nothing; a load beyond it would be refused. None also where the server gives
    no estimate.
    """

    async def passes(length: int) -> bool:
        return (await backend.estimate(model_key, replace(load, context_length=length))).passes_guardrails

    try:
        if await passes(ceiling):
            return None
        good, bad = 0, -(-ceiling // ALIGNMENT_TOKENS)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if await passes(middle * ALIGNMENT_TOKENS) else (good, middle)
    except LMStrixError:
        return None
    return good * ALIGNMENT_TOKENS or None


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
