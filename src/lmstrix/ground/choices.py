"""The closed lists of words that users choose from, each once. No more than that stands here: the command line reads
them at every start, and must not import the records and the numerics that they are about."""

from __future__ import annotations

from typing import Literal

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
"""How the K or the V cache is stored."""
SortKey = Literal["id", "name", "ctx", "tested", "size", "status", "date"]
"""What a list of models is sorted by."""
ListColumn = Literal["model", "size", "declared", "tested", "loads", "recalls", "ended-by", "status", "tested-on"]
"""A column of the list of models."""
Precision = Literal["safe", "balanced", "tight", "exhaustive"]
"""How near to the edge a search for a context limit goes."""
TestOrder = Literal["risk", "id", "size", "ctx"]
"""In which order a test of several models takes them."""
EndedBy = Literal[
    "declared",
    "memory_at_load",
    "memory_at_prefill",
    "memory_spilled",
    "guardrail",
    "threshold",
    "asked_length",
    "recall",
    "time_budget",
]
"""What keeps a context test from finding a longer context."""
BenchTask = Literal["story", "html", "code", "summary", "qa"]
"""What a benchmark asks for."""
ReportFormat = Literal["html", "md", "csv", "json", "junit"]
"""What a benchmark's report is written as."""
WorkKind = Literal["chat", "code", "vision", "tools", "embedding"]
"""What a recommended model is for."""
Preference = Literal["speed", "balanced", "quality"]
"""What models that all serve are ranked by."""
