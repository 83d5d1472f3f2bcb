"""The server's own guardrail, asked before anything is loaded: an estimate costs milliseconds, and a load that would be
refused teaches nothing about memory.

LM Studio's guardrail goes by an estimate that is known to be up to twice the truth for some architectures. What it lets
through is therefore no limit of the model, and the user is told what would fit without it, and how to lift it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmstrix.core.context.report import ContextOutcome, Guardrail, Subject
from lmstrix.core.context.verdict import Outcome
from lmstrix.core.registry.results import ContextResult
from lmstrix.ground.context_lengths import ALIGNMENT_TOKENS
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.units import format_bytes
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.ground.backend import ModelBackend
    from lmstrix.ground.loads import LoadConfig, Provenance

_REMEDIES: Mapping[str, str] = {
    "lmstudio": "lift it in LM Studio's settings under Hardware, Model loading guardrails",
    "embedded": "start the engine with a larger memory limit or a smaller safety.headroom, or free some memory",
}


async def guardrail_limit(backend: ModelBackend, model_key: str, load: LoadConfig, ceiling: int) -> int | None:
    """The longest context the server's guardrail lets through, 0 for none, when that is below `ceiling`.

    None when it lets `ceiling` through, and where the server gives no estimate.
    """

    async def passes(length: int) -> bool:
        return (await backend.estimate(model_key, replace(load, context_length=length))).passes_guardrails

    try:
        if await passes(ceiling):
            return None
        good, bad = 0, -(-ceiling // ALIGNMENT_TOKENS)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if await passes(middle * ALIGNMENT_TOKENS) else (good, middle)
    except LMStrixError:
        return None
    return good * ALIGNMENT_TOKENS


def explain(guardrail: Guardrail, engine: str) -> str:
    """One line on what the guardrail lets through, what would fit without it, and how to lift it."""
    passing = f"{guardrail.limit:,} tokens" if guardrail.limit else "no context at all"
    predicted, without = guardrail.predicted_limit, ""
    if predicted is not None and predicted > guardrail.limit:
        without = f", without it about {predicted:,} would fit"
    kept = f", as it keeps {format_bytes(guardrail.headroom_bytes)} free" if guardrail.headroom_bytes else ""
    return (
        f"the server's guardrail lets {passing} through{kept}{without}; {_REMEDIES[engine]},"
        f" or let the load itself decide with {parameter('ignore_guardrail', True)}"
    )


def refused_outcome(subject: Subject, guardrail: Guardrail, provenance: Provenance) -> ContextOutcome:
    """The outcome for a model of which the guardrail lets nothing through."""
    why = explain(guardrail, subject.configuration.engine)
    result = ContextResult(
        configuration=subject.configuration,
        outcome=str(Outcome.KEPT_FREE if guardrail.headroom_bytes else Outcome.REFUSED),
        tested_at=datetime.now(UTC),
        ended_by=guardrail.ends_by,
        error=why,
        provenance=provenance,
    )
    return ContextOutcome(result=result, refused=why, guardrail=guardrail)
