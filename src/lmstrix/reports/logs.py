"""The log of calls on the terminal: the calls themselves, or what they say of each model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lmstrix.ground.units import format_seconds, format_tokens
from lmstrix.reports.json_form import json_form
from lmstrix.reports.table import Column, clean, harmless, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.history.calls import CallStatistics, LoggedCall
    from lmstrix.reports.console import Console

_STATISTICS_COLUMNS = (
    Column(title="MODEL", shrink=True, keep=12),
    Column(title="CALLS", right=True),
    Column(title="FAILED", right=True, drop=1),
    Column(title="PROMPT", right=True, drop=4),
    Column(title="ANSWERED", right=True, drop=3),
    Column(title="FIRST TOKEN p50", right=True, drop=5),
    Column(title="p95", right=True, drop=6),
    Column(title="TOKENS/S p50", right=True),
    Column(title="p05", right=True, drop=7),
    Column(title="LAST", drop=2),
)

_NO_CALLS = "no calls in the log yet (infer, chat and batch write there)"


def show_calls(console: Console, entries: Sequence[LoggedCall], *, of_all: bool) -> None:
    """Calls with the beginning of each text; with --verbose the whole texts. They are `of_all`, or some of them."""
    if console.json:
        console.result("logs", {"calls": [_call_json(entry) for entry in entries]})
        return
    if not entries:
        console.note(_NO_CALLS if of_all else "no such call in the log")
    for entry in entries:
        call = entry.call
        sys.stdout.write(f"{entry.call_id:>4}  {_head(entry)}\n")
        for mark, text in ((">", call.prompt), ("<", call.answer)):
            if text:
                # On one line: a log is skimmed, and the prompts in it may be whole books.
                first = text if console.verbose else shorten(" ".join(text.split()), 100)
                sys.stdout.write(f"  {mark} {harmless(first)}\n")


def show_whole_call(console: Console, entry: LoggedCall) -> None:
    """One call with its whole texts, and what was measured of it."""
    call = entry.call
    if console.json:
        console.result("logs", {"calls": [_call_json(entry)]})
        return
    sys.stdout.write(f"{entry.call_id}  {_head(entry)}\n")
    if call.outcome == "ok":
        speed = call.decode_tokens_per_second
        measured = [f"first token {format_seconds(call.ttft_s)}", f"total {format_seconds(call.total_s)}"]
        measured += [] if speed is None else [f"{speed:.1f} tokens/s"]
        sys.stdout.write(f"{', '.join(measured)}, stop reason {clean(call.stop_reason or '-')}\n")
    error = call.details.get("error")
    for title, text in (("PROMPT", call.prompt), ("ANSWER", call.answer), ("ERROR", str(error or ""))):
        if text:
            sys.stdout.write(f"\n{title}\n")
            console.text(text if text.endswith("\n") else text + "\n")
    if not call.prompt and not call.answer:
        console.note("its texts were not kept (log_texts = false)")


def _head(entry: LoggedCall) -> str:
    """When, which model, how much of what."""
    call = entry.call
    when = entry.called_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    tokens = f"{format_tokens(call.prompt_tokens)} + {format_tokens(call.completion_tokens)} tokens"
    return f"{when}  {clean(call.model_key)}  {tokens if call.outcome == 'ok' else call.outcome}"


def _call_json(entry: LoggedCall) -> dict[str, Any]:
    return {
        "call_id": entry.call_id,
        "called_at": entry.called_at,
        **json_form(entry.call, without=("model_path", "details")),
    }


def show_call_statistics(console: Console, statistics: Sequence[CallStatistics]) -> None:
    """Calls, failures, tokens, waiting times and speeds of each model."""
    if console.json:
        console.result("logs", {"models": [_statistics_json(item) for item in statistics]})
        return
    rows = [
        (
            item.model_key,
            str(item.calls),
            str(item.failures),
            format_tokens(item.prompt_tokens),
            format_tokens(item.completion_tokens),
            format_seconds(item.ttft_p50_s),
            format_seconds(item.ttft_p95_s),
            _rate(item.decode_p50_tokens_per_second),
            _rate(item.decode_p05_tokens_per_second),
            item.last_called_at.date().isoformat(),
        )
        for item in statistics
    ]
    if rows:
        console.table(_STATISTICS_COLUMNS, rows)
    else:
        console.note(_NO_CALLS)


def _rate(tokens_per_second: float | None) -> str:
    return "-" if tokens_per_second is None else f"{tokens_per_second:.1f}"


def _statistics_json(item: CallStatistics) -> dict[str, Any]:
    # Bytes per token serve our own estimates of prompts; no user asked for them.
    figures = json_form(item, without=("model_path", "model_key"))
    return {"model_key": item.model_key, "path": item.model_path, **figures}
