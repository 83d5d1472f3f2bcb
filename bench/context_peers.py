"""Context searches to compare with: what LMStrix did before, what others do, and simpler methods.

Each takes a `Bench` and returns the context length it would report, 0 when it found none. A probe loads and fills the
context, as an honest test must, except where the name says otherwise.
"""

from __future__ import annotations

import time
from math import isqrt
from typing import TYPE_CHECKING

from bench.real_peers import shrink_and_bisect
from bench.simulated_worlds import SHORTEST

from lmstrix.core.context.search import ContextSearch

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.simulated_worlds import Bench

    from lmstrix.core.context.machine_belief import MachineBelief
    from lmstrix.ground.choices import Precision

    Peer = Callable[[Bench], int]

GIB = 2**30


def ours(
    bench: Bench, learned: MachineBelief | None, precision: Precision = "balanced", *, reads_memory: bool = True
) -> tuple[int, MachineBelief]:
    """The belief search; returns the length, and what it learnt for the next model.

    Where it `reads_memory`, it is told what a load takes, and else only what held and what failed.
    """
    world = bench.world
    search = ContextSearch(
        cost=world.formula,
        declared=world.declared,
        budget_bytes=world.seen_budget_bytes,
        architecture=world.model.shape.architecture,
        precision=precision,
        weights_bytes=world.model.shape.file_bytes,
        learned=learned,
        lazy=world.lazy,
    )
    loaded = 0

    def next_load() -> int | None:
        started = time.process_time()
        n = search.next_load()
        bench.decisions_s.append(time.process_time() - started)
        return n

    while (n := next_load()) is not None:
        if bench.load(n):
            loaded = n
            search.observe_loaded(n, context_length=n, memory_bytes=bench.read(n) if reads_memory else None)
        else:
            loaded = 0
            search.observe_failed(n)
    while (n := search.next_prefill()) is not None:
        held = loaded == n or (world.lazy and loaded > n) or bench.load(n)
        loaded = max(loaded, n) if world.lazy else n
        held = held and bench.prefill(n)
        if not held:
            loaded = 0
        search.observe_prefilled(n, ok=held, memory_bytes=bench.read_filled(n) if held and reads_memory else None)
    return search.best, search.learned()


def single_probe(bench: Bench) -> int:
    """LMStrix 1.0.84: one probe at 31,744 or the declared length."""
    n = min(31_744, bench.world.declared)
    return n if bench.probe(n) else 0


def multi_step(bench: Bench) -> int:
    """LMStrix as its README had it: 1,024, then 102,400, then up by 10,240 or bisection down."""
    declared = bench.world.declared
    if not bench.probe(min(1024, declared)):
        return 0
    good, n = min(1024, declared), min(102_400, declared)
    while bench.probe(n):
        good = n
        if n == declared:
            return declared
        n = min(n + 10_240, declared)
    return _bisect(bench.probe, good, n, lambda good, bad: bad - good <= 1024)


def bisection(bench: Bench) -> int:
    """Between 512 and the declared length, to 1 % or 256 tokens; declared itself is never asked."""
    return _bisect(bench.probe, 0, bench.world.declared + 1, _close)


def bisection_by_loads(bench: Bench) -> int:
    """The same by loads alone, then one prefill, 5 % less after each that fails."""
    found = _bisect(bench.load, 0, bench.world.declared + 1, _close)
    while found and not bench.prefill(found):
        found = int(found * 0.95)
        if found < 512 or not bench.load(found):
            return 0
    return found


def declared_first(bench: Bench) -> int:
    """The declared length, then bisection in log scale down from it, to 1 % or 256 tokens."""
    declared = bench.world.declared
    if bench.probe(declared):
        return declared
    good, bad = 0, declared
    while not _close(good, bad) and bad > 1024:
        n = max(1024, isqrt(max(good, 1024) * bad))
        if n >= bad:
            break
        good, bad = (n, bad) if bench.probe(n) else (good, n)
    return good


def ladder(bench: Bench) -> int:
    """Doubling from 4,096 until a rung fails."""
    good, n = 0, 4096
    while good < bench.world.declared:
        n = min(n, bench.world.declared)
        if not bench.probe(n):
            break
        good, n = n, n * 2
    return good


def one_shot_fit(bench: Bench) -> int:
    """As `--fit` does: the formula's limit 1 GiB under the budget, at least 4,096."""
    n = max(min(4096, bench.world.declared), _formula_limit(bench, bench.world.seen_budget_bytes - GIB))
    return n if bench.probe(n) else 0


def gallop(bench: Bench) -> int:
    """The formula's limit at 97 % of the budget, 8 % steps from there to a bracket, bisection to 2 %."""
    declared = bench.world.declared
    n = max(min(1024, declared), _formula_limit(bench, int(0.97 * bench.world.seen_budget_bytes)))
    if bench.probe(n):
        good = n
        while good < declared:
            n = min(declared, int(good * 1.08) + 256)
            if not bench.probe(n):
                return _bisect(bench.probe, good, n, lambda good, bad: bad - good <= max(256, good // 50))
            good = n
        return good
    bad = n
    while bad > 1024:
        n = max(1024, int(bad * 0.92) - 256)
        if bench.probe(n):
            return _bisect(bench.probe, n, bad, lambda good, bad: bad - good <= max(256, good // 50))
        bad = n
    return 0


def shrinking(bench: Bench) -> int:
    """From the formula's limit 0.4 times that after each failure, then bisection in log space to 15 %."""
    asking = shrink_and_bisect(max(SHORTEST, _formula_limit(bench, bench.world.seen_budget_bytes)))
    try:
        n = next(asking)
        while True:
            n = asking.send(bench.probe(n))
    except StopIteration as done:
        found: int = done.value
        return found


def _formula_limit(bench: Bench, budget_bytes: int) -> int:
    formula, declared = bench.world.formula, bench.world.declared
    return (
        declared
        if formula(declared) <= budget_bytes
        else _bisect(lambda n: formula(n) <= budget_bytes, 0, declared, lambda good, bad: bad - good <= 256)
    )


def _bisect(holds: Callable[[int], bool], good: int, bad: int, done: Callable[[int, int], bool]) -> int:
    while not done(good, bad) and bad > 512:
        middle = max(512, (good + bad) // 2)
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def _close(good: int, bad: int) -> bool:
    return bad - good <= max(256, good // 100)


PEERS: dict[str, Peer] = {
    "LMStrix 1.0.84: one probe": single_probe,
    "LMStrix as documented: multi-step": multi_step,
    "bisection, full probes": bisection,
    "bisection by loads, one prefill": bisection_by_loads,
    "declared first, log bisection": declared_first,
    "doubling ladder": ladder,
    "one-shot fit, 1 GiB margin": one_shot_fit,
    "formula, gallop, bisection": gallop,
    "0.4 times after a failure, log bisection": shrinking,
}
