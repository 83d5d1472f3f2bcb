"""Where and with what a benchmark was measured, as names and texts for every format. Pure.

What nobody could read is left out, except where its absence could mislead: a server on another machine, and a runtime
that the server does not name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.benchmark.suspicion import others_cores
from lmstrix.ground.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.core.benchmark.environment import Environment, GraphicsCard, Machine
    from lmstrix.core.benchmark.records import BenchReport, RunRecord

Fact = tuple[str, str]


def place_facts(report: BenchReport) -> list[Fact]:
    """The machine, the load on it, and the versions."""
    environment = report.environment
    facts = [("Machine", report.host or "")]
    if environment is not None:
        facts += _machine_facts(environment.machine) if environment.machine else [("Not known", environment.unknown)]
    bandwidth = report.memory_bandwidth_bytes_per_s
    facts += [
        ("Load while measuring", load_while_measuring([run for cell in report.cells for run in cell.runs])),
        ("Memory bandwidth", f"{bandwidth / 1e9:,.1f} GB/s measured" if bandwidth else ""),
        ("Server", ", version ".join(part for part in (report.server, report.server_version) if part)),
    ]
    if environment is not None:
        facts += _versions(environment)
    return [(name, value) for name, value in facts if value]


def _machine_facts(machine: Machine) -> list[Fact]:
    return [
        ("Processor", ", ".join(part for part in (machine.cpu, machine.architecture) if part)),
        ("Cores", _cores(machine)),
        ("Main memory", format_bytes(machine.memory_bytes)),
        ("Graphics", "; ".join(map(_card, machine.graphics)) or "no card found"),
        ("System", machine.system),
        ("Load before", _load_before(machine)),
    ]


def _cores(machine: Machine) -> str:
    counts = ((machine.physical_cores, "physical"), (machine.logical_cores, "logical"))
    parts = [f"{count} {kind}" for count, kind in counts if count]
    # Fewer than there are: a container or an affinity keeps this process, and what it starts, to some of them.
    if machine.usable_cores and machine.usable_cores != machine.logical_cores:
        parts.append(f"{machine.usable_cores} usable")
    return ", ".join(parts)


def _card(card: GraphicsCard) -> str:
    parts = (card.name, format_bytes(card.memory_bytes) if card.memory_bytes else "", card.driver or "")
    name, size, driver = parts
    return ", ".join(part for part in (name, size, f"driver {driver}" if driver else "") if part)


def _load_before(machine: Machine) -> str:
    parts = []
    if machine.others_cores is not None:
        parts.append(f"other programs {machine.others_cores:.2f} cores")
    if machine.load_average is not None:
        parts.append(f"load average {' '.join(f'{value:.2f}' for value in machine.load_average)}")
    return ", ".join(parts)


def load_while_measuring(runs: Sequence[RunRecord]) -> str:
    """How many cores were busy during the runs, and whose; empty where nobody could see."""
    others = others_cores(runs)
    spans = [(run.cpu.engine_cores, run.span_s) for run in runs if run.cpu is not None]
    span_s = sum(span for _, span in spans)
    if others is None or not span_s:
        return ""
    engine = sum(cores * span for cores, span in spans) / span_s
    return f"engine {engine:.2f} cores, other programs {others:.2f}"


def _versions(environment: Environment) -> list[Fact]:
    return [
        ("Runtime", environment.runtime or "the server does not name it"),
        ("LMStrix", f"{environment.lmstrix_version}, Python {environment.python_version}"),
    ]
