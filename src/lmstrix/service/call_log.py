"""Every call into lmstrix.db, unless switched off. Losing a log line never fails a call: it is a remark."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lmstrix.errors import HistoryError

if TYPE_CHECKING:
    from lmstrix.core.history.calls import Call as LoggedCall
    from lmstrix.service.answering import Call
    from lmstrix.service.facade import LMStrixService
    from lmstrix.types import GenerationResult

PRUNE_EVERY = 50  # calls


def log_answer(service: LMStrixService, call: Call, result: GenerationResult) -> None:
    """Log a call that was answered."""
    from lmstrix.core.history.calls import Call as LoggedCall

    stats = result.stats
    _write(
        service,
        LoggedCall(
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
    from lmstrix.core.history.calls import Call as LoggedCall

    _write(
        service,
        LoggedCall(
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


def _write(service: LMStrixService, logged: LoggedCall) -> None:
    settings = service.settings
    if not settings.log_inference:
        return
    from lmstrix.core.history import History

    try:
        with History(service.paths.history_file) as history:
            number = history.calls.add(logged, keep_texts=settings.log_texts)
            if settings.log_keep_days is not None and number % PRUNE_EVERY == 0:
                history.calls.prune(before=datetime.now(UTC) - timedelta(days=settings.log_keep_days))
    except HistoryError as exc:
        service.notify(f"the call was not logged: {exc}")
