"""Doctor on one model: its tested context, its file, memory, layers, speed, defaults, template, and what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.health import Check, Improvement, ModelFigures, ModelReport
from lmstrix.core.registry.defaults import CONTEXT_LENGTH, ModelDefaults
from lmstrix.core.registry.ended_words import ended_line
from lmstrix.core.registry.places import place_here
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.text import one_line
from lmstrix.ground.units import format_bytes, format_tokens
from lmstrix.ground.wording import call
from lmstrix.loaders import gguf, mlx
from lmstrix.service.doctor.failures import failed
from lmstrix.service.doctor.model_memory import improvements, layers_check, memory_check, memory_figures
from lmstrix.service.doctor.model_speed import SpeedFigures, speed_check, speed_figures
from lmstrix.service.doctor.subject import read_subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.core.registry.results import ContextResult
    from lmstrix.service.doctor.model_memory import MemoryFigures
    from lmstrix.service.doctor.subject import Subject
    from lmstrix.service.workspace import Workspace


async def examine_model(workspace: Workspace, model: str) -> ModelReport:
    """All checks of a model. Loads nothing. Raises ModelNotFoundError with suggestions."""
    import asyncio

    subject = await read_subject(workspace, model)
    memory = memory_figures(subject)
    # In a thread: it copies memory for a tenth of a second.
    speed = await asyncio.to_thread(speed_figures, workspace, subject)
    saved = _saved_context(workspace, subject)
    checks = [*_facts(subject), memory_check(subject, memory), layers_check(subject, memory)]
    if subject.record.kind == "llm":
        checks += [speed_check(subject, speed), _template_check(subject)]
        checks += [_saved_check(subject, saved)] if _uses_lm_studio(workspace) else []
    found = [*_test_improvements(subject), *_saved_improvements(subject, saved), *improvements(subject, memory)]
    return ModelReport(
        checks=tuple(checks),
        model_key=subject.record.model_key,
        figures=_figures(subject, memory, speed, saved),
        improvements=tuple(sorted(found, key=lambda each: -each.factor)),
    )


def _facts(subject: Subject) -> Iterator[Check]:
    where = subject.server or "no server runs"
    now = f"loaded with {subject.loaded.context_length:,} tokens" if subject.loaded is not None else "not loaded"
    if subject.foreign_format is not None:
        yield Check(name="server", state="note", found=f"{where} cannot load it: an {subject.foreign_format}")
    else:
        yield Check(name="server", state="ok", found=f"{where}, {now}" if subject.server else where)
    yield _context_check(subject)
    yield _file_check(subject)


# The context


def _context_check(subject: Subject) -> Check:
    record = subject.record
    declared = f"declares {format_tokens(record.max_context_length)}" if record.max_context_length else "declares none"
    result = record.best_result
    if record.kind != "llm":
        return Check(name="context", state="ok", found=f"{declared} tokens; embedding models are not tested")
    how = call("test_model", record.model_key)
    if result is None:
        elsewhere = " (it was tested on another server or with other settings)" if record.results else ""
        return Check(name="context", state="note", found=f"not tested here{elsewhere}; {declared} tokens", remedy=how)
    where, day = result.configuration.server, result.dated_at.date() if result.dated_at else "without a date"
    if not result.tested_context_length:
        found = f"its test proved no length ({where}, {day}): {result.outcome}; {declared}"
        return Check(name="context", state="note", found=found, remedy=how)
    ended = ended_line(result) or result.outcome
    found = f"tested to {result.tested_context_length:,} tokens ({where}, {day}); {ended}; {declared}"
    return Check(name="context", state="ok", found=found)


def _test_improvements(subject: Subject) -> Iterator[Improvement]:
    record, result = subject.record, subject.record.best_result
    how = call("test_model", record.model_key)
    if record.kind != "llm":
        return
    if result is None or not result.tested_context_length:
        yield Improvement(gain="its real context limit, which is not known", how=how, factor=float("inf"))
    elif not result.is_limit and result.tested_context_length < subject.declared:
        gain = f"perhaps more than {result.tested_context_length:,} tokens: no longer context has been tried"
        yield Improvement(gain=gain, how=how, factor=subject.declared / result.tested_context_length)


# The file


def _file_check(subject: Subject) -> Check:
    file, record = subject.file, subject.record
    if not file.exists():
        if not subject.is_here:
            return Check(name="file", state="note", found="on the server's machine, which is not this one")
        remedy = f"{call('scan')} looks again, where it lies now"
        return Check(name="file", state="problem", found=f"{file} is not there", remedy=remedy)
    try:
        if file.is_dir():
            mlx.read_model(file)
            read = "its files can be read"
        else:
            header = gguf.read_header(file)
            header.check_tensor_data()
            parts = f"the first of {header.shard_count} files; " if header.shard_count > 1 else ""
            read = f"{parts}header can be read, all its tensors are there"
    except (LMStrixError, OSError) as exc:
        return Check(name="file", state="problem", found=one_line(exc))
    return Check(name="file", state="ok", found=f"{file}: {format_bytes(record.all_bytes)}; {read}")


def _template_check(subject: Subject) -> Check:
    tools = "trained for tool use" if subject.record.trained_for_tool_use else "not known to be trained for tool use"
    try:
        if not subject.file.exists():
            return Check(name="chat template", state="note", found=f"its file cannot be looked at; {tools}")
        if subject.file.is_dir():
            there = bool(mlx.chat_template(subject.file))
        else:
            there = gguf.read_header(subject.file).chat_template is not None
    except (LMStrixError, OSError) as exc:
        return failed("chat template", exc)
    if there:
        return Check(name="chat template", state="ok", found=f"in the file; {tools}")
    return Check(
        name="chat template",
        state="note",
        found=f"none in the file: the server takes one of its own, which may not fit the model; {tools}",
    )


# LM Studio's own defaults


def _uses_lm_studio(workspace: Workspace) -> bool:
    return ((workspace.paths.lmstudio_home or workspace.paths.home) / ".internal").is_dir()


def _saved_context(workspace: Workspace, subject: Subject) -> int | None:
    """The context that LM Studio's default for this model names, if it has one that can be read."""
    home = workspace.paths.lmstudio_home or workspace.paths.home
    try:
        saved = ModelDefaults(home).plan(subject.record.path, {CONTEXT_LENGTH: None}).before[CONTEXT_LENGTH]
    except (LMStrixError, OSError):
        return None
    return saved if isinstance(saved, int) else None


def _on_lm_studio(subject: Subject) -> ContextResult | None:
    """What LM Studio on this machine was measured at, which alone is ever saved."""
    return subject.record.seen_from(place_here("lmstudio")).best_result


def _saved_check(subject: Subject, saved: int | None) -> Check:
    result = _on_lm_studio(subject)
    tested = result.tested_context_length if result is not None else None
    name = "LM Studio default"
    if saved is None:
        return Check(name=name, state="ok", found="none for this model: LM Studio chooses the context itself")
    if tested is None:
        return Check(name=name, state="ok", found=f"{saved:,} tokens, not tested on LM Studio here")
    if saved == tested:
        return Check(name=name, state="ok", found=f"{saved:,} tokens, as tested")
    relation = "more than it was tested to" if saved > tested else "less than it was tested to"
    return Check(name=name, state="note", found=f"{saved:,} tokens, {relation} ({tested:,})")


def _saved_improvements(subject: Subject, saved: int | None) -> Iterator[Improvement]:
    result = _on_lm_studio(subject)
    tested = result.tested_context_length if result is not None else None
    if tested is None or saved == tested:
        return
    before = "a context of its own choice" if saved is None else f"{saved:,}"
    gain = f"LM Studio itself loads what was tested: {before} -> {tested:,} tokens"
    factor = 1.0 if saved is None else max(saved, tested) / max(1, min(saved, tested))
    yield Improvement(gain=gain, how=call("save", subject.record.model_key), factor=factor)


def _figures(subject: Subject, memory: MemoryFigures, speed: SpeedFigures, saved: int | None) -> ModelFigures:
    return ModelFigures(
        declared_context_length=subject.record.max_context_length,
        tested_context_length=subject.record.tested_context_length,
        saved_context_length=saved,
        loaded_context_length=subject.loaded.context_length if subject.loaded is not None else None,
        context_length=memory.context_length,
        predicted_bytes=memory.predicted_bytes,
        measured_bytes=subject.taken.memory_bytes if subject.taken is not None else None,
        budget_bytes=subject.budget.available_bytes,
        predicted_limit=memory.predicted_limit,
        decode_tokens_per_second=speed.tokens_per_second,
        bandwidth_bytes_per_s=speed.bandwidth_bytes_per_s,
        bandwidth_tokens_per_second=speed.bound_tokens_per_second,
    )
