"""The closed lists of words that users choose from, each once. No more than that stands here: the command line reads
them at every start, and must not import the records and the numerics that they are about."""

from __future__ import annotations

from typing import Literal

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
"""How the K or the V cache is stored."""
SortKey = Literal["id", "name", "ctx", "dtx", "size", "status", "date", "eff", "smart"]
"""What a list of models is sorted by: `ctx` is the tested context, `dtx` the declared one, `eff` the first per the
second, `smart` what a test takes."""
ListColumn = Literal[
    "model",
    "size",
    "declared",
    "tested",
    "loads",
    "recalls",
    "ended-by",
    "status",
    "tested-on",
    "name",
    "path",
    "type",
    "quant",
    "params",
    "arch",
    "publisher",
    "can",
    "eff",
    "prefill",
    "decode",
    "where",
    "tags",
]
"""A column of the list of models; the first nine are shown unless others are named."""
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
    "headroom",
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
ReasoningEffort = Literal["off", "low", "medium", "high", "on"]
"""How much a model reasons before it answers, in LM Studio's words: most models know off and on, some three levels."""
ShowOrHide = Literal["show", "hide"]
"""Whether something is shown that is no part of the answer."""
CodeBlock = Literal["first", "last"]
"""Which code block of an answer is wanted."""
Preference = Literal["speed", "balanced", "quality"]
"""What models that all serve are ranked by."""
RowForm = Literal["lines", "jsonl", "csv", "tsv"]
"""How a file or stdin has a text per row."""
TAG_PREFIX = "tag:"
"""Before what is a tag and nothing else, in the place of a model's name and in filters."""
