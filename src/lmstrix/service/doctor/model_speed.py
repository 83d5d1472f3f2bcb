"""Doctor on a model's speed: what was measured, beside what memory allows where each token reads the weights once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.health import Check
from lmstrix.ground.units import counted, format_bytes
from lmstrix.ground.wording import call
from lmstrix.service.doctor.model_memory import on_cards

if TYPE_CHECKING:
    from lmstrix.service.doctor.subject import Subject
    from lmstrix.service.workspace import Workspace

_SLOW = 0.5  # of what memory allows; a choice: the mean of a log holds long contexts too, and those are slower


class SpeedFigures(NamedTuple):
    """What was measured, and where; the bandwidth of the memory, and the speed that allows. None: not known."""

    tokens_per_second: float | None
    measured: str
    bandwidth_bytes_per_s: float | None
    bandwidth: str
    bound_tokens_per_second: float | None


def speed_figures(workspace: Workspace, subject: Subject) -> SpeedFigures:
    """From the log of calls, else from the test; the bandwidth is measured now, or a card's own word."""
    measured_speed, measured = _measured(workspace, subject)
    bytes_per_s, bandwidth = _bandwidth(subject)
    read_bytes = subject.shape.file_bytes * subject.shape.expert_share
    bound = bytes_per_s / read_bytes if bytes_per_s and read_bytes else None
    return SpeedFigures(measured_speed, measured, bytes_per_s, bandwidth, bound)


def _measured(workspace: Workspace, subject: Subject) -> tuple[float | None, str]:
    history = workspace.history()
    if history is not None:
        with history:
            found = history.calls.statistics(model_path=subject.record.path)
        for item in found:
            if item.mean_decode_tokens_per_second is not None:
                return item.mean_decode_tokens_per_second, f"the mean of {counted(item.calls, 'logged call')}"
    result = subject.record.best_result
    if result is not None and result.decode_tokens_per_second is not None:
        return result.decode_tokens_per_second, "measured by its test"
    return None, ""


def _bandwidth(subject: Subject) -> tuple[float | None, str]:
    from lmstrix.core.benchmark.bandwidth import cards_bytes_per_s, measured_bytes_per_s

    if not subject.is_here:
        return None, "the server runs on another machine"
    if on_cards(subject):
        # A model on several cards is read layer by layer, from one after the other.
        slowest = min(cards_bytes_per_s(), default=None)
        return slowest, "the card's bus width and clock" if slowest else "the card does not tell it here"
    return measured_bytes_per_s(), "a copy in main memory, measured now"


def speed_check(subject: Subject, figures: SpeedFigures) -> Check:
    speed, bound = figures.tokens_per_second, figures.bound_tokens_per_second
    told = f"{speed:,.1f} tokens per second ({figures.measured})" if speed else "not measured"
    if bound is None or figures.bandwidth_bytes_per_s is None:
        found = f"{told}; what memory allows is not known: {figures.bandwidth}"
    else:
        share = subject.shape.expert_share
        weights = format_bytes(subject.shape.file_bytes)
        read = f"its {weights} of weights" if share >= 1 else f"at least {share:.0%} of its {weights} of weights"
        found = (
            f"{told}; memory that moves {figures.bandwidth_bytes_per_s / 1e9:.0f} GB/s ({figures.bandwidth}) allows "
            f"about {bound:,.1f}, reading {read} for each token"
        )
    if speed is None:
        return Check(
            name="speed", state="note", found=found, remedy=f"{call('bench', subject.record.model_key)} measures it"
        )
    if bound is None:
        return Check(name="speed", state="ok", found=found)
    if speed > bound:
        return Check(name="speed", state="ok", found=f"{found}: the machine is busy now, or much of it stays in caches")
    ratio = f"{found}: {speed / bound:.0%} of it"
    if speed >= _SLOW * bound:
        return Check(name="speed", state="ok", found=ratio)
    remedy = "look for other programs at work and layers outside the card; long contexts and tiny models are slower"
    return Check(name="speed", state="note", found=ratio, remedy=remedy)
