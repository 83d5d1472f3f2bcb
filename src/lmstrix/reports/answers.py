"""Answers on the terminal: the stream as it comes, the finished answer, dry runs, batches, vectors and advice."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmstrix.core.answers.code_blocks import code_blocks
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.units import counted, format_bytes, format_seconds, format_tokens
from lmstrix.reports.json_form import json_form, value_text
from lmstrix.reports.progress import ProgressLine
from lmstrix.reports.table import Column, clean, harmless, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lmstrix.core.answers.batch import BatchOutcome, BatchProgress, BatchReport
    from lmstrix.core.answers.inference import Prepared
    from lmstrix.core.answers.recommend import Advice, Recommendation
    from lmstrix.core.answers.request import DryRun, Embedded
    from lmstrix.ground.choices import CodeBlock
    from lmstrix.ground.types import GenerationResult, StreamEvent, TextDelta, ToolAnswered
    from lmstrix.reports.answer_progress import AnswerProgressLine
    from lmstrix.reports.console import Console
    from lmstrix.reports.markdown import MarkdownText

_COUNTED_BY = {
    "model": "the loaded model",
    "tiktoken": "tiktoken's vocabulary, not the model's",
    "earlier prompts": "what earlier prompts to this model took",
    "bytes": "four bytes a token",
}
_TRUNCATED_BY = {
    "max tokens": "cut off by --max-tokens",
    "context full": "cut off by a full context",
    "server limit": "cut off by the server",
    "stopped": "stopped on the server",
}
_SERVER_FIGURES = ("server_ttft_s", "server_total_s", "server_prefill_tokens_per_second")
_ADVICE_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="SCORE", right=True),
    Column(title="MEMORY", right=True),
    Column(title="TOKENS/S", right=True),
    Column(title="WHY"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """How the text of an answer is shown: its `markdown` rendered or as it is, its `reasoning` or not."""

    markdown: bool = False
    reasoning: bool = True


def show_stream(
    console: Console,
    events: Iterable[StreamEvent],
    *,
    live: bool,
    ended: Callable[[GenerationResult], None],
    line: AnswerProgressLine | None = None,
    form: AnswerForm | None = None,
) -> GenerationResult:
    """Consume a stream; with `live`, print the text as it comes. Reasoning goes to stderr, dimmed.

    `line` tells what is done until there is text to show.

    `ended` is called with the result while the stream is still open: leaving it may unload a model, and neither a
    server that hangs then nor an interrupt may cost an answer that is there.
    """
    from lmstrix.ground.types import Finished, TextDelta, ToolAnswered, ToolCallEvent

    form = form or AnswerForm(reasoning=live)
    text = _LiveText(console, markdown=form.markdown and live)
    try:
        for event in events:
            if isinstance(event, Finished):
                if line is not None:
                    line.end()
                text.end()
                ended(event.result)
                return event.result
            if isinstance(event, ToolCallEvent) and sys.stdout.isatty():
                text.end()  # what is then said of the call, or asked, begins a line of its own
            elif isinstance(event, ToolAnswered):
                _show_tool_answer(console, event)
            elif isinstance(event, TextDelta) and (form.reasoning if _is_thought(event) else live):
                if line is not None:
                    line.end()
                text.write(event.text, reasoning=_is_thought(event))
            elif line is not None:
                line.show(event)
    finally:
        if isinstance(events, Generator):
            events.close()  # now, not when it is collected: it cancels, or unloads what it loaded, on the server
        text.end()
    # Reached only if a backend breaks its promise; a result made up here would hide that.
    raise AssertionError("a stream ends with Finished or raises")


def _is_thought(delta: TextDelta) -> bool:
    return delta.reasoning or delta.structural


class _LiveText:
    """An answer being printed: text to stdout, reasoning to stderr, each begun on a line of its own."""

    def __init__(self, console: Console, *, markdown: bool) -> None:
        self._console = console
        self._markdown = _markdown_text(console) if markdown else None
        self._dim = console.color and sys.stderr.isatty()
        self._thinking = False
        self._last = ""

    def write(self, text: str, *, reasoning: bool) -> None:
        if not reasoning:
            self._end_thinking()
            if self._markdown is not None:
                self._markdown.write(text)
                return
            self._console.text(text)
            self._last = text or self._last
        elif not self._console.quiet:
            sys.stderr.write(("\x1b[2m" if self._dim and not self._thinking else "") + harmless(text))
            sys.stderr.flush()
            self._thinking = True

    def end(self) -> None:
        self._end_thinking()
        if self._markdown is not None:
            self._markdown.end()
        # A model seldom ends with a line break; without one the shell's prompt would stand in the answer's last line.
        if self._last and not self._last.endswith("\n"):
            self._last = "\n"
            sys.stdout.write("\n")

    def _end_thinking(self) -> None:
        if self._thinking:
            sys.stderr.write("\x1b[0m\n" if self._dim else "\n")
            self._thinking = False


def _markdown_text(console: Console) -> MarkdownText:
    from lmstrix.reports.markdown import MarkdownText  # and with it Rich, only where it is asked for

    return MarkdownText(console)


def _show_tool_answer(console: Console, event: ToolAnswered) -> None:
    arguments = ", ".join(f"{name}={value_text(value)}" for name, value in (event.call.arguments or {}).items())
    console.note(f"{event.call.name}({arguments}) -> {shorten(' '.join(event.text.split()), 100)}")


def show_fit(console: Console, prepared: Prepared) -> None:
    """With --verbose, before anything is sent: the size of the prompt against the context."""
    if console.verbose:
        images = _without_images(prepared.images)
        console.note(f"fits: {prepared.prompt_tokens:,} of {prepared.instance.context_length:,}{images}")


def show_dry_run(console: Console, dry_run: DryRun) -> None:
    """The prompt of a dry run on stdout, its size on stderr."""
    count, record = dry_run.count, dry_run.record
    if console.json:
        value = {
            "dry_run": True,
            "prompt": dry_run.prompt,
            "system_prompt": dry_run.system_prompt,
            "prompt_tokens": count.tokens,
            "count_exact": count.exact and not dry_run.images,
            "counted_by": count.method,
            "images_not_counted": dry_run.images,
            "model_key": record.model_key if record else None,
            "context_length": dry_run.context_length,
            "fits": dry_run.fits,
            "not_counted": dry_run.not_counted,
        }
        console.result("infer", value)
        return
    if dry_run.system_prompt:
        console.note(f"system prompt: {dry_run.system_prompt}")
    # Over a pipe the prompt is byte for byte what would be sent; on a terminal it must not run into the next prompt.
    console.text(dry_run.prompt + ("\n" if sys.stdout.isatty() else ""))
    room = f" of {dry_run.context_length:,}" if dry_run.context_length else ""
    about, how = ("", "counted") if count.exact else ("about ", "estimated")
    how += f" by {_COUNTED_BY[count.method]}{_without_images(dry_run.images)}"
    console.note(f"{about}{count.tokens:,}{room} tokens, {how}; nothing was sent")
    if dry_run.not_counted is not None:
        console.note(f"not counted exactly: {dry_run.not_counted}")


def _without_images(count: int) -> str:
    return f", without the tokens of {counted(count, 'image')}" if count else ""


def show_answer(
    console: Console,
    result: GenerationResult,
    *,
    streamed: bool,
    markdown: bool = False,
    code_block: CodeBlock | None = None,
) -> None:
    """The answer (unless streamed already), what cut it short, and its statistics with --verbose.

    With `code_block` only that of its code blocks. Raises LMStrixError where it has none.
    """
    code = None if code_block is None else _code(console, result.text, code_block)
    if console.json:
        console.result("infer", answer_json(result) | ({} if code is None else {"code": code}))
    elif code is not None:
        console.text(code)
    elif markdown and not streamed:
        text = _markdown_text(console)
        text.write(result.text)
        text.end()
    elif not streamed:
        console.text(result.text if result.text.endswith("\n") else result.text + "\n")
    show_truncation(console, result)
    if console.verbose:
        _show_statistics(console, result)


def _code(console: Console, text: str, which: CodeBlock) -> str:
    blocks = code_blocks(text)
    if not blocks:
        raise LMStrixError("the answer has no code block; without --extract it is shown as it is")
    if len(blocks) > 1:
        console.note(f"the answer has {len(blocks)} code blocks; this is the {which}")
    return blocks[0 if which == "first" else -1]


def show_truncation(console: Console, result: GenerationResult) -> None:
    """A note, when the answer is not whole: what cut it short, and what would help."""
    at = format_tokens(result.stats.completion_tokens)
    size = "" if result.context_length is None else f" of {result.context_length:,} tokens"
    match result.truncated_by:
        case "max tokens":
            console.note(f"the answer is cut off at {at} tokens, the most that --max-tokens allows")
        case "context full":
            console.note(f"the answer is cut off: the context{size} is full (--in-ctx loads a larger one)")
        case "server limit":
            console.note(f"the answer is cut off at {at} tokens by a limit of the server's own")
        case "stopped":
            console.note(f"the answer is cut off at {at} tokens: it was stopped on the server")


def _show_statistics(console: Console, result: GenerationResult) -> None:
    stats = result.stats
    speed = stats.best_decode_tokens_per_second
    whose = "the server's own figure" if stats.server_decode_tokens_per_second else "measured here"
    tokens = (
        f"{format_tokens(stats.prompt_tokens)} prompt + {format_tokens(stats.completion_tokens)} predicted"
        f" = {format_tokens(stats.total_tokens)}"
    )
    for name, value in (
        ("model", f"{result.model_key} ({result.instance_id})"),
        ("context", f"{format_tokens(result.context_length)} tokens"),
        ("tokens", tokens),
        ("first token", format_seconds(stats.ttft_s)),
        ("total", format_seconds(stats.total_s)),
        ("speed", "-" if speed is None else f"{speed:.1f} tokens/s ({whose})"),
        ("stop reason", stats.stop_reason or "-"),
    ):
        console.note(f"{name:<17}{value}")


def answer_json(result: GenerationResult) -> dict[str, Any]:
    """An answer as `infer --json` and `chat --json` show it."""
    # The engine's own times are left out: ours say what the caller waited, and two of each would be confused.
    stats = json_form(result.stats, without=(*_SERVER_FIGURES, "stop_string"))
    return {
        "model_key": result.model_key,
        "instance_id": result.instance_id,
        "context_length": result.context_length,
        "text": result.text,
        "reasoning": result.reasoning or None,
        "truncated_by": result.truncated_by,
        **stats,
    }


class BatchProgressLine(ProgressLine):
    """How far a batch is; with --verbose a note for each item, and always one for an item that failed."""

    def show(self, progress: BatchProgress) -> None:
        """An item has ended."""
        done = progress.latest
        left = "" if progress.remaining_s is None else f"{format_seconds(progress.remaining_s)} left"
        # The time left is the batch's own estimate, of all items; the line knows only the pace of the present one.
        tail = f"{progress.done}/{progress.total} {left}".rstrip()
        self.update(shorten(done.item.model_key, 40), progress.done / progress.total, tail=tail)
        outcome = done.outcome if done.error is None else f"{done.outcome}: {done.error}"
        if done.truncated_by is not None:
            outcome += f", {_TRUNCATED_BY[done.truncated_by]}"
        if self._console.verbose or done.failed:
            remaining = f", {left}" if left else ""
            self._console.note(f"{progress.done}/{progress.total}  {done.item.file}  {outcome}{remaining}")


def show_batch(console: Console, report: BatchReport) -> None:
    """How a batch ended: the counts, or every item as JSON."""
    if console.json:
        items = [_batch_item_json(done) for done in report.outcomes]
        console.result("batch", {"out": report.out, "elapsed_s": report.elapsed_s, "items": items})
        return
    counts = [f"{report.count('ok')} answered"]
    for word, count in (("skipped", report.count("skipped")), ("failed", len(report.failed))):
        if count:
            counts.append(f"{count} {word}")
    for cause, words in _TRUNCATED_BY.items():
        if count := sum(done.truncated_by == cause for done in report.outcomes):
            counts.append(f"{count} {words}")
    sys.stdout.write(f"{', '.join(counts)} in {format_seconds(report.elapsed_s)}: {clean(report.out)}\n")


def _batch_item_json(done: BatchOutcome) -> dict[str, Any]:
    return {
        "file": done.item.file,
        **json_form(done.item, without=("composed", "file")),
        **json_form(done, without=("item", "ttft_s", "decode_tokens_per_second", "stop_reason")),
    }


def show_embedded(console: Console, found: Embedded) -> None:
    """Vectors, one JSON array per line."""
    if console.json:
        vectors = [list(vector) for vector in found.vectors]
        console.result("embed", {"model_key": found.model_key, "dimensions": found.dimensions, "embeddings": vectors})
        return
    for vector in found.vectors:
        sys.stdout.write(json.dumps(vector) + "\n")


def show_advice(console: Console, advice: Advice, *, top: int) -> None:
    """The best models for a wish; with --verbose also why the others are not among them."""
    if console.json:
        models = [_advice_json(item) for item in advice.ranked[:top]]
        budget = {"budget_bytes": advice.budget_bytes, "budget_source": advice.budget_source}
        console.result("recommend", {"models": models, **budget})
        return
    rows = [
        (
            item.candidate.model_key,
            f"{item.score:.2f}",
            format_bytes(item.candidate.memory_bytes),
            # The tilde says that the speed is computed from sizes, and was never seen.
            f"{'' if item.speed_measured else '~'}{item.decode_tokens_per_second:.0f}",
            ", ".join(item.reasons),
        )
        for item in advice.ranked[:top]
    ]
    if rows:
        console.table(_ADVICE_COLUMNS, rows)
    if rows or console.verbose:
        limit = "no limit of memory" if advice.budget_bytes is None else format_bytes(advice.budget_bytes)
        console.note(f"reckoned with {limit} ({advice.budget_source})")
    if console.verbose:
        for key, why in advice.ruled_out:
            console.note(f"{key} {why}")


def _advice_json(item: Recommendation) -> dict[str, Any]:
    candidate = item.candidate
    return {
        "model_key": candidate.model_key,
        "score": round(item.score, 4),
        "memory_bytes": candidate.memory_bytes,
        "tested_context_length": candidate.tested_context_length,
        "max_context_length": candidate.max_context_length,
        "decode_tokens_per_second": item.decode_tokens_per_second,
        "speed_measured": item.speed_measured,
        "reasons": item.reasons,
    }
