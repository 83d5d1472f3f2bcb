"""What LM Studio's MLX runtimes log of a load: how much context they fitted, and what a token takes by their probe.

    [context_fit][INFO]: Model context auto-fit: family=qwen3_5 max=262,144 fitted=152,576 working_set=36.00GiB …
    [cache_store][INFO]: VLM prompt cache context target: configured=200,000 fitted=152,576 effective=200,000

Pure. Versions name more fields or fewer and in other units: what is known is read, the rest passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lmstrix.ground.types import RuntimeVersion
from lmstrix.ground.units import format_bytes

_GIB = 2**30
_FIELD = r"\w+=[\w.,/:]*"
_FIT = re.compile(rf"Model context auto-fit: (?P<fields>{_FIELD}(?:\s+{_FIELD})*)")
_TARGET = re.compile(rf"context target: (?P<fields>{_FIELD}(?:\s+{_FIELD})*)")
_RUNTIME = re.compile(r"(?P<name>[\w.-]*mlx[\w.-]*)@(?P<version>\d[\w.+-]*)")
_NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?)(GiB)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFit:
    """One fit. `configured_tokens` is what was asked, `full_kv_bytes_per_token` the cache of one token; None where the
    line does not say it. Sizes logged as GiB are rounded to hundredths.
    """

    fitted_tokens: int
    max_tokens: int | None = None
    configured_tokens: int | None = None
    working_set_bytes: int | None = None
    baseline_bytes: int | None = None
    full_kv_bytes_per_token: int | None = None
    runtime: RuntimeVersion | None = None

    @property
    def words(self) -> str:
        """The fit in one line."""
        of = f" of {self.max_tokens:,}" if self.max_tokens is not None else ""
        asked = f" for {self.configured_tokens:,} configured" if self.configured_tokens is not None else ""
        parts = [f"LM Studio's log: it fitted {self.fitted_tokens:,}{of} tokens{asked}"]
        if self.full_kv_bytes_per_token is not None:
            parts.append(f"{self.full_kv_bytes_per_token:,} bytes of cache per token")
        if self.baseline_bytes is not None and self.working_set_bytes is not None:
            parts.append(f"{format_bytes(self.baseline_bytes)} before any, of {format_bytes(self.working_set_bytes)}")
        return ", ".join(parts)


def context_fits(text: str) -> list[ContextFit]:
    """Every fit logged in `text`, in order; each with what was configured, where the line after it says so."""
    found = list(_FIT.finditer(text))
    ends = [*(match.start() for match in found), len(text)][1:]
    fits = (_fit(text, match, end) for match, end in zip(found, ends, strict=True))
    return [fit for fit in fits if fit is not None]


def _fit(text: str, match: re.Match[str], end: int) -> ContextFit | None:
    told = _fields(match["fields"])
    fitted = _number(told, "fitted")
    if fitted is None:
        return None
    target = _TARGET.search(text, match.end(), end)
    # Before the message, on the same line, stands who says it.
    runtime = _RUNTIME.search(text, text.rfind("\n", 0, match.start()) + 1, match.start())
    return ContextFit(
        fitted_tokens=fitted,
        max_tokens=_number(told, "max"),
        configured_tokens=_number(_fields(target["fields"]), "configured") if target else None,
        working_set_bytes=_number(told, "working_set"),
        baseline_bytes=_number(told, "baseline"),
        full_kv_bytes_per_token=_number(told, "full_kv"),
        runtime=RuntimeVersion(name=runtime["name"], version=runtime["version"]) if runtime else None,
    )


def _fields(listed: str) -> dict[str, str]:
    return {name: value for name, _, value in (field.partition("=") for field in listed.split())}


def _number(told: dict[str, str], name: str) -> int | None:
    """Tokens or bytes; None where the field is missing, cut off, or no number."""
    found = _NUMBER.match(told.get(name, ""))
    if found is None:
        return None
    value = float(found[1].replace(",", ""))
    return round(value * _GIB) if found[2] else int(value)
