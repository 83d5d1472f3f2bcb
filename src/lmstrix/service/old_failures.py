"""What earlier tests failed at: which of it still stands, and what is said of it. `core.history` keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.history import Conditions
from lmstrix.core.memory.host import read_host_memory
from lmstrix.ground import machine
from lmstrix.ground.addresses import is_local
from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import parameter
from lmstrix.loaders.lmstudio_settings import guardrail_mode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.core.history import Journal
    from lmstrix.core.registry.known_failure import KnownFailure
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.backend import ModelBackend


async def present_conditions(backend: ModelBackend, lmstudio_home: Path | None) -> Conditions:
    """What a load would depend on now. Neither memory nor settings of another machine are seen from here."""
    server = backend.server
    told = await backend.memory()
    if not is_local(server.address):
        free_bytes, boot_id = (told.machine_bytes, told.boot_id) if told else (None, None)
        return Conditions(free_bytes=free_bytes, engine_version=server.version, boot_id=boot_id)
    return Conditions(
        free_bytes=told.machine_bytes if told else read_host_memory().model_budget_bytes,
        engine_version=server.version,
        guardrail=guardrail_mode(lmstudio_home) if lmstudio_home and server.engine == "lmstudio" else None,
        boot_id=machine.boot_id(),
    )


def settle_unfinished(journal: Journal, notify: Callable[[str], None]) -> None:
    """Write down what became of attempts whose test was killed, and say so."""
    for intent in journal.settle_unfinished():
        tried = f"tried {intent.context_length:,} tokens of {intent.model_path}"
        if intent.machine_went_down:
            notify(
                f"the machine went down while a test {tried}: that size is left out "
                f"({parameter('force', True)} tries it again)"
            )
        else:
            notify(f"a test was killed while it {tried}: that proves nothing, and the size may be tried again")


def standing_failure(
    journal: Journal, record: ModelRecord, configuration: str, present: Conditions, *, ceiling: int
) -> KnownFailure | None:
    """The shortest length up to `ceiling` that failed for certain, and would again."""
    failure = journal.known_bad(record.path, configuration, present)
    return failure if failure is not None and failure.context_length <= ceiling else None


def refuse(record: ModelRecord, failure: KnownFailure) -> UsageError:
    """For a length named by the user."""
    return UsageError(f"{record.model_key} {_told(failure)}; {parameter('force', True)} tries again")


def announce_cap(record: ModelRecord, failure: KnownFailure, notify: Callable[[str], None]) -> None:
    """Say before a test that it stays below a failure."""
    notify(
        f"{record.model_key} {_told(failure)}: only shorter contexts are tried ({parameter('force', True)} tries all)"
    )


def _told(failure: KnownFailure) -> str:
    return f"{failure.what} at {failure.context_length:,} tokens {failure.when}"
