# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""The commands about context tests: the one that finds the real limit of a model, and how it came to be."""

from __future__ import annotations

from typing import Annotated

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.kinds import AllModels, Flag, Seconds, Tokens
from lmstrix.cli.options import LoadOptions, prompt_text
from lmstrix.ground.choices import TAG_PREFIX, Precision, TestOrder
from lmstrix.ground.errors import LMStrixError, UsageError


def run(
    cli: CommandLine,
    /,
    model: str | None = None,
    *,
    all_models: AllModels = False,
    threshold: Tokens | None = None,
    context_length: Annotated[Tokens | None, Flag("ctx")] = None,
    precision: Precision = "balanced",
    fast: bool = False,
    force: bool = False,
    reset: bool = False,
    resume: Annotated[bool, Flag("continue")] = False,
    dry_run: bool = False,
    prompt: str | None = None,
    file_prompt: str | None = None,
    template: str | None = None,
    sort: TestOrder = "risk",
    load_timeout: Seconds | None = None,
    budget: Seconds | None = None,
    load: LoadOptions,
    unload_others: bool = False,
    ignore_guardrail: bool = False,
) -> None:
    """Find the real context limit of a model: load, fill for real, and ask what it remembers.

    Args:
        model: The model to test (its key, path, or an unambiguous beginning), or tag:NAME for all with this tag whose
            limit is not known yet.
        all_models: Test every model whose limit is not known yet, smallest risk first.
        threshold: Never try more than this many tokens.
        context_length: Test exactly this context length instead of searching.
        precision: How near to the edge: safe, balanced, tight or exhaustive (more failing loads for a smaller gap).
        fast: Skip the recall questions; a filled context that answers anything passes, and no fall in speed is seen.
        force: Try sizes at or above one that failed before; with --all, test again what has a result.
        reset: Start afresh; the old result is replaced only when the new one exists.
        resume: Go on with the models that an interrupted test of all models left over (also --resume).
        dry_run: Show what would be tried, with predicted memory and risk; load nothing. A running server is asked what
            models may take.
        prompt: Ask this instead of the recall questions; any answer passes.
        file_prompt: The same, read from a file.
        template: With --file-prompt FILE.toml: the prompt of this name in it.
        sort: Order of --all.
        load_timeout: Limit of one load.
        budget: Time for one model's test (for each, with --all); what was filled by then is kept.
        parallel_slots: Slots to load with (the result is stored for this number).
        unload_others: First unload the models that others have loaded.
        ignore_guardrail: Do not ask the server's guardrail what it lets through; each load itself decides.
    """
    from lmstrix.reports.tests import ContextTestProgressLine, show_test_plan, show_test_report
    from lmstrix.service.due_tests import ContextTestRequest

    # What is to be continued alone is the test of all models.
    every_model = all_models or (resume and model is None)
    if (model is None) == (not every_model):
        raise UsageError("test needs a MODEL or --all (lmstrix list shows the models)")
    tag = model.removeprefix(TAG_PREFIX) if model is not None and model.startswith(TAG_PREFIX) else None
    model = model if tag is None else None
    options = ContextTestRequest(
        tag=tag,
        threshold=threshold,
        context_length=context_length,
        precision=precision,
        fast=fast,
        force=force,
        reset=reset,
        prompt=prompt_text(prompt, file_prompt, template),
        load_timeout_s=load_timeout,
        budget_s=budget,
        load=load.config(),
        unload_others=unload_others,
        resume=resume,
        ignore_guardrail=ignore_guardrail,
    )
    if dry_run:
        # Only a scan asks a server for its models, so the registry must know some.
        cli.know_models()
        planned = cli.run(cli.service.plan_tests(model, options, order=sort))
        show_test_plan(cli.console, planned)
        return
    interrupted = False
    with ContextTestProgressLine(cli.console) as progress:
        testing = cli.service.test(
            model,
            options,
            order=sort,
            on_step=progress.step,
            on_model=progress.model,
            on_time_left=progress.time_left if progress.live else None,
        )
        try:
            report = cli.run(testing.run())
        except KeyboardInterrupt:
            # What was found until now is in the registry; it is shown as well, and then the interrupt goes on.
            interrupted, report = True, testing.so_far()
    if report.models or not interrupted:
        show_test_report(cli.console, report)
    if interrupted:
        raise KeyboardInterrupt
    if report.failed:
        raise LMStrixError(report.failure_line)


def history(cli: CommandLine, /, model: str, *, all_runs: Annotated[bool, Flag("all")] = False) -> None:
    """Show every load, filling and prompt of a model's newest test.

    Args:
        model: The model.
        all_runs: Show those of all its tests, not of the newest alone.
    """
    from lmstrix.reports.history import show_test_history

    found = cli.service.test_history(model, all_runs=all_runs)
    show_test_history(cli.console, found.record, found.events)
