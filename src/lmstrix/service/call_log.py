"""Every call into lmstrix.db, unless switched off. Losing a log line never fails a call: it is a remark.

The file stays open from the first call on, since opening and closing it costs more than a short answer takes.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lmstrix.ground.errors import HistoryError

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.history import History
    from lmstrix.core.history.calls import CallRecord
    from lmstrix.ground.types import GenerationResult
    from lmstrix.service.answering import Call
    from lmstrix.service.facade import LMStrixService

PRUNE_EVERY = 50  # calls


class LogFile:
    """The history at `path`, opened when it is first written to and again after a failure."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._history: History | None = None

    def opened(self) -> History:
        """The open history. Raises HistoryError."""
        from lmstrix.core.history import History

        with self._guard:
            if self._history is None:
                self._history = History(self._path, durable=False)
            return self._history

    def close(self) -> None:
        """Close it, if it is open."""
        with self._guard:
            if self._history is not None:
                self._history.close()
                self._history = None


def log_answer(service: LMStrixService, call: Call, result: GenerationResult) -> None:
    """Log a call that was answered."""
    from lmstrix.core.history.calls import CallRecord

    stats = result.stats
    _write(
        service,
        CallRecord(
            model_path=call.record.path,
            model_key=call.record.model_key,
            outcome="ok",
            prompt=prompt_text(call),
            answer=result.text,
            stop_reason=stats.stop_reason,
            context_length=result.context_length,
            prompt_tokens=stats.prompt_tokens,
            completion_tokens=stats.completion_tokens,
            ttft_s=stats.ttft_s,
            total_s=stats.total_s,
            decode_tokens_per_second=stats.decode_tokens_per_second,
        ),
    )


def log_failure(service: LMStrixService, call: Call, failure: BaseException) -> None:
    """Log a call that failed, by the failure's name."""
    from lmstrix.core.history.calls import CallRecord

    _write(
        service,
        CallRecord(
            model_path=call.record.path,
            model_key=call.record.model_key,
            outcome=type(failure).__name__,
            prompt=prompt_text(call),
            details={"error": " ".join(str(failure).split())},
        ),
    )


def prompt_text(call: Call) -> str:
    """What was asked, as one text: the raw prompt, or the turns of the chat."""
    if call.request.raw_prompt is not None:
        return call.request.raw_prompt
    if len(call.request.messages) == 1:
        return call.request.messages[0].text
    return "\n\n".join(f"{message.role}: {message.text}" for message in call.request.messages)


def _write(service: LMStrixService, logged: CallRecord) -> None:
    settings = service.settings
    if not settings.log_inference:
        return
    try:
        calls = service.log_file.opened().calls
        number = calls.add(logged, keep_texts=settings.log_texts)
        if settings.log_keep_days is not None and number % PRUNE_EVERY == 0:
            calls.prune(before=datetime.now(UTC) - timedelta(days=settings.log_keep_days))
    except HistoryError as exc:
        service.log_file.close()
        service.notify(f"the call was not logged: {exc}")
