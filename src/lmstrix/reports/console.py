"""Results as text: model text, tables and JSON to stdout; notes, progress and statistics to stderr."""

from __future__ import annotations

import contextlib
import csv
import json as json_module
import os
import shutil
import sys
from collections.abc import Generator
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from lmstrix.ground.units import format_bytes, format_seconds, format_tokens
from lmstrix.reports.table import Column, clean, render, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from lmstrix.core.answers.batch import BatchProgress, BatchReport
    from lmstrix.core.answers.inference import Prepared
    from lmstrix.core.answers.recommend import Advice, Recommendation
    from lmstrix.core.answers.request import DryRun, Embedded
    from lmstrix.core.benchmark.compare import BenchComparison
    from lmstrix.core.benchmark.power_sources import SourceState
    from lmstrix.core.benchmark.records import BenchReport
    from lmstrix.core.context.report import ContextReport, PlannedTest
    from lmstrix.core.health import DoctorReport
    from lmstrix.core.history import BenchRun
    from lmstrix.core.history.calls import CallStatistics, LoggedCall
    from lmstrix.core.memory.estimate import EstimateReport
    from lmstrix.core.prompts.library import PromptLibrary, RenderedPrompt
    from lmstrix.core.prompts.lint import LintFinding
    from lmstrix.core.registry.defaults import SavedDefaults
    from lmstrix.core.registry.listing import Listing, ScanReport
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.results import ContextResult
    from lmstrix.ground.types import GenerationResult, LoadedModel, StreamEvent, ToolAnswered
    from lmstrix.reports.bench.terminal import BenchProgress
    from lmstrix.reports.tests import LiveProgress

_LIST_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=18),
    Column(title="SIZE", right=True, drop=4),
    Column(title="DECLARED", right=True, drop=1),
    Column(title="TESTED", right=True),
    Column(title="LOADS", right=True, drop=2),
    Column(title="RECALLS", right=True, drop=3),
    Column(title="STATUS"),
    Column(title="TESTED ON", drop=5),
)

_COUNTED_BY = {
    "model": "the loaded model",
    "tiktoken": "tiktoken's vocabulary, not the model's",
    "earlier prompts": "what earlier prompts to this model took",
    "bytes": "four bytes a token",
}


class Console:
    """Where results go. `json` prints every result as one JSON object with a schema name."""

    def __init__(self, *, json: bool = False, verbose: bool = False, quiet: bool = False, color: bool = True) -> None:
        self.json = json
        self.verbose = verbose
        self.quiet = quiet
        self._color = color and "NO_COLOR" not in os.environ

    # Channels

    def note(self, line: str) -> None:
        """A remark for the user, on stderr; not with --quiet."""
        if not self.quiet:
            sys.stderr.write(clean(line) + "\n")
            sys.stderr.flush()

    def text(self, text: str) -> None:
        """Model text, exactly, on stdout; control characters that could drive a terminal are shown as "?" there."""
        sys.stdout.write(_harmless(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()

    def result(self, schema: str, value: dict[str, Any]) -> None:
        """A result as JSON: {"schema": "lmstrix.<command>/1", …}."""
        ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        json_module.dump(
            {"schema": f"lmstrix.{schema}/1", **value}, sys.stdout, ensure_ascii=ascii_only, indent=2, default=_jsonable
        )
        sys.stdout.write("\n")

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        *,
        header: bool = True,
        max_width: int | None = None,
        stream: TextIO | None = None,
    ) -> None:
        """A table on stdout (or `stream`), as wide as the terminal, or as it wants to be when piped."""
        out = stream or sys.stdout
        if max_width is None and (out.isatty() or "COLUMNS" in os.environ):
            max_width = shutil.get_terminal_size().columns
        unicode = "utf" in (out.encoding or "").lower()
        out.write(
            render(
                columns,
                rows,
                max_width=max_width,
                header=header,
                ellipsis="…" if unicode else "..",
                bold=self._color and out.isatty(),
            )
        )

    # Commands

    def version(self, version: str) -> None:
        if self.json:
            self.result("version", {"version": version})
        else:
            sys.stdout.write(f"lmstrix {version}\n")

    def scan(self, report: ScanReport) -> None:
        changes = report.changes
        if self.json:
            self.result(
                "scan",
                {
                    "models": report.models,
                    "added": changes.added,
                    "changed": changes.changed,
                    "missing": changes.missing,
                    "restored": changes.restored,
                    "moved": [{"from": move.old_path, "to": move.new_path} for move in changes.moved],
                    "unchanged": changes.unchanged,
                    "forgotten": report.forgotten,
                    "problems": [{"path": p.path, "kind": p.kind, "detail": p.detail} for p in report.problems],
                    "sources": report.sources,
                    "written": report.written,
                },
            )
            return
        for problem in report.problems:
            self.note(f"{problem.path}: {problem.detail}")
        for word, paths in (("new", changes.added), ("gone", changes.missing), ("back", changes.restored)):
            for path in paths[:10] if not self.verbose else paths:
                self.note(f"{word}: {path}")
            if len(paths) > 10 and not self.verbose:
                self.note(f"{word}: … and {len(paths) - 10} more (--verbose shows all)")
        for move in changes.moved:
            self.note(f"moved: {move.old_path} -> {move.new_path}")
        counts = [
            f"{count} {word}"
            for word, count in (
                ("new", len(changes.added)),
                ("changed", len(changes.changed)),
                ("moved", len(changes.moved)),
                ("missing", len(changes.missing)),
                ("back", len(changes.restored)),
                ("unreadable", len(report.problems)),
                ("reset", len(report.forgotten)),
            )
            if count
        ]
        state = "" if report.written else " (registry unchanged)"
        sys.stdout.write(
            f"{report.models} models from {' and '.join(report.sources)}: {', '.join(counts) or 'no change'}{state}\n"
        )

    def listing(self, listing: Listing, *, show: str, header: bool, max_width: int | None) -> None:
        records = listing.records
        if self.json or show == "json":
            self.result("list", {"models": [record_json(record) for record in records]})
        elif show in ("id", "path"):
            lines = (record.model_key if show == "id" else record.path for record in records)
            sys.stdout.write("".join(f"{clean(line)}\n" for line in lines))
        elif show == "csv":
            rows = [record_json(record) for record in records]
            if rows:
                writer = csv.DictWriter(
                    sys.stdout,
                    [k for k, v in rows[0].items() if not isinstance(v, list)],
                    extrasaction="ignore",
                    lineterminator="\n",
                )
                writer.writeheader()
                writer.writerows(rows)
        elif not listing.total:
            self.note("no models yet: lmstrix scan finds them")
        else:
            self.table(_LIST_COLUMNS, [_list_row(r) for r in records], header=header, max_width=max_width)
            if not records:
                self.note(f"none of {listing.total} models matches")
            if self.verbose:
                self._recall_curves(records)

    def _recall_curves(self, records: Sequence[ModelRecord]) -> None:
        from lmstrix.reports.tests import recall_chart

        unicode = "utf" in (sys.stdout.encoding or "").lower()
        for record in records:
            for result in record.results:
                if len(result.recall_curve) > 1:
                    chart = recall_chart(result.recall_curve, unicode=unicode)
                    sys.stdout.write(f"{clean(record.model_key)} ({result.configuration.key})  {chart}\n")

    def loaded(self, models: Sequence[LoadedModel], *, command: str) -> None:
        if self.json:
            self.result(command, {"models": [_loaded_json(model) for model in models]})
            return
        if not models:
            self.note("nothing is loaded")
            return
        columns = (
            Column(title="INSTANCE", shrink=True, keep=18),
            Column(title="MODEL", shrink=True, keep=12),
            Column(title="CONTEXT", right=True),
            Column(title="DECLARED", right=True, drop=4),
            Column(title="SIZE", right=True, drop=3),
            Column(title="STATUS", drop=1),
            Column(title="TTL", right=True, drop=2),
        )
        rows = [
            (
                model.instance_id,
                model.model_key,
                format_tokens(model.context_length),
                format_tokens(model.max_context_length),
                format_bytes(model.size_bytes),
                model.status or "",
                format_seconds(model.ttl_s) if model.ttl_s else "-",
            )
            for model in models
        ]
        self.table(columns, rows)

    def unloaded(self, models: Sequence[LoadedModel]) -> None:
        if self.json:
            self.result("unload", {"models": [_loaded_json(model) for model in models]})
        for model in models:
            self.note(f"unloaded {model.instance_id}")
        if not models:
            self.note("nothing was loaded")

    def test_progress(self) -> LiveProgress:
        """Shows what a test does now; use as a context manager."""
        from lmstrix.reports.tests import LiveProgress

        return LiveProgress(self, live=not self.quiet and not self.verbose and sys.stderr.isatty())

    def test_report(self, report: ContextReport) -> None:
        from lmstrix.reports.tests import show_report

        show_report(self, report)

    def test_plan(self, planned: Sequence[PlannedTest]) -> None:
        from lmstrix.reports.tests import show_plan

        show_plan(self, planned)

    def bench_progress(self) -> BenchProgress:
        """Shows what a benchmark does now; use as a context manager."""
        from lmstrix.reports.bench.terminal import BenchProgress

        return BenchProgress(self, live=not self.quiet and not self.verbose and sys.stderr.isatty())

    def bench_report(self, report: BenchReport, index: Path) -> None:
        from lmstrix.reports.bench.terminal import show_bench

        show_bench(self, report, index)

    def bench_comparison(self, comparison: BenchComparison) -> None:
        from lmstrix.reports.bench.terminal import show_comparison

        show_comparison(self, comparison)

    def bench_history(self, runs: Sequence[BenchRun]) -> None:
        from lmstrix.reports.bench.terminal import show_history

        show_history(self, runs)

    def bench_format(self, report: BenchReport, *, format: str, out: Path | None) -> None:  # noqa: A002 - as the option
        from lmstrix.reports.bench.terminal import show_format

        show_format(self, report, format=format, out=out)

    def power(self, states: Sequence[SourceState], channels: Sequence[tuple[str, float | None]], span_s: float) -> None:
        from lmstrix.reports.bench.terminal import show_power

        show_power(self, states, channels, span_s)

    def estimate(self, report: EstimateReport) -> None:
        parts, server = report.breakdown, report.server_estimate
        if self.json:
            self.result(
                "estimate",
                {
                    "model_key": report.record.model_key,
                    "context_length": report.context_length,
                    "weights_bytes": parts.weights_bytes,
                    "kv_cache_bytes": parts.kv_cache_bytes,
                    "recurrent_state_bytes": parts.recurrent_state_bytes,
                    "compute_buffer_bytes": parts.compute_buffer_bytes,
                    "projector_bytes": parts.projector_bytes,
                    "runtime_overhead_bytes": parts.runtime_overhead_bytes,
                    "total_bytes": parts.total_bytes,
                    "kv_bytes_per_token": report.kv_bytes_per_token,
                    "budget_bytes": report.budget_bytes,
                    "fits": report.fits,
                    "predicted_limit": report.predicted_limit,
                    "approximate": parts.approximate,
                    "server": report.server_name,
                    "server_total_bytes": server.total_bytes if server else None,
                    "server_passes_guardrails": server.passes_guardrails if server else None,
                },
            )
            return
        guess = " (a guess: the file's header is not readable from here)" if parts.approximate else ""
        rows = [
            ("weights", format_bytes(parts.weights_bytes)),
            ("KV cache", f"{format_bytes(parts.kv_cache_bytes)}  ({format_bytes(report.kv_bytes_per_token)} a token)"),
            ("recurrent state", format_bytes(parts.recurrent_state_bytes)),
            ("compute buffer", format_bytes(parts.compute_buffer_bytes)),
            ("projector", format_bytes(parts.projector_bytes)),
            ("runtime", format_bytes(parts.runtime_overhead_bytes)),
            ("total", format_bytes(parts.total_bytes) + guess),
            ("available", f"{format_bytes(report.budget_bytes)}  ({'fits' if report.fits else 'does not fit'})"),
            ("longest that fits", f"{format_tokens(report.predicted_limit)} tokens"),
        ]
        if server is not None:
            verdict = "lets it through" if server.passes_guardrails else "would refuse it"
            rows.append(("server says", f"{format_bytes(server.total_bytes)}  ({report.server_name} {verdict})"))
        sys.stdout.write(f"{clean(report.record.model_key)} at {format_tokens(report.context_length)} tokens\n")
        shown = [row for row in rows if row[1] != "0 B"]
        width = max(len(name) for name, _ in shown)
        for name, value in shown:
            sys.stdout.write(f"  {name:<{width}}  {value}\n")

    def saved(self, saved: Sequence[SavedDefaults], *, dry_run: bool, restore: bool) -> None:
        if self.json:
            models = [_saved_json(item) for item in saved]
            self.result("save", {"models": models, "dry_run": dry_run, "restored": restore})
            return
        for item in saved:
            name = clean(item.record.model_key)
            if item.change is None:
                continue  # the command fails with it
            if restore:
                sys.stdout.write(f"{name}: {'would put back' if dry_run else 'put back'} {item.change.file}\n")
                continue
            changed = [
                f"{key}: {_shown(item.change.before.get(key))} -> {_shown(value)}"
                for key, value in item.change.after.items()
                if item.change.before.get(key) != value
            ]
            sys.stdout.write(f"{name}: {', '.join(changed) or 'already so'}\n")
        if not saved:
            self.note("nothing to put back" if restore else "no model has a tested context yet: lmstrix test --all")
        elif dry_run:
            self.note("nothing was written (--dry-run)")

    def reset(self, records: Sequence[ModelRecord]) -> None:
        if self.json:
            self.result("reset", {"models": [record.model_key for record in records]})
        for record in records:
            self.note(f"forgot the results of {record.model_key}")
        if not records:
            self.note("there were no results to forget")

    def engine(self, *, running: bool, address: str | None, pid: int | None, models_dir: Path | None) -> None:
        if self.json:
            folder = str(models_dir) if models_dir else None
            self.result("engine", {"running": running, "address": address, "pid": pid, "models_dir": folder})
        elif running:
            sys.stdout.write(f"the engine runs at {address} (process {pid}, models from {models_dir})\n")
        else:
            sys.stdout.write("the engine is not running\n")
        sys.stdout.flush()

    def doctor(self, report: DoctorReport) -> None:
        if self.json:
            self.result(
                "doctor",
                {
                    "ok": report.ok,
                    "checks": [
                        {"name": c.name, "state": c.state, "found": c.found, "remedy": c.remedy} for c in report.checks
                    ],
                },
            )
            return
        width = max(len(check.name) for check in report.checks)
        for check in report.checks:
            sys.stdout.write(f"{check.state:<8}{check.name:<{width}}  {clean(check.found)}\n")
            if check.remedy:
                sys.stdout.write(f"{'':{8 + width}}  -> {clean(check.remedy)}\n")

    # Answers

    def answer(self, events: Iterable[StreamEvent], *, live: bool) -> GenerationResult:
        """Consume a stream; with `live`, print the text as it comes (reasoning dimmed, on stderr)."""
        from lmstrix.ground.types import Finished, TextDelta, ToolAnswered

        dim = self._color and sys.stderr.isatty()
        thinking = False
        wrote = ""
        try:
            for event in events:
                if isinstance(event, Finished):
                    return event.result
                if isinstance(event, ToolAnswered):
                    self._tool_answered(event)
                if not live or not isinstance(event, TextDelta):
                    continue
                if event.reasoning or event.structural:
                    if not self.quiet:
                        sys.stderr.write(("\x1b[2m" if dim and not thinking else "") + _harmless(event.text))
                        sys.stderr.flush()
                        thinking = True
                else:
                    if thinking:
                        sys.stderr.write("\x1b[0m\n" if dim else "\n")
                        thinking = False
                    self.text(event.text)
                    wrote = event.text or wrote
        finally:
            if isinstance(events, Generator):
                events.close()  # now, not when it is collected: it cancels, or unloads what it loaded, on the server
            if thinking:
                sys.stderr.write("\x1b[0m\n" if dim else "\n")
            if wrote and not wrote.endswith("\n"):
                sys.stdout.write("\n")
        raise AssertionError("a stream ends with Finished or raises")

    def answer_line(self, schema: str, result: GenerationResult) -> None:
        """An answer as one line of JSON."""
        line = {"schema": f"lmstrix.{schema}/1", **_answer_json(result)}
        sys.stdout.write(json_module.dumps(line, default=_jsonable) + "\n")
        sys.stdout.flush()

    def _tool_answered(self, event: ToolAnswered) -> None:
        arguments = ", ".join(f"{name}={_shown(value)}" for name, value in (event.call.arguments or {}).items())
        self.note(f"{event.call.name}({arguments}) -> {shorten(' '.join(event.text.split()), 100)}")

    def fits(self, prepared: Prepared) -> None:
        """With --verbose, before anything is sent: the size of the prompt against the context."""
        if self.verbose:
            self.note(f"fits: {prepared.prompt_tokens:,} of {prepared.instance.context_length:,}")

    def rehearsal(self, rehearsal: DryRun) -> None:
        """The prompt of a dry run on stdout, its size on stderr."""
        count, record = rehearsal.count, rehearsal.record
        if self.json:
            self.result(
                "infer",
                {
                    "dry_run": True,
                    "prompt": rehearsal.prompt,
                    "system_prompt": rehearsal.system_prompt,
                    "prompt_tokens": count.tokens,
                    "count_exact": count.exact,
                    "counted_by": count.method,
                    "model_key": record.model_key if record else None,
                    "context_length": rehearsal.context_length,
                },
            )
            return
        if rehearsal.system_prompt:
            self.note(f"system prompt: {rehearsal.system_prompt}")
        self.text(rehearsal.prompt + ("\n" if sys.stdout.isatty() else ""))
        room = f" of {rehearsal.context_length:,}" if rehearsal.context_length else ""
        about = "" if count.exact else "about "
        self.note(f"{about}{count.tokens:,}{room} tokens, counted by {_COUNTED_BY[count.method]}; nothing was sent")

    def answered(self, result: GenerationResult, *, streamed: bool) -> None:
        """The answer (unless streamed already), what cut it short, and its statistics with --verbose."""
        stats = result.stats
        if self.json:
            self.result("infer", _answer_json(result))
        elif not streamed:
            self.text(result.text if result.text.endswith("\n") else result.text + "\n")
        if stats.stop_reason == "contextLengthReached":
            self.note(f"the answer is cut off: the context of {format_tokens(result.context_length)} tokens is full")
        elif stats.stop_reason == "maxPredictedTokensReached":
            self.note(f"the answer is cut off at {format_tokens(stats.completion_tokens)} tokens (--out-ctx)")
        if self.verbose:
            self._statistics(result)

    def _statistics(self, result: GenerationResult) -> None:
        stats = result.stats
        speed = stats.decode_tokens_per_second
        self.note(f"model            {result.model_key} ({result.instance_id})")
        self.note(f"context          {format_tokens(result.context_length)} tokens")
        self.note(
            f"tokens           {format_tokens(stats.prompt_tokens)} prompt"
            f" + {format_tokens(stats.completion_tokens)} predicted = {format_tokens(stats.total_tokens)}"
        )
        self.note(f"first token      {format_seconds(stats.ttft_s)}")
        self.note(f"total            {format_seconds(stats.total_s)}")
        self.note(f"speed            {'-' if speed is None else f'{speed:.1f}'} tokens/s")
        self.note(f"stop reason      {stats.stop_reason or '-'}")

    def logged_calls(self, entries: Sequence[LoggedCall]) -> None:
        if self.json:
            self.result("logs", {"calls": [_call_json(entry) for entry in entries]})
            return
        if not entries:
            self.note("no calls in the log")
        for entry in entries:
            call = entry.call
            when = entry.called_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
            tokens = f"{format_tokens(call.prompt_tokens)} + {format_tokens(call.completion_tokens)} tokens"
            state = tokens if call.outcome == "ok" else call.outcome
            sys.stdout.write(f"{when}  {clean(call.model_key)}  {state}\n")
            for mark, text in ((">", call.prompt), ("<", call.answer)):
                if text:
                    first = text if self.verbose else shorten(" ".join(text.split()), 100)
                    sys.stdout.write(f"  {mark} {_harmless(first)}\n")

    def call_statistics(self, statistics: Sequence[CallStatistics]) -> None:
        if self.json:
            self.result("logs", {"models": [_statistics_json(item) for item in statistics]})
            return
        columns = (
            Column(title="MODEL", shrink=True, keep=12),
            Column(title="CALLS", right=True),
            Column(title="FAILED", right=True, drop=1),
            Column(title="PROMPT", right=True, drop=4),
            Column(title="ANSWERED", right=True, drop=3),
            Column(title="FIRST TOKEN", right=True, drop=5),
            Column(title="TOKENS/S", right=True),
            Column(title="LAST", drop=2),
        )
        rows = [
            (
                item.model_key,
                str(item.calls),
                str(item.failures),
                format_tokens(item.prompt_tokens),
                format_tokens(item.completion_tokens),
                format_seconds(item.mean_ttft_s),
                "-" if item.mean_decode_tokens_per_second is None else f"{item.mean_decode_tokens_per_second:.1f}",
                item.last_called_at.date().isoformat(),
            )
            for item in statistics
        ]
        if rows:
            self.table(columns, rows)
        else:
            self.note("no calls in the log")

    def batch(self, report: BatchReport) -> None:
        if self.json:
            items = [
                {
                    "file": done.item.file,
                    "model_key": done.item.model_key,
                    "prompt": done.item.prompt,
                    "input": done.item.input,
                    "outcome": done.outcome,
                    "error": done.error,
                    "prompt_tokens": done.prompt_tokens,
                    "completion_tokens": done.completion_tokens,
                    "total_s": done.total_s,
                }
                for done in report.outcomes
            ]
            self.result("batch", {"out": report.out, "elapsed_s": report.elapsed_s, "items": items})
            return
        counts = [f"{report.count('ok')} answered"]
        for word, count in (("skipped", report.count("skipped")), ("failed", len(report.failed))):
            if count:
                counts.append(f"{count} {word}")
        sys.stdout.write(f"{', '.join(counts)} in {format_seconds(report.elapsed_s)}: {clean(report.out)}\n")

    def embedded(self, found: Embedded) -> None:
        if self.json:
            vectors = [list(vector) for vector in found.vectors]
            self.result("embed", {"model_key": found.model_key, "dimensions": found.dimensions, "embeddings": vectors})
            return
        for vector in found.vectors:
            sys.stdout.write(json_module.dumps(vector) + "\n")

    def advice(self, advice: Advice, *, top: int) -> None:
        if self.json:
            self.result("recommend", {"models": [_advice_json(item) for item in advice.ranked[:top]]})
            return
        columns = (
            Column(title="MODEL", shrink=True, keep=12),
            Column(title="SCORE", right=True),
            Column(title="MEMORY", right=True),
            Column(title="TOKENS/S", right=True),
            Column(title="WHY"),
        )
        rows = [
            (
                item.candidate.model_key,
                f"{item.score:.2f}",
                format_bytes(item.candidate.memory_bytes),
                f"{'' if item.speed_measured else '~'}{item.tokens_per_second:.0f}",
                ", ".join(item.reasons),
            )
            for item in advice.ranked[:top]
        ]
        if rows:
            self.table(columns, rows)
        if self.verbose:
            for key, why in advice.ruled_out:
                self.note(f"{key} {why}")

    def prompt_list(self, library: PromptLibrary) -> None:
        templates = library.templates.values()
        if self.json:
            prompts = [
                {
                    "name": template.name,
                    "description": template.description,
                    "placeholders": template.placeholders,
                    "defaults": sorted(template.defaults),
                    "version": template.version,
                    "tags": template.tags,
                }
                for template in templates
            ]
            self.result("prompts", {"file": library.source, "prompts": prompts})
            return
        columns = (Column(title="PROMPT"), Column(title="TAKES", shrink=True), Column(title="DESCRIPTION", shrink=True))
        rows = [(t.name, ", ".join(t.placeholders), t.description) for t in templates]
        if rows:
            self.table(columns, rows)
        else:
            self.note(f"{library.source} has no prompts")

    def rendered(self, rendered: RenderedPrompt) -> None:
        if self.json:
            self.result(
                "prompts",
                {
                    "prompt": rendered.text,
                    "system_prompt": rendered.system_prompt,
                    "used": rendered.used,
                    "unused": rendered.unused,
                },
            )
            return
        if rendered.system_prompt:
            self.note(f"system prompt: {rendered.system_prompt}")
        for name in rendered.unused:
            self.note(f"{name} is given, but the prompt does not ask for it")
        self.text(rendered.text + ("\n" if sys.stdout.isatty() else ""))

    def lint(self, findings: Sequence[LintFinding]) -> None:
        if self.json:
            fields = [
                {"severity": f.severity, "code": f.code, "prompt": f.prompt, "message": f.message} for f in findings
            ]
            self.result("prompts", {"findings": fields})
            return
        for finding in findings:
            sys.stdout.write(clean(f"{finding.severity:<8}{finding.prompt}: {finding.message}") + "\n")
        if not findings:
            self.note("nothing to remark")

    # Progress

    @contextlib.contextmanager
    def batch_progress(self) -> Iterator[Callable[[BatchProgress], None]]:
        """How far a batch is, with the time it will still take: a bar on a terminal, a line an item otherwise."""

        def line(progress: BatchProgress) -> None:
            done = progress.latest
            left = "" if progress.remaining_s is None else f", {format_seconds(progress.remaining_s)} left"
            outcome = done.outcome if done.error is None else f"{done.outcome}: {done.error}"
            if self.verbose or done.failed:
                self.note(f"{progress.done}/{progress.total}  {done.item.file}  {outcome}{left}")

        if self.quiet or self.verbose or not sys.stderr.isatty():
            yield line
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )
        console = RichConsole(stderr=True, no_color=not self._color)
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("asking", total=None, left="")

            def show(progress: BatchProgress) -> None:
                left = "" if progress.remaining_s is None else f"{format_seconds(progress.remaining_s)} left"
                name = shorten(clean(progress.latest.item.model_key), 40)
                bar.update(task, description=name, completed=progress.done, total=progress.total, left=left)
                line(progress)

            yield show

    @contextlib.contextmanager
    def load_progress(self, label: str) -> Iterator[Callable[[float], None] | None]:
        """A progress bar for one load, on a terminal only."""
        if self.quiet or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        console = RichConsole(stderr=True, no_color=not self._color)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(f"loading {clean(label)}", total=1.0)
            yield lambda ratio: progress.update(task, completed=ratio)


def record_json(record: ModelRecord) -> dict[str, Any]:
    """A registry record as `list --json` shows it."""
    best = record.best_result
    return {
        "model_key": record.model_key,
        "path": record.path,
        "kind": record.kind,
        "format": record.format,
        "architecture": record.architecture,
        "params": record.params,
        "quantization": record.quantization,
        "size_bytes": record.size_bytes,
        "max_context_length": record.max_context_length,
        "tested_context_length": record.tested_context_length,
        "loadable_context_length": best.loadable_context_length if best else None,
        "effective_context_length": best.effective_context_length if best else None,
        "status": record.test_status,
        "missing": record.is_missing,
        "outcome": best.outcome if best else None,
        "error": best.error if best else None,
        "tested_at": record.tested_at.isoformat() if record.tested_at else None,
        "vision": record.vision,
        "trained_for_tool_use": record.trained_for_tool_use,
        "recall_curve": [list(point) for point in best.recall_curve] if best else [],
    }


def _status(record: ModelRecord, best: ContextResult | None) -> str:
    """How things stand with a model; one that loads and answers nonsense is not simply "completed"."""
    if record.is_missing:
        return "missing"
    if record.kind == "embedding":
        return "embedding"
    nonsense = best is not None and best.outcome in ("garbage answer", "empty answer")
    return best.outcome if best is not None and nonsense and record.test_status == "completed" else record.test_status


def _list_row(record: ModelRecord) -> tuple[str, ...]:
    best = record.best_result
    return (
        record.model_key,
        format_bytes(record.size_bytes) if record.size_bytes else "-",
        format_tokens(record.max_context_length),
        format_tokens(record.tested_context_length),
        format_tokens(best.loadable_context_length if best else None),
        format_tokens(best.effective_context_length if best else None),
        _status(record, best),
        record.tested_at.date().isoformat() if record.tested_at else "-",
    )


def _loaded_json(model: LoadedModel) -> dict[str, Any]:
    return {
        "instance_id": model.instance_id,
        "model_key": model.model_key,
        "kind": model.kind,
        "path": model.path,
        "context_length": model.context_length,
        "max_context_length": model.max_context_length,
        "size_bytes": model.size_bytes,
        "ttl_s": model.ttl_s,
        "last_used_at": model.last_used_at,
        "status": model.status,
        "queued": model.queued,
    }


def _answer_json(result: GenerationResult) -> dict[str, Any]:
    stats = result.stats
    return {
        "model_key": result.model_key,
        "instance_id": result.instance_id,
        "context_length": result.context_length,
        "text": result.text,
        "reasoning": result.reasoning or None,
        "stop_reason": stats.stop_reason,
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.completion_tokens,
        "total_tokens": stats.total_tokens,
        "cached_tokens": stats.cached_tokens,
        "ttft_s": stats.ttft_s,
        "total_s": stats.total_s,
        "decode_tokens_per_second": stats.decode_tokens_per_second,
    }


def _saved_json(item: SavedDefaults) -> dict[str, Any]:
    change = item.change
    return {
        "model_key": item.record.model_key,
        "file": str(change.file) if change else None,
        "before": dict(change.before) if change else None,
        "after": dict(change.after) if change else None,
        "written": item.written,
        "problem": item.problem,
    }


def _advice_json(item: Recommendation) -> dict[str, Any]:
    candidate = item.candidate
    return {
        "model_key": candidate.model_key,
        "score": round(item.score, 4),
        "memory_bytes": candidate.memory_bytes,
        "tested_context_length": candidate.tested_context_length,
        "max_context_length": candidate.declared_context_length,
        "tokens_per_second": item.tokens_per_second,
        "speed_measured": item.speed_measured,
        "reasons": item.reasons,
    }


def _shown(value: object) -> str:
    return "unset" if value is None else json_module.dumps(value)


def _call_json(entry: LoggedCall) -> dict[str, Any]:
    call = entry.call
    return {
        "called_at": entry.called_at,
        "model_key": call.model_key,
        "outcome": call.outcome,
        "prompt": call.prompt,
        "answer": call.answer,
        "stop_reason": call.stop_reason,
        "context_length": call.context_length,
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "ttft_s": call.ttft_s,
        "total_s": call.total_s,
        "decode_tokens_per_second": call.decode_tokens_per_second,
    }


def _statistics_json(item: CallStatistics) -> dict[str, Any]:
    return {
        "model_key": item.model_key,
        "path": item.model_path,
        "calls": item.calls,
        "failures": item.failures,
        "prompt_tokens": item.prompt_tokens,
        "completion_tokens": item.completion_tokens,
        "mean_ttft_s": item.mean_ttft_s,
        "mean_decode_tokens_per_second": item.mean_decode_tokens_per_second,
        "last_called_at": item.last_called_at,
    }


def _harmless(text: str) -> str:
    """Text for a terminal: line breaks and tabs stay, other control characters become "?"."""
    if text.isprintable():
        return text
    return "".join(char if char in "\n\t" or char.isprintable() else clean(char) for char in text)


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in a result")
