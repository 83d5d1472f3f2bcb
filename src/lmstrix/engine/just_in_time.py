"""Models that load because a REST request names them: at the context their tests proved, which is told.

A request does not say how long a context it needs, and the server's default cuts off most of what a model can do here.
So a model comes with the longest context that was proven to hold and to be recalled, or with what of it fits now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.engine.records import LoadSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lmstrix.engine.instance import Instance
    from lmstrix.engine.llama.process import OnProgress
    from lmstrix.engine.pool import InstancePool
    from lmstrix.engine.proven_contexts import ProvenContexts
    from lmstrix.engine.records import CatalogEntry
    from lmstrix.ground.types import ModelKind


class JustInTime:
    """Finds models, or loads them. `note` gets a line for the log about every load."""

    def __init__(self, pool: InstancePool, contexts: ProvenContexts, note: Callable[[str], None]) -> None:
        self._pool = pool
        self._contexts = contexts
        self._note = note

    async def find_or_load(
        self,
        name: str,
        *,
        kind: ModelKind,
        ttl_s: float | None,
        context_length: int | None = None,
        on_start: Callable[[str, CatalogEntry], Awaitable[None]] | None = None,
        on_progress: OnProgress | None = None,
    ) -> tuple[Instance, bool]:
        """The instance that answers to `name`, loaded now if none does (then True), at `context_length` if it is said.

        One that is loaded already is taken as it is.
        """
        instance, loaded_now = await self._pool.get_or_load(
            name,
            LoadSettings(context_length=context_length),
            kind=kind,
            ttl_s=ttl_s,
            proven_length=self._contexts.length_of,
            on_start=on_start,
            on_progress=on_progress,
        )
        if loaded_now:
            self._note(
                f"loaded {instance.identifier} just in time with a context of {instance.context_length} tokens: "
                + _reason(instance)
            )
        return instance, loaded_now


def _reason(instance: Instance) -> str:
    match instance.context_source:
        case "asked":
            return "as asked for"
        case "tested":
            return "the length its test proved"
        case "reduced":
            return "the length its test proved does not fit now"
        case "default":
            return "the default, as no test on this machine has proven another"
