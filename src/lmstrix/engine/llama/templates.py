"""Chat templates: those that come with a request, rendered here, and limits on those that llama.cpp renders.

A template is a program, written by whoever made the model or sends the request. One that comes with a request runs in a
limited process. A model's own one runs in the model's process, which llama.cpp cannot be made to interrupt: when it
takes too long or too much memory, that process is ended, and with it the model.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.limited_process import LimitReachedError, ProcessLimits, run_limited
from lmstrix.engine.llama.process_memory import process_memory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

T = TypeVar("T")
_CHILD: Final = Path(__file__).with_name("template_child.py")


_REQUEST_LIMITS: Final = ProcessLimits(memory_bytes=512 * 2**20, cpu_s=3, wall_s=20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateLimits:
    """What one rendering may take."""

    fuel: int = 20_000_000
    """Instructions of minijinja: 1.2 s. A chat of 10,000 messages takes 200,000."""
    request: ProcessLimits = _REQUEST_LIMITS
    """Of a request's template. Memory: eight times the longest message. The clock runs on when others have the core."""
    own_s: float = 60.0
    """Of a model's own template, by the clock: 10,000 messages took 3 s on a busy machine, half of them are taken."""
    own_growth_bytes: int = 2**30
    """What the model's process may grow meanwhile, beyond what the model was expected to take."""
    poll_s: float = 0.1
    """How often that is looked at: a text that doubles takes about 0.2 s for the first GiB."""


LIMITS: Final = TemplateLimits()


class RunawayTemplateError(Exception):
    """A model's own template goes on and on; the message says by what that is told."""


async def rendered(template: str, variables: Mapping[str, Any]) -> str:
    """The text of a template that came with a request. Raises `EngineFault` for a wrong one and one without end."""
    request = json.dumps({"template": template, "variables": variables, "fuel": LIMITS.fuel}).encode()
    try:
        answer = json.loads(await run_limited(_CHILD, request, LIMITS.request))
    except LimitReachedError as exc:
        raise template_fault(f"{exc}, which is the limit for a template.") from exc
    if "failed" in answer:
        raise template_fault(str(answer["failed"]))
    return str(answer["text"])


def template_fault(message: str) -> EngineFault:
    """A template that cannot be rendered."""
    return EngineFault("Error rendering prompt with jinja template", kind="invalid", cause=message)


async def within_limits(work: Awaitable[T], *, pid: int, expected_bytes: int) -> T:
    """The result of `work`, which waits for a template in process `pid`. Raises RunawayTemplateError."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LIMITS.own_s
    allowed_bytes: int | None = None
    try:
        while not (await asyncio.wait([task], timeout=LIMITS.poll_s))[0]:
            if loop.time() > deadline:
                raise RunawayTemplateError(f"did not end within {LIMITS.own_s:g} s")
            used_bytes = process_memory(pid).resident_bytes
            # Looked at late, since most are done by now and reading it takes as long as many a template.
            allowed_bytes = allowed_bytes or max(expected_bytes, used_bytes) + LIMITS.own_growth_bytes
            if used_bytes > allowed_bytes:
                raise RunawayTemplateError(f"took more than {LIMITS.own_growth_bytes // 2**20} MiB")
        return task.result()
    finally:
        task.cancel()


def runaway_fault(model: str, why: RunawayTemplateError, *, kind: Literal["load_failed", "crashed"]) -> EngineFault:
    """A model that was ended because of its template, while it was loaded or later."""
    return EngineFault(
        f"The chat template of {model} {why}, so the model was ended.",
        kind=kind,
        suggestion="Load it with a prompt template of your own.",
    )
