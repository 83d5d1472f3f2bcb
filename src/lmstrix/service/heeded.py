"""What only some servers and models heed, refused where it would do nothing: reasoning, mirostat, a batch's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.deadline import Deadline
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.ground.types import ServerInfo


async def check_heeded(
    backend: ModelBackend, record: ModelRecord, asked: InferRequest, deadline: Deadline, notify: Callable[[str], None]
) -> None:
    """Raise UsageError, before anything is loaded, where the server or the model would ignore a part of the request.

    `notify` is told where nobody knows.
    """
    if asked.mirostat and backend.server.engine != "embedded":
        raise UsageError(
            f"{parameter('mirostat', asked.mirostat)} has no effect on LM Studio, which offers no such sampling; leave "
            f"it out, or ask the embedded engine ({parameter('server', 'embedded')})"
        )
    if asked.reasoning_effort is None and asked.enable_thinking is None:
        return
    async with deadline.step("asking how models can be told to reason"):
        options = await backend.reasoning_options(record.model_key)
    if asked.enable_thinking is not None:
        _check_switch(record, options, asked.enable_thinking, notify)
        return
    if options is not None and asked.reasoning_effort in options:
        return
    wanted = parameter("reasoning_effort", asked.reasoning_effort)
    if options is None:
        raise UsageError(f"{wanted}: the server does not say what {record.model_key} takes; leave it out")
    if not options:
        raise UsageError(f"{wanted} has no effect on {record.model_key}: its reasoning cannot be steered; leave it out")
    raise UsageError(f"{wanted} is nothing that {record.model_key} takes; it takes {', '.join(options)}")


def check_load_heeded(server: ServerInfo, record: ModelRecord, load: LoadConfig) -> None:
    """Raise UsageError where the server would ignore a setting of the load; `unheeded` has what models ignore."""
    if server.engine == "embedded" and record.kind == "embedding" and load.eval_batch_size is not None:
        raise UsageError(
            f"{parameter('eval_batch_size')} has no effect on {record.model_key}: the embedded engine reads a whole "
            "context at once where it makes embeddings; leave it out"
        )


def _check_switch(
    record: ModelRecord, options: Sequence[str] | None, enabled: bool, notify: Callable[[str], None]
) -> None:
    """The same for reasoning switched on or off. A server that does not say what models take is sent it all the same:
    older ones heed it, and tell nobody.
    """
    wanted = parameter("enable_thinking", enabled)
    if options is None:
        notify(
            f"{wanted} may have no effect: the server does not say if the reasoning of {record.model_key} is switched"
        )
    elif (state := "on" if enabled else "off") not in options:
        raise UsageError(
            f"{wanted} has no effect on {record.model_key}: its reasoning cannot be switched {state}; leave it out"
        )
