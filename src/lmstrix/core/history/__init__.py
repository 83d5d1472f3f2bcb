"""What happened, in lmstrix.db: the journal of tests, recall probes, benchmarks, calls, and what machines taught.

with History(paths.history_file) as history, history.journal.tester_lock("test qwen3-4b"):
    run_id = history.journal.begin_run("test")
    intent_id = history.journal.intend(run_id, path, "lmstudio", kind="load", context_length=32768, conditions=now)
    …
    history.journal.settle(intent_id, "out_of_memory", proves="bad")
"""

from __future__ import annotations

from lmstrix.core.history.benches import BenchHistory, BenchRun, BenchSample
from lmstrix.core.history.calls import CallLog, CallRecord, CallStatistics, LoggedCall
from lmstrix.core.history.conditions import Conditions
from lmstrix.core.history.journal import Intent, Journal, Probe, Run
from lmstrix.core.history.store import History

__all__ = [
    "BenchHistory",
    "BenchRun",
    "BenchSample",
    "CallLog",
    "CallRecord",
    "CallStatistics",
    "Conditions",
    "History",
    "Intent",
    "Journal",
    "LoggedCall",
    "Probe",
    "Run",
]
