"""Machines, models and memory as they might be: the simulated worlds that context searches are compared in.

A world is one model on one machine. The truth about it is drawn, the planner sees a noisy part of it:

    budget    = (0.74 - apps 2..6 %) * RAM                       seen with 1.5 % error (sd)
    load(n)   = formula(n), its context part * slope, + overhead  read with 1 % + 60 MiB error (sd)
    prefill   = 0..0.2 GiB + 0..3 % of the cache on top
    slope     = 1 +- 5 % by architecture, + 0..4 % by model
    overhead  = 0.1..0.9 GiB by machine, + 0..0.25 GiB by model

Scenario "B" multiplies the slope of a quarter of the architectures by 0.65..4. Scenario "C" has more noise than the
planner assumes: budget 4 %, readings 3 %, prefill up to 10 % of the cache. In scenario "D" the machine is unsteady:
what is free differs by 2 % (sd) from load to load, and 3 % of the loads that fit are killed. In "G" a guardrail
refuses what its own estimate, 1.2..1.7 times the truth for the cache, puts over the budget: the limit is then where it
refuses. A lazy backend takes the cache as the prompt grows, so that a load alone proves nothing. Times follow from file
size (2 GB/s) and arithmetic (3..16 TFLOP/s).
"""

from __future__ import annotations

import functools
import math
import random
from dataclasses import dataclass
from typing import Literal

from tests.support.fleet import FleetModel, fleet

from lmstrix.core.memory.fit import LoadBreakdown, load_breakdown

Scenario = Literal["A", "B", "C", "D", "G"]

GIB = 2**30
MIB = 2**20
RAM_GIB = (8, 16, 24, 32, 64, 96, 128)
SHORTEST = 1024
"""A model that does not run at this length does not fit the machine."""
FAILURE_S = 20.0
"""What a failing load or prefill costs beside its own time: the clean-up and a new process."""


@functools.cache
def _parts(name: str, n: int) -> LoadBreakdown:
    return load_breakdown(_SHAPES[name], n)


_SHAPES = {model.name: model.shape for model in fleet()}


@dataclass(frozen=True, slots=True)
class World:
    """One model on one machine: the truth, and what a planner may ask of it."""

    model: FleetModel
    ram_bytes: int
    budget_bytes: float
    seen_budget_bytes: int
    overhead_bytes: float
    slope: float
    transient_bytes: float
    transient_ratio: float
    reading_sd: float
    unsteady_sd: float
    killed_chance: float
    guardrail_slope: float | None
    flops: float
    lazy: bool
    seed: int

    @property
    def declared(self) -> int:
        """The context length the model's file declares."""
        return self.model.shape.context_length

    def formula(self, n: int) -> int:
        """What the planner's formula predicts for a load of `n` tokens."""
        return _parts(self.model.name, n).total_bytes

    def resident_bytes(self, n: int) -> float:
        """What a load whose cache is in use takes, in truth."""
        parts = _parts(self.model.name, n)
        growing = parts.kv_cache_bytes + parts.compute_buffer_bytes
        return parts.total_bytes + (self.slope - 1) * growing + self.overhead_bytes

    def load_bytes(self, n: int) -> float:
        """What loading takes, in truth: without the cache on a lazy backend."""
        return self.resident_bytes(256 if self.lazy else n)

    def prefill_bytes(self, n: int) -> float:
        """The peak of a prefill of `n` tokens, in truth."""
        cache = _parts(self.model.name, n).kv_cache_bytes
        return self.resident_bytes(n) + self.transient_bytes + self.transient_ratio * self.slope * cache

    def passes_guardrail(self, n: int) -> bool:
        """Whether the server's own estimate lets a load of `n` tokens through; always where it has no guardrail."""
        if self.guardrail_slope is None:
            return True
        parts = _parts(self.model.name, n)
        return parts.total_bytes + (self.guardrail_slope - 1) * parts.kv_cache_bytes <= self.budget_bytes

    def limit(self) -> int:
        """The longest length that loads and prefills, in steps of 256; 0 when not even the shortest does."""

        def holds(n: int) -> bool:
            return self.passes_guardrail(n) and self.prefill_bytes(n) <= self.budget_bytes

        if holds(self.declared):
            return self.declared
        good, bad = SHORTEST // 256 - 1, -(-self.declared // 256)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if holds(middle * 256) else (good, middle)
        return good * 256 if good * 256 >= SHORTEST else 0

    def load_s(self, n: int) -> float:
        """Time of a load."""
        return self.load_bytes(n) / 2e9 + 1.0

    def prefill_s(self, n: int) -> float:
        """Time to prefill `n` tokens: the weights' share grows with n, attention's with n squared."""
        shape = self.model.shape
        attention = 2.0 * shape.n_embd * max(1, shape.full.count) * n * n
        return (2 * self.model.active_params_billions * 1e9 * n + attention) / self.flops


def machine(
    *,
    seed: int = 0,
    scenario: Scenario = "A",
    draw: int = 0,
    ram_gib: int = 32,
    lazy: bool = False,
    misread_ratio: float = 1.0,
) -> list[World]:
    """A machine with all models of the fleet, the least predicted risk first, as a test of all models takes them.

    `misread_ratio` is what the planner reads of the budget over what there is.
    """
    rng = random.Random(f"{seed}/{scenario}/{draw}/{ram_gib}")
    noisy = scenario == "C"
    machine_overhead = rng.uniform(0.1, 0.9) * GIB
    flops = 10 ** rng.uniform(math.log10(3e12), math.log10(16e12))
    slopes = {}
    for architecture in sorted({model.shape.architecture for model in fleet()}):
        slopes[architecture] = rng.uniform(0.95, 1.05)
        if scenario == "B" and rng.random() < 0.25:
            slopes[architecture] *= math.exp(rng.uniform(math.log(0.65), math.log(4.0)))
    found = []
    for model in fleet():
        budget = (0.74 - rng.uniform(0.02, 0.06)) * ram_gib * GIB
        found.append(
            World(
                model=model,
                ram_bytes=ram_gib * GIB,
                budget_bytes=budget,
                seen_budget_bytes=int(misread_ratio * budget * (1 + rng.gauss(0, 0.04 if noisy else 0.015))),
                overhead_bytes=machine_overhead + rng.uniform(0, 0.25) * GIB,
                slope=slopes[model.shape.architecture] + rng.uniform(0, 0.04),
                transient_bytes=rng.uniform(0, 0.2) * GIB,
                transient_ratio=rng.uniform(0, 0.10 if noisy else 0.03),
                reading_sd=0.03 if noisy else 0.01,
                unsteady_sd=0.02 if scenario == "D" else 0.0,
                killed_chance=0.03 if scenario == "D" else 0.0,
                guardrail_slope=rng.uniform(1.2, 1.7) if scenario == "G" else None,
                flops=flops,
                lazy=lazy,
                seed=rng.getrandbits(32),
            )
        )
    return sorted(found, key=lambda world: world.formula(world.declared) / world.seen_budget_bytes)


class Bench:
    """Loads and prefills in one world, counting what they cost."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.loads = self.failing = self.severe = 0
        self.time_s = 0.0
        self.decisions_s: list[float] = []
        self._rng = random.Random(world.seed)

    def load(self, n: int) -> bool:
        """Load at `n`; whether it held."""
        self.loads += 1
        if not self.world.passes_guardrail(n):
            self.failing += 1  # refused at once: nothing is taken, and nobody is in danger
            return False
        self.time_s += self.world.load_s(n)
        return self._held(self.world.load_bytes(n))

    def prefill(self, n: int) -> bool:
        """Fill a context of `n`, which must be loaded; whether it held."""
        self.time_s += self.world.prefill_s(n)
        return self._held(self.world.prefill_bytes(n))

    def probe(self, n: int) -> bool:
        """Load at `n` and fill the context; whether both held."""
        return self.load(n) and self.prefill(n)

    def read(self, n: int) -> int:
        """The memory a loaded model seems to take."""
        return self._noisy(self.world.load_bytes(n))

    def read_filled(self, n: int) -> int:
        """The memory a prefilled model seems to take."""
        return self._noisy(self.world.prefill_bytes(n))

    def _noisy(self, value: float) -> int:
        return int(value * (1 + self._rng.gauss(0, self.world.reading_sd)) + self._rng.gauss(0, 60 * MIB))

    def _held(self, needed: float) -> bool:
        world = self.world
        killed = world.killed_chance > 0 and self._rng.random() < world.killed_chance
        unsteady = self._rng.gauss(0, world.unsteady_sd) if world.unsteady_sd else 0.0
        budget = world.budget_bytes * (1 + unsteady)
        if needed <= budget and not killed:
            return True
        self.failing += 1
        self.severe += needed > 1.1 * world.budget_bytes
        self.time_s += FAILURE_S
        return False
