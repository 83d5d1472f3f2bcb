# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands about models: find, list, load and predict them, and save or forget their test results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.kinds import AllModels, Flag, ListColumns, Seconds, Tokens, TokensOrRatio
from lmstrix.cli.options import LoadOptions
from lmstrix.cli.signatures import Only
from lmstrix.ground.choices import SortKey
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.ranges import COUNT, IDLE, SLOTS

if TYPE_CHECKING:
    from lmstrix.service.scanning import Forget

ListShape = Literal["table", "id", "path", "json", "csv", "yaml", "summary"]


def scan(
    cli: CommandLine,
    /,
    *,
    failed: bool = False,
    reset: bool = False,
    yes: bool = False,
    refresh: bool = False,
    update: bool = True,
    models_dir: str | None = None,
) -> None:
    """Find models on disk and on the server; merge them into the registry.

    Test results are kept: a model that is gone is marked missing, one that moved is recognized.

    Args:
        failed: Forget the results of models whose test failed.
        reset: Forget all test results; needs --yes.
        yes: Do it without asking.
        refresh: Read every file header again, also of files that did not change.
        update: Write the registry (--no-update only shows what would change).
        models_dir: Look here instead of in LM Studio's models directory; each model found is remembered with it.
    """
    from lmstrix.reports.models import show_scan

    # What only shows what would be forgotten need not be confirmed.
    if reset and update and not yes:
        raise UsageError("scan --reset forgets every test result; add --yes to do it")
    directory = Path(models_dir).expanduser() if models_dir else None
    forget: Forget = "all" if reset else "failed" if failed else None
    report = cli.run(cli.service.scan(models_dir=directory, refresh=refresh, write=update, forget=forget))
    show_scan(cli.console, report)


def list_(
    cli: CommandLine,
    /,
    filter: str | None = None,  # noqa: A002 - the word is FILTER
    *,
    show: ListShape = "table",
    sort: SortKey = "id",
    reverse: bool = False,
    columns: ListColumns = (),
    header: bool = True,
    max_width: Annotated[int | None, COUNT] = None,
    compat: bool = False,
) -> None:
    """List the models of the registry, with the results of the server in use. Reads only; never touches a server.

    With --verbose all results follow: of other engines, hosts and settings too.

    FILTER is a part of a name, or conditions separated by commas: "status:tested,size:>5GB,ctx:16k-64k,name:*coder*".
    There are name, status, size, ctx (tested), dtx (declared), loads, recalls, eff (ctx per dtx), date, ended, type,
    format, quant, bits, params, arch, publisher, tag and alias; "a|b" is either, "!a" is not, "-" is unknown.

    Args:
        filter: Show only these models, such as qwen or "status:tested,size:>5GB,date:>2026-01-01".
        show: What to print: table, id, path, json, csv, yaml or summary.
        sort: id, name, ctx (tested), dtx (declared), size, status, date, eff or smart (what a test takes).
        reverse: Sort the other way round.
        columns: Show these columns, in the table or as csv: model, size, declared, tested, loads, recalls, ended-by,
            status, tested-on, name, path, type, quant, params, arch, publisher, can, eff, prefill, decode, where, tags.
        header: The head line of the table (--no-header leaves it out).
        max_width: Width of the table instead of the terminal's.
        compat: Print JSON as LMStrix 1 did: a list of models with id, name, status (lmstrix list --compat | jq -r
            '.[] | select(.status=="tested") | .name').
    """
    from lmstrix.reports.listing import show_listing

    listing = cli.service.list_models(wanted=filter, sort=sort, reverse=reverse)
    if compat:
        from lmstrix.earlier.models import Model

        cli.console.bare_json([Model.of(record).to_dict() for record in listing.records])
        return
    show_listing(cli.console, listing, show=show, columns=columns, header=header, max_width=max_width)


def load(
    cli: CommandLine,
    /,
    model: str,
    *,
    context_length: Annotated[Tokens | None, Flag("ctx")] = None,
    ttl: Annotated[Seconds | None, IDLE] = None,
    identifier: str | None = None,
    load: LoadOptions,
) -> None:
    """Load a model at its tested context (or --ctx) and keep it loaded.

    Args:
        model: The model to load.
        context_length: Context length; without it the tested one.
        ttl: Unload after this long without use.
        identifier: Name of the instance; without it one is made.
    """
    from lmstrix.reports.models import show_loaded
    from lmstrix.reports.progress import ProgressLine

    # The same words each time: they are how the line knows that the step is still the same.
    doing = f"loading {model}"
    with ProgressLine(cli.console) as progress:
        progress.begin(doing)
        loaded = cli.run(
            cli.service.load(
                model,
                load.config(context_length),
                ttl_s=ttl,
                instance_id=identifier,
                on_progress=lambda ratio: progress.update(doing, ratio),
            )
        )
    show_loaded(cli.console, [loaded], command="load")


def unload(cli: CommandLine, /, instance: str | None = None, *, all_models: AllModels = False) -> None:
    """Unload a loaded model.

    Args:
        instance: The identifier that lmstrix ps shows, or the key of a model loaded once.
        all_models: Unload everything that is loaded.
    """
    from lmstrix.reports.models import show_unloaded

    if (instance is None) == (not all_models):
        raise UsageError("unload needs an INSTANCE or --all (lmstrix ps shows them)")
    unloaded = cli.run(cli.service.unload(instance))
    show_unloaded(cli.console, unloaded)


def ps(cli: CommandLine, /) -> None:
    """Show the loaded models with their effective context lengths, and what they take where the server tells.

    ON GPU are the layers on graphics cards, the output being one, or their share where the server tells no more. With
    --verbose, how each was loaded.
    """
    from lmstrix.reports.models import show_loaded

    loaded = cli.run(cli.service.ps())
    memory = cli.run(cli.service.memory_of(loaded)) if loaded else {}
    loads = cli.run(cli.service.loads_of(loaded)) if loaded else {}
    show_loaded(cli.console, loaded, command="ps", memory=memory, loads=loads)


def estimate(
    cli: CommandLine,
    /,
    model: str,
    *,
    context_length: Annotated[Tokens | None, Flag("ctx")] = None,
    load: Annotated[
        LoadOptions, Only("k_cache_type", "v_cache_type", "flash_attention", "parallel_slots", "batch_size")
    ],
) -> None:
    """Predict what a load takes and which context fits, by arithmetic. Loads nothing.

    Args:
        model: The model.
        context_length: Context length; without it the declared one.
    """
    from lmstrix.reports.models import show_estimate

    report = cli.run(cli.service.estimate(model, load.config(context_length)))
    show_estimate(cli.console, report)


def save(
    cli: CommandLine,
    /,
    model: str | None = None,
    *,
    limit: TokensOrRatio | None = None,
    flash: bool | None = None,
    parallel_slots: Annotated[int, SLOTS] = 1,
    dry_run: bool = False,
    restore: bool = False,
    check: bool | None = None,
) -> None:
    """Write tested contexts into LM Studio's own per-model defaults, so that the app loads what works.

    Only what was measured on LM Studio on this machine is written. MLX models are then loaded once, if LM Studio runs
    and has nothing loaded: some of its MLX runtimes load another context than the saved one.

    Args:
        model: Only this model; without it all tested ones.
        limit: Write no more than this many tokens, or this percentage of the tested context.
        flash: Also switch flash attention on (--no-flash: off).
        parallel_slots: Write the context measured with so many slots, and that number.
        dry_run: Show what would change; write nothing.
        restore: Put back what was there before the first save.
        check: Load each model once and fail if it gets another context (--no-check: load none).
    """
    from lmstrix.reports.models import other_context, show_saved

    saved = cli.service.save(
        model,
        limit=limit,
        flash_attention=flash,
        parallel_slots=parallel_slots,
        dry_run=dry_run,
        restore=restore,
    )
    if not dry_run and not restore and check is not False:
        saved = cli.run(cli.service.check_saved(saved, check))
    show_saved(cli.console, saved, dry_run=dry_run, restore=restore)
    # One model that cannot be saved keeps no other from it; the command fails in the end, and says of which.
    problems = [item.problem for item in saved if item.problem]
    if check:
        problems += [words for item in saved if (words := other_context(item)) is not None]
    if problems:
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise LMStrixError(f"{problems[0]}{others}")


def reset(cli: CommandLine, /, model: str | None = None, *, all_models: AllModels = False, yes: bool = False) -> None:
    """Forget test results. What a model is stays known; only what was measured goes.

    Args:
        model: The model.
        all_models: Forget the results of all models; needs --yes.
        yes: Do it without asking.
    """
    from lmstrix.reports.models import show_reset

    if (model is None) == (not all_models):
        raise UsageError("reset needs a MODEL or --all")
    # Results of many hours are gone with one word; a question would hang a script, so a second word it is.
    if all_models and not yes:
        raise UsageError("reset --all forgets every test result; add --yes to do it")
    forgotten = cli.service.reset(model)
    show_reset(cli.console, forgotten)
