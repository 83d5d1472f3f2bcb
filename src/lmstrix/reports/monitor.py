"""A watched server as lines of text, as wide as they may be, and as JSON. Pure: what draws it stands elsewhere."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

from lmstrix.ground.units import counted, format_bytes, format_seconds, format_tokens
from lmstrix.reports.json_form import json_form
from lmstrix.reports.table import Column, clean, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.core.monitoring import MachineReading, MonitoredModel, MonitorSnapshot, ServerReading
    from lmstrix.ground.activity import RequestActivity
    from lmstrix.reports.console import Console

_COLUMNS = (
    Column(title="INSTANCE", shrink=True, keep=10),
    Column(title="STATE"),
    Column(title="CONTEXT", right=True, drop=1),
    Column(title="WAITING", right=True, drop=4),
    Column(title="PROMPT/S", right=True, drop=3),
    Column(title="TOKENS/S", right=True),
    Column(title="MEMORY", right=True, drop=2),
    Column(title="ON GPU", right=True, drop=7),
    Column(title="ANSWERED", right=True, drop=6),
    Column(title="UNLOADS IN", right=True, drop=5),
)
_STATES = {"processingPrompt": "prompt", "computingEmbedding": "embedding"}
_REQUESTS_SHOWN = 4  # of each model; the others are counted
_NAME_WIDTH = 10
_NARROWEST = 24
_PLAIN_WIDTH = 100


def show_snapshot(console: Console, snapshot: MonitorSnapshot) -> None:
    """One look, as lines or as one line of JSON."""
    if console.json:
        console.result_line("monitor", _json(snapshot))
        return
    unicode = "utf" in (sys.stdout.encoding or "").lower()
    sys.stdout.write("\n".join(snapshot_lines(snapshot, _PLAIN_WIDTH, unicode=unicode)) + "\n")
    # Whoever reads it through a pipe wants to see it now.
    sys.stdout.flush()


def snapshot_lines(snapshot: MonitorSnapshot, width: int, *, unicode: bool = False) -> list[str]:
    """One look, in lines of at most `width` columns; ASCII only, but for names that are not."""
    width = max(_NARROWEST, width)
    lines = _wrapped(f"{clean(snapshot.server)}  {snapshot.at.astimezone():%H:%M:%S}", width)
    reading = snapshot.reading
    if reading is None:
        gone = f" (for {format_seconds(snapshot.problem_s)})" if snapshot.problem_s else ""
        lines += _wrapped(f"tells nothing now{gone}: {clean(snapshot.problem or 'not asked yet')}; asking again", width)
    else:
        lines += _server_lines(reading, width, unicode)
    lines.append("")
    for name, text in _machine_rows(snapshot):
        lines += _wrapped(f"{name:<{_NAME_WIDTH}}{text}", width, hanging=_NAME_WIDTH)
    return lines


def _server_lines(reading: ServerReading, width: int, unicode: bool) -> Iterator[str]:
    yield from _wrapped(_summary(reading), width)
    if reading.models:
        yield ""
        rows = [_row(model) for model in reading.models]
        table = render(_COLUMNS, rows, max_width=width, ellipsis="…" if unicode else "..").splitlines()
        yield table[0]
        for line, model in zip(table[1:], reading.models, strict=True):
            yield line
            yield from _request_lines(model, width)
    if not reading.tells_work:
        yield ""
        text = "not told by LM Studio: tokens per second, single requests, memory and layers of each model"
        yield from _wrapped(text, width)


def _summary(reading: ServerReading) -> str:
    models = reading.models
    parts = [f"{counted(len(models), 'model')} loaded"]
    if reading.loading:
        parts.append(f"loading {', '.join(map(clean, reading.loading))}")
    waiting = [model.waiting for model in models if model.waiting is not None]
    if waiting or not models:
        parts.append(f"queue: {sum(waiting)} waiting")
    prompt = _sum(models, lambda model: model.prompt_tokens_per_second)
    decode = _sum(models, lambda model: model.decode_tokens_per_second)
    if prompt is not None and decode is not None:
        parts.append(f"tokens per second: {_rate(prompt)} prompt, {_rate(decode)} decode")
    return "; ".join(parts)


def _sum(models: tuple[MonitoredModel, ...], value: Callable[[MonitoredModel], float | None]) -> float | None:
    known = [each for each in map(value, models) if each is not None]
    return sum(known) if known else None


def _row(model: MonitoredModel) -> tuple[str, ...]:
    left_s = None if model.ttl_s is None or model.idle_s is None else max(0.0, model.ttl_s - model.idle_s)
    return (
        model.instance_id,
        _STATES.get(model.status or "", model.status or "-"),
        format_tokens(model.context_length),
        "-" if model.waiting is None else f"{model.waiting:,}",
        _rate(model.prompt_tokens_per_second),
        _rate(model.decode_tokens_per_second),
        "-" if model.memory is None else format_bytes(model.memory.memory_bytes),
        _on_gpu(model),
        "-" if model.answered is None else f"{model.answered:,}",
        format_seconds(left_s),
    )


def _on_gpu(model: MonitoredModel) -> str:
    """How many of its layers are on graphics cards."""
    memory = model.memory
    if memory is None or memory.gpu_layers is None or memory.all_layers is None:
        return "-"
    return f"{memory.gpu_layers}/{memory.all_layers}"


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.1f}"


def _request_lines(model: MonitoredModel, width: int) -> Iterator[str]:
    requests = [request for request in model.requests or () if request.status != "waiting"]
    for request in requests[:_REQUESTS_SHOWN]:
        yield from _wrapped(f"  {_request_words(request)}", width, hanging=4)
    if len(requests) > _REQUESTS_SHOWN:
        yield f"  and {len(requests) - _REQUESTS_SHOWN} more"


def _request_words(request: RequestActivity) -> str:
    since = f"since {format_seconds(request.age_s)}"
    prompt = "" if request.prompt_tokens is None else f"{request.prompt_tokens:,} tokens"
    if request.status == "generating":
        of = f" to a prompt of {prompt}" if prompt else ""
        return f"answering {since}: {counted(request.completion_tokens, 'token')}{of}"
    if request.status == "computingEmbedding":
        return f"embedding {since}"
    return f"reading a prompt {since}" + (f": {request.prompt_done_tokens:,} of {prompt}" if prompt else "")


def _machine_rows(snapshot: MonitorSnapshot) -> Iterator[tuple[str, str]]:
    if not snapshot.is_local:
        yield "machine", "not seen from here: the server runs on another one"
        return
    machine = snapshot.machine
    if machine is None:
        yield "memory", "not read yet"
        return
    limit = " (the limit of this control group)" if machine.limited_by == "control group" else ""
    yield "memory", f"{format_bytes(machine.available_bytes)} free of {format_bytes(machine.total_bytes)}{limit}"
    held = "cannot be seen now" if machine.engine_bytes is None else format_bytes(machine.engine_bytes)
    yield "server", f"its processes hold {held}" if machine.engine_bytes is not None else f"what it holds {held}"
    for card in machine.cards:
        yield "card", f"{clean(card.name)}: {format_bytes(card.free_bytes)} free of {format_bytes(card.total_bytes)}"
    for name in machine.unreadable_cards:
        yield "card", f"{clean(name)}: its memory cannot be read"
    yield from _power_rows(machine)


def _power_rows(machine: MachineReading) -> Iterator[tuple[str, str]]:
    if not machine.power:
        yield "power", "no source here (lmstrix power says what would make it tell)"
    for mean in machine.power:
        watts = "not measured yet" if mean.power_w is None else f"{mean.power_w:.1f} W"
        yield "power", f"{clean(mean.channel)}: {watts}"


def _wrapped(text: str, width: int, *, hanging: int = 2) -> list[str]:
    # Not at hyphens: names of models have them.
    return textwrap.wrap(
        text, width, subsequent_indent=" " * hanging, break_on_hyphens=False, drop_whitespace=True
    ) or [""]


def _json(snapshot: MonitorSnapshot) -> dict[str, Any]:
    reading, machine = snapshot.reading, snapshot.machine
    models = None if reading is None else [_model_json(model) for model in reading.models]
    return {
        **json_form(snapshot, without=("reading", "machine", "problem_s")),
        "problem_s": round(snapshot.problem_s, 3),
        "tells_work": None if reading is None else reading.tells_work,
        "loading": None if reading is None else reading.loading,
        "models": models,
        "machine": None if machine is None else _machine_json(machine),
    }


def _model_json(model: MonitoredModel) -> dict[str, Any]:
    requests = None if model.requests is None else [json_form(request) for request in model.requests]
    memory = None if model.memory is None else json_form(model.memory)
    return {**json_form(model, without=("requests", "memory")), "requests": requests, "memory": memory}


def _machine_json(machine: MachineReading) -> dict[str, Any]:
    return {
        **json_form(machine, without=("cards", "power")),
        "cards": [json_form(card) for card in machine.cards],
        "power": [json_form(mean) for mean in machine.power],
    }
