# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands about the registry itself: its tags and notes, what it holds, its copies."""

from __future__ import annotations

from pathlib import Path

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.kinds import Seconds
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.units import counted

_SPAN_S = 30 * 86_400.0


def stats(cli: CommandLine, /, *, span: Seconds = _SPAN_S) -> None:
    """Show what the registry holds, and how its models were used: calls, failures, waiting times and speed.

    Usage is of the last 30 days, beside that of the 30 days before. TREND says where the median speed went, and how
    many calls measured it in either span; "too few" where one of them has less than five.

    Args:
        span: Another length of time, such as 7d: this week against the one before.
    """
    from lmstrix.reports.registry_state import show_stats

    show_stats(cli.console, cli.service.registry_files.stats(span_s=span))


def validate(cli: CommandLine, /, *, fix: bool = False) -> None:
    """Check every record of the registry: fields and results that cannot be read, duplicates, files that are gone.

    What this version does not know is kept. With --fix a model whose file is gone is marked missing, and a result that
    cannot be read is laid aside in its record; a backup is made first.

    Args:
        fix: Mend what can be mended.
    """
    from lmstrix.reports.registry_state import show_findings

    findings = cli.service.registry_files.validate(fix=fix)
    show_findings(cli.console, findings)
    left = [finding for finding in findings if not finding.is_note and not finding.fixed]
    if left:
        remedy = "" if fix else "; lmstrix registry validate --fix mends what can be mended"
        raise LMStrixError(f"{left[0].path}: {left[0].detail} ({counted(len(left), 'problem')} in all){remedy}")


def tags(cli: CommandLine, /, model: str | None = None) -> None:
    """Show models with their tags: those you gave, and those that follow from what a model is.

    Models that share a tag are a group: list, test, bench and batch --models take tag:NAME for all of them.

    Args:
        model: Only this model, or the models with this tag.
    """
    from lmstrix.reports.registry import show_tagged

    show_tagged(cli.console, cli.service.registry_files.tagged_models(model))


def tag(cli: CommandLine, /, model: str, *tags: str) -> None:
    """Give a model tags.

    Args:
        model: The model.
        tags: Words such as work or fast.
    """
    from lmstrix.reports.registry import show_tagged

    if not tags:
        raise UsageError("registry tag needs a TAG after the model")
    show_tagged(cli.console, [cli.service.registry_files.tag(model, tags)])


def untag(cli: CommandLine, /, model: str, *tags: str) -> None:
    """Take tags from a model; without a tag all that you gave it.

    Args:
        model: The model.
        tags: The tags to take.
    """
    from lmstrix.reports.registry import show_tagged

    show_tagged(cli.console, [cli.service.registry_files.untag(model, tags)])


def note(cli: CommandLine, /, model: str, text: str) -> None:
    """Note something of a model; an empty text takes the note away.

    Args:
        model: The model.
        text: What to note.
    """
    from lmstrix.reports.registry import show_tagged

    show_tagged(cli.console, [cli.service.registry_files.note(model, text)])


def add(cli: CommandLine, /, path: str) -> None:
    """Take in models outside the models folder. They stay where they are.

    Args:
        path: A model's file or folder, or a folder of models (publisher/repo/file.gguf).
    """
    from lmstrix.reports.registry import show_added

    show_added(cli.console, cli.service.registry_files.add(Path(path)))


def remove(cli: CommandLine, /, model: str) -> None:
    """Take a model out of the registry, with its test results. Its files stay, and a scan that finds them adds it anew.

    Args:
        model: The model.
    """
    from lmstrix.reports.registry import show_removed

    show_removed(cli.console, [cli.service.registry_files.remove(model)], command="remove")


def prune(cli: CommandLine, /, *, older_than: Seconds = 0.0, yes: bool = False) -> None:
    """Take out the models that are missing, with their test results. Without --yes only shows them.

    Args:
        older_than: Only those missing for longer, such as 30d.
        yes: Do it.
    """
    from lmstrix.reports.registry import show_removed

    removed = cli.service.registry_files.prune(older_than_s=older_than, dry_run=not yes)
    show_removed(cli.console, removed, command="prune", written=yes)


def export(cli: CommandLine, /, file: str, filter: str | None = None) -> None:  # noqa: A002 - the word is FILTER
    """Write the registry into a file, which lmstrix registry import takes in elsewhere.

    Args:
        file: The file to write; it is replaced where it exists.
        filter: Only these models, as lmstrix list filters them.
    """
    from lmstrix.reports.registry import show_exported

    place = Path(file).expanduser()
    show_exported(cli.console, place, cli.service.registry_files.export(place, filter))


def import_(cli: CommandLine, /, file: str) -> None:
    """Take in a registry that was exported, also by the earlier LMStrix. As merge does: newer results win.

    Args:
        file: The file.
    """
    from lmstrix.reports.registry import show_merged

    report = cli.service.registry_files.merge(Path(file).expanduser())
    show_merged(cli.console, report, command="import", written=True)


def merge(cli: CommandLine, /, file: str, *, dry_run: bool = False) -> None:
    """Take in what another registry knows more or newer, each engine, machine and load setting for itself.

    Where both have a result and they differ, the newer one is kept, and both are shown. A model whose files are not on
    this machine is taken in as missing.

    Args:
        file: The other registry's lmstrix.json, or the home it lies in.
        dry_run: Show what would change; write nothing.
    """
    from lmstrix.reports.registry import show_merged

    report = cli.service.registry_files.merge(Path(file).expanduser(), dry_run=dry_run)
    show_merged(cli.console, report, command="merge", written=not dry_run)


def backup(cli: CommandLine, /, file: str | None = None) -> None:
    """Copy the registry into a file. The last states before a change are kept without being asked for.

    Args:
        file: The file to write; without it one in the LMStrix home, named by the time.
    """
    from lmstrix.reports.registry import show_backup

    show_backup(cli.console, cli.service.registry_files.backup(Path(file).expanduser() if file else None))


def restore(cli: CommandLine, /, name: str | None = None, *, yes: bool = False) -> None:
    """Put a backup in the place of the registry, which is copied aside first. Without NAME list the backups there are.

    Args:
        name: The name of a backup, or a file.
        yes: Do it without asking.
    """
    from lmstrix.reports.registry import show_backups, show_restored

    if name is None:
        show_backups(cli.console, cli.service.registry_files.restorable())
        return
    if not yes:
        raise UsageError("registry restore replaces all that is known of all models; add --yes to do it")
    show_restored(cli.console, cli.service.registry_files.restore(name))
