"""Writes every call to lmstrix.db, unless that is switched off. A call never fails because it was not logged.

The file stays open from the first call on, because opening and closing it costs more time than a short answer takes.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from lmstrix.ground.errors import HistoryError
from lmstrix.ground.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.core.answers.inference import PlannedAnswer
    from lmstrix.core.history import History
    from lmstrix.core.history.calls import CallRecord
    from lmstrix.ground.settings import Settings
    from lmstrix.ground.types import GenerationResult


class OpenHistory(Protocol):
    """Opens the database, and tells the user what is the matter with it."""

    def __call__(self, *, durable: bool) -> History: ...


PRUNE_EVERY = 50  # calls: old ones may stay a little longer, and an answer seldom waits for the deletion


class CallRecorder:
    """The log of calls in the database, opened when it is first written to and again after a failure."""

    def __init__(self, open_history: OpenHistory, settings: Settings, notify: Callable[[str], None]) -> None:
        self._open_history = open_history
        self._settings = settings
        self._notify = notify
        self._guard = threading.Lock()  # answers are logged from worker threads, several at once
        self._history: History | None = None

    def answered(self, planned: PlannedAnswer, result: GenerationResult) -> None:
        """Log a call that was answered."""
        from lmstrix.core.history.calls import CallRecord

        stats = result.stats
        self._write(
            CallRecord(
                model_path=planned.record.path,
                model_key=planned.record.model_key,
                outcome="ok",
                prompt=prompt_text(planned),
                answer=result.text,
                stop_reason=stats.stop_reason,
                context_length=result.context_length,
                prompt_tokens=stats.prompt_tokens,
                completion_tokens=stats.completion_tokens,
                ttft_s=stats.ttft_s,
                total_s=stats.total_s,
                decode_tokens_per_second=stats.best_decode_tokens_per_second,
            )
        )

    def failed(self, planned: PlannedAnswer, failure: BaseException) -> None:
        """Log a call that failed, by the failure's name."""
        from lmstrix.core.history.calls import CallRecord

        self._write(
            CallRecord(
                model_path=planned.record.path,
                model_key=planned.record.model_key,
                outcome=type(failure).__name__,
                prompt=prompt_text(planned),
                details={"error": one_line(failure)},
            )
        )

    def close(self) -> None:
        """Close the file, if it is open."""
        with self._guard:
            if self._history is not None:
                self._history.close()
                self._history = None

    def _opened(self) -> History:
        with self._guard:
            if self._history is None:
                # A log line lost in a power cut is worth less than the wait for the disk after each answer.
                self._history = self._open_history(durable=False)
            return self._history

    def _write(self, logged: CallRecord) -> None:
        settings = self._settings
        if not settings.log_inference:
            return
        try:
            calls = self._opened().calls
            number = calls.add(logged, keep_texts=settings.log_texts)
            if settings.log_keep_days is not None and number % PRUNE_EVERY == 0:
                calls.prune(before=datetime.now(UTC) - timedelta(days=settings.log_keep_days))
        except HistoryError as exc:
            self.close()  # the next call opens it again: the file may have been replaced or repaired
            self._notify(f"the call was not logged: {exc}")


def prompt_text(planned: PlannedAnswer) -> str:
    """What was asked, as one text: the raw prompt, or the turns of the chat."""
    request = planned.request
    if request.raw_prompt is not None:
        return request.raw_prompt
    if len(request.messages) == 1:
        return request.messages[0].text
    return "\n\n".join(f"{message.role}: {message.text}" for message in request.messages)
