"""What to measure, in which order, for how long. Pure.

A tier is the whole context in use at the end of an answer: the model is loaded with that much for each of the requests
made at the same time, and the prompt fills what the answer leaves. Cells are visited in order and then in reverse order
(A B C, C B A), half the runs each time, so that a machine which gets warmer or busier affects all of them alike. Under
a time budget the first pass is for the first run of each (`turns`), and each later visit gets an equal share of what is
left, so early cells cannot starve late ones.

An A/B comparison goes in blocks instead: A B, B A, A B, …, each visit a load of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lmstrix.core.benchmark import turns
from lmstrix.core.benchmark.paired import MOST_PAIRS
from lmstrix.core.benchmark.records import BenchRequest, BenchTarget, Cell
from lmstrix.ground.context_lengths import UNTESTED_CONTEXT_LENGTH, aligned_up
from lmstrix.ground.errors import UsageError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_TIER = 128
_SPARE_TOKENS = 16  # the nonce and the order of sentences change the length a little, and none may overflow for it
_SPARE_SHARE = 64  # one spare token per so many tokens of the tier
_LEAST_RUNS_TO_SPLIT = 4


class Visit(NamedTuple):
    """Load the cell at this place in the plan, make `runs` runs."""

    cell: int
    runs: int


def plan_cells(targets: Sequence[BenchTarget], request: BenchRequest, *, loads: bool = True) -> tuple[Cell, ...]:
    """Every model at every tier and concurrency; what cannot be measured is in the plan with its reason.

    Where the server loads by itself (`loads` False) there is no tested limit to keep to.
    """
    _check(request)
    return tuple(
        _cell(target, request, tier, concurrency, loads=loads)
        for target in targets
        for tier in request.tiers
        for concurrency in request.concurrency
    )


def _check(request: BenchRequest) -> None:
    if request.runs < 1 or request.max_tokens < 1:
        raise UsageError(
            f"a benchmark needs at least one run of at least one token ({parameter('runs')}, {parameter('max_tokens')})"
        )
    if not request.tiers or any(tier and tier < LEAST_TIER for tier in request.tiers):
        raise UsageError(
            f"a context tier is 0, the bare prompt, or at least {LEAST_TIER} tokens ({parameter('tiers')})"
        )
    if not request.concurrency or min(request.concurrency) < 1:
        raise UsageError(f"{parameter('concurrency')} counts requests at a time, from 1")
    if request.against is not None and not 1 <= request.blocks <= MOST_PAIRS:
        raise UsageError(f"a comparison has 1 to {MOST_PAIRS} {parameter('blocks')}")


def _cell(target: BenchTarget, request: BenchRequest, tier: int, concurrency: int, *, loads: bool) -> Cell:
    max_tokens = min(request.max_tokens, tier // 2) if tier else request.max_tokens
    wanted = tier or _bare_context(request)
    context_length, skipped = wanted * concurrency, None
    # Requests at the same time share one context, so the load is that many times a tier.
    limit = _limit(target)
    if loads and limit is not None and context_length > limit:
        # The bare prompt asks for no length: it makes do with less, as long as answers and prompts have half each.
        if tier or limit < _halves(max_tokens, concurrency):
            skipped = _too_long(target, context_length, limit, concurrency)
        context_length = limit
    return Cell(
        target=target,
        tier_tokens=tier,
        concurrency=concurrency,
        max_tokens=max_tokens,
        context_length=context_length if loads else None,
        prompt_tokens=tier - max_tokens - _SPARE_TOKENS - tier // _SPARE_SHARE if tier else None,
        skipped=skipped,
    )


def least_context_length(cell: Cell) -> int:
    """What the bare prompt of this cell makes do with."""
    return _halves(cell.max_tokens, cell.concurrency)


def _halves(max_tokens: int, concurrency: int) -> int:
    return max_tokens * concurrency * 2


def _limit(target: BenchTarget) -> int | None:
    """The longest context worth a load; None when nothing is known."""
    if target.tested_context_length is not None:
        return target.tested_context_length
    if target.max_context_length is not None:
        return min(target.max_context_length, UNTESTED_CONTEXT_LENGTH)
    return None


def _too_long(target: BenchTarget, context_length: int, limit: int, concurrency: int) -> str:
    times = f" ({concurrency} at a time)" if concurrency > 1 else ""
    if target.tested_context_length is not None and target.tested_is_limit:
        return f"{context_length:,} tokens{times} are beyond the tested limit of {limit:,}"
    return (
        f"{context_length:,} tokens{times} are beyond {limit:,}, and its real limit is not known: "
        f"`lmstrix test {target.model_key}` finds it"
    )


def _bare_context(request: BenchRequest) -> int:
    """Context for the prompt alone: one token per byte is the worst case."""
    prompt_bytes = len(request.prompt.encode("utf-8", "replace")) if request.prompt else 0
    needed = prompt_bytes + request.max_tokens + 512
    return max(UNTESTED_CONTEXT_LENGTH, aligned_up(needed))


def plan_visits(cells: Sequence[Cell], request: BenchRequest, *, done: Sequence[int] = ()) -> tuple[Visit, ...]:
    """The order of visits. `done` counts the runs each cell has already, from an earlier start of this session."""
    open_cells = [index for index, cell in enumerate(cells) if cell.skipped is None]
    if request.against is not None:
        return _blocks(cells, open_cells, request, done or [0] * len(cells))
    left = {index: request.runs - (done[index] if done else 0) for index in open_cells}
    passes = request.passes
    if passes is None:
        passes = 2 if len(open_cells) > 1 and request.runs >= _LEAST_RUNS_TO_SPLIT else 1
    visits: list[Visit] = []
    if request.budget_s is not None and len(open_cells) > 1:
        open_cells = turns.first_turn(cells, open_cells)
        waiting = [index for index in open_cells if not (done and done[index])]
        visits = [Visit(index, 1) for index in waiting if left[index] > 0]
        for visit in visits:
            left[visit.cell] -= 1
    turn = 1 if visits else 0
    passes = max(passes, turn + 1)
    for number in range(turn, passes):
        order = open_cells if number % 2 == 0 else open_cells[::-1]
        for index in order:
            # Rounded up: the earlier pass takes the odd run, and the last one takes what is left.
            runs = -(-left[index] // (passes - number))
            left[index] -= runs
            if runs > 0:
                visits.append(Visit(index, runs))
    return tuple(visits)


def _blocks(
    cells: Sequence[Cell], open_cells: Sequence[int], request: BenchRequest, done: Sequence[int]
) -> tuple[Visit, ...]:
    """Both sides of every tier and concurrency in turns; what is done already is taken off the first visits."""
    # A cell whose partner was skipped has nothing to be compared with, and is measured like the others all the same.
    places: dict[tuple[int, int], list[int]] = {}
    for index in open_cells:
        places.setdefault((cells[index].tier_tokens, cells[index].concurrency), []).append(index)
    total, blocks, covered = request.runs_per_cell, request.blocks, list(done)
    visits: list[Visit] = []
    for number in range(blocks):
        runs = total * (number + 1) // blocks - total * number // blocks
        # Every second block the other way round, so that a steady drift cancels out.
        for index in [index for place in places.values() for index in place[:: -1 if number % 2 else 1]]:
            taken = min(runs, covered[index])
            covered[index] -= taken
            if runs > taken:
                visits.append(Visit(index, runs - taken))
    return tuple(visits)


def visit_share_s(left_s: float | None, visits_left: int) -> float | None:
    """How long the next visit may take."""
    return None if left_s is None else max(0.0, left_s) / max(1, visits_left)


def has_time_for_another(left_s: float, run_s: Sequence[float]) -> bool:
    """Whether one more run, as long as the longest so far, ends in time. The first always goes."""
    return not run_s or max(run_s) <= left_s
