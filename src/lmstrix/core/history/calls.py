"""The inference log: every call to a model, searchable, with its texts only where they are wanted.

Whether to log at all is the caller's setting: it does not call `add`. Rows without texts still count in the statistics,
and teach how many tokens each model's prompts take.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lmstrix.core.history.rows import record_of, row_of, time_text
from lmstrix.core.history.text_search import index_query, is_unspaced, words_of
from lmstrix.core.history.usage import CallFigures, ModelUsage, usage_of
from lmstrix.ground.text import storable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from lmstrix.core.history.database import Database

BEGINNING = datetime.min.replace(tzinfo=UTC)
"""Before every call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call. `outcome` is "ok" or the name of the failure; figures are None where they were not measured."""

    model_path: str
    model_key: str
    outcome: str
    prompt: str
    answer: str = ""
    stop_reason: str | None = None
    context_length: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_s: float | None = None
    total_s: float | None = None
    decode_tokens_per_second: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedCall:
    """A call as the log holds it. Its texts are empty when they were not kept."""

    call_id: int
    called_at: datetime
    call: CallRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStatistics:
    """One model's calls taken together. Means and percentiles are over the successful calls that measured the figure;
    of a speed the 5th percentile, which 95 in 100 calls reach.
    """

    model_path: str
    model_key: str
    calls: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    mean_ttft_s: float | None
    mean_decode_tokens_per_second: float | None
    last_called_at: datetime
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    decode_p50_tokens_per_second: float | None
    decode_p05_tokens_per_second: float | None


class CallLog:
    """The table of calls and its full-text index."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, call: CallRecord, *, keep_texts: bool = True, called_at: datetime | None = None) -> int:
        """Log a call; without `keep_texts` its prompt and answer are left out. Returns its id."""
        columns = row_of(call) | {
            "called_at": time_text(called_at or datetime.now(UTC)),
            "prompt": storable(call.prompt) if keep_texts else None,
            "answer": storable(call.answer) if keep_texts else None,
            # Also where the prompt itself is not kept: the bytes per token of real prompts come from it.
            "prompt_bytes": len(call.prompt.encode("utf-8", "surrogatepass")),
        }
        return self._database.insert("calls", columns)

    def latest(self, *, model_path: str | None = None, limit: int = 20) -> list[LoggedCall]:
        """The last calls, newest first."""
        rows = self._database.rows(
            "SELECT * FROM calls WHERE (:model IS NULL OR model_path = :model)"
            " ORDER BY called_at DESC, id DESC LIMIT :limit",
            {"model": model_path, "limit": limit},
        )
        return [_logged(row) for row in rows]

    def find(self, call_id: int) -> LoggedCall | None:
        """One call by its number."""
        rows = self._database.rows("SELECT * FROM calls WHERE id = ?", (call_id,))
        return _logged(rows[0]) if rows else None

    def search(self, text: str, *, model_path: str | None = None, limit: int = 20) -> list[LoggedCall]:
        """The calls whose prompt or answer holds all the words, or words that begin so, best first.

        Any text is a valid search. One with a word of a script without spaces finds it anywhere, newest first.
        """
        words = words_of(storable(text))
        if not words:
            return []
        if is_unspaced(words):
            return self._search_inside(words, model_path, limit)
        rows = self._database.rows(
            "SELECT calls.* FROM calls_text JOIN calls ON calls.id = calls_text.rowid WHERE calls_text MATCH :query"
            " AND (:model IS NULL OR model_path = :model)"
            " ORDER BY bm25(calls_text, 2.0, 1.0), calls.id DESC LIMIT :limit",
            {"query": index_query(words), "model": model_path, "limit": limit},
        )
        return [_logged(row) for row in rows]

    def _search_inside(self, words: list[str], model_path: str | None, limit: int) -> list[LoggedCall]:
        # A word that is in neither text rules a call out. Without LIKE, whose patterns may not be long.
        rows = self._database.rows(
            "SELECT * FROM calls WHERE (:model IS NULL OR model_path = :model) AND NOT EXISTS (SELECT 1 FROM"
            " json_each(:words) AS word WHERE instr(lower(coalesce(prompt, '')), lower(word.value)) = 0"
            " AND instr(lower(coalesce(answer, '')), lower(word.value)) = 0)"
            " ORDER BY called_at DESC, id DESC LIMIT :limit",
            {"words": json.dumps(words), "model": model_path, "limit": limit},
        )
        return [_logged(row) for row in rows]

    def prompt_sizes(self, model_path: str, *, limit: int = 200) -> list[tuple[int, int]]:
        """The last prompts to a model that were counted, newest first: bytes of the text, tokens in all."""
        rows = self._database.rows(
            "SELECT prompt_bytes, prompt_tokens FROM calls WHERE model_path = :model AND prompt_tokens > 0"
            " ORDER BY id DESC LIMIT :limit",
            {"model": model_path, "limit": limit},
        )
        return [(row["prompt_bytes"], row["prompt_tokens"]) for row in rows]

    def prune(self, *, before: datetime | None = None, keep: int | None = None) -> int:
        """Delete calls older than a moment, and all but the newest `keep`; returns how many went."""
        removed = 0
        # One transaction: a crash in between must not leave a log pruned by half the rule.
        with self._database.transaction():
            if before is not None:
                removed += self._database.execute("DELETE FROM calls WHERE called_at < ?", (time_text(before),))
            if keep is not None:
                removed += self._database.execute(
                    "DELETE FROM calls WHERE id NOT IN (SELECT id FROM calls ORDER BY called_at DESC, id DESC LIMIT ?)",
                    (keep,),
                )
        return removed

    def figures(self, since: datetime) -> list[CallFigures]:
        """What each call since then measured, oldest first, without its texts."""
        rows = self._database.rows(
            "SELECT model_path, model_key, called_at, outcome, ttft_s, total_s, decode_tokens_per_second"
            " FROM calls WHERE called_at >= ? ORDER BY called_at, id",
            (time_text(since),),
        )
        return [record_of(CallFigures, row) for row in rows]

    def statistics(self, *, model_path: str | None = None) -> list[CallStatistics]:
        """What the log says of each model, most used first."""
        # The key is any of those the path was called by.
        rows = self._database.rows(
            """SELECT model_path, max(model_key) AS model_key, count(*) AS calls, sum(outcome != 'ok') AS failures,
                cast(total(prompt_tokens) AS INTEGER) AS prompt_tokens,
                cast(total(completion_tokens) AS INTEGER) AS completion_tokens,
                avg(ttft_s) FILTER (WHERE outcome = 'ok') AS mean_ttft_s,
                avg(decode_tokens_per_second) FILTER (WHERE outcome = 'ok') AS mean_decode_tokens_per_second,
                max(called_at) AS last_called_at
            FROM calls WHERE :model IS NULL OR model_path = :model
            GROUP BY model_path ORDER BY calls DESC, model_path""",
            {"model": model_path},
        )
        used = {usage.model_path: usage for usage in usage_of(self.figures(BEGINNING), BEGINNING)}
        return [record_of(CallStatistics, row, **_percentiles(used[row["model_path"]])) for row in rows]


def _percentiles(usage: ModelUsage) -> dict[str, float | None]:
    return {
        "ttft_p50_s": usage.ttft_p50_s,
        "ttft_p95_s": usage.ttft_p95_s,
        "decode_p50_tokens_per_second": usage.decode_p50_tokens_per_second,
        "decode_p05_tokens_per_second": usage.decode_p05_tokens_per_second,
    }


def _logged(row: sqlite3.Row) -> LoggedCall:
    # The texts are NULL where they were not kept.
    call = record_of(CallRecord, row, prompt=row["prompt"] or "", answer=row["answer"] or "")
    return LoggedCall(call_id=row["id"], called_at=datetime.fromisoformat(row["called_at"]), call=call)
