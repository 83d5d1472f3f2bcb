"""LM Studio's MLX runtimes that load another context than the one asked for, and what to say of them. Pure.

Their auto-fit sizes the context to memory on every load, whatever was asked, saved or switched off: up, to 208,384 for
16,384 asked, or down, to 152,576 for 200,000. Nothing that a client sends changes it; another runtime does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.ground.types import RuntimeVersion

_TRACKER = "https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues"
_ENGINE = "https://github.com/lmstudio-ai/mlx-engine/issues"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What users report of one version: whether it keeps the context asked for, and where they say so."""

    version: str
    keeps_context: bool
    sources: tuple[str, ...]


REPORTS: tuple[Report, ...] = (
    Report(version="1.8.5", keeps_context=True, sources=(f"{_TRACKER}/2287",)),
    Report(version="1.9.1", keeps_context=False, sources=(f"{_TRACKER}/2287",)),
    Report(version="1.10.0", keeps_context=True, sources=(f"{_ENGINE}/366",)),
    Report(version="1.10.1", keeps_context=False, sources=(f"{_TRACKER}/2191", f"{_TRACKER}/2287", f"{_ENGINE}/366")),
    Report(
        version="1.11.0",
        keeps_context=False,
        sources=(f"{_TRACKER}/2250", f"{_TRACKER}/2318", f"{_TRACKER}/2323", f"{_ENGINE}/366"),
    ),
)
REMEDY = "lms runtime ls shows the MLX runtimes installed, lms runtime select chooses another"


def report_on(runtime: RuntimeVersion) -> Report | None:
    """What is reported of this version; None where nothing is."""
    return next((report for report in REPORTS if report.version == runtime.version), None)


def runtime_words(runtime: RuntimeVersion | None) -> str:
    """The runtime by name and version, with what is reported of it."""
    if runtime is None:
        return "the version of its MLX runtime is not known"
    report = report_on(runtime)
    named = f"its runtime is {runtime.name} {runtime.version}"
    if report is None:
        return f"{named}; versions reported to do so: {versions(keeping=False)}"
    if report.keeps_context:
        return f"{named}, which was reported to keep it"
    return f"{named}, reported to do so; {versions(keeping=True)} were reported to keep it"


def ignored_words(asked: int, given: int, runtime: RuntimeVersion | None, *, saved: bool = False) -> str:
    """A load that got another context than was asked, in one line, with what to do. `saved`: in the app's defaults."""
    what = "saved" if saved else "asked"
    return (
        f"{what} {asked:,}, runs at {given:,}: LM Studio ignores the {what} context of this MLX model"
        f" ({runtime_words(runtime)}); {REMEDY}"
    )


def versions(*, keeping: bool) -> str:
    """The versions reported to keep the context asked for, or not to."""
    *most, last = [report.version for report in REPORTS if report.keeps_context is keeping]
    return f"{', '.join(most)} and {last}"
