"""What a line of a log may hold: no secret, no control character, no end of line, and not too much of anything.

Much of what is logged comes from elsewhere: names that clients chose, what llama.cpp printed, files' own words. Printed
as it is, it could forge further lines or drive the terminal of whoever reads the log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

MOST_CHARS = 2000
"""Of one line: a path and a sentence, several times over. llama.cpp's longest lines have some hundred."""
_MOST_FRAMES = 12
_ROOT = Path(__file__).parent.parent
_SECRETS = (
    # Whole headers, and fields of a request or a settings file. What stands before the secret is kept.
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;]+"), r"\1 ***"),
    (
        re.compile(
            r"(?i)\b(authorization|x-api-key|api[_-]?key|api[_-]?token|clientpasskey|passkey|password|secret)"
            r"(\\?[\"']?\s*[:=]\s*\\?[\"']?)(?!bearer \*|basic \*)[^\s\"',;}]+"
        ),
        r"\1\2***",
    ),
    # Tokens by their own look: LM Studio's and OpenAI's, Hugging Face's, GitHub's; and passwords in addresses.
    (re.compile(r"\bsk-[A-Za-z0-9_:.-]{8,}"), "sk-***"),
    (re.compile(r"\b(hf|gh[opsu]|github_pat)_[A-Za-z0-9_]{16,}"), r"\1_***"),
    (re.compile(r"://[^/\s:@]*:[^/\s@]+@"), "://***@"),
)


def log_text(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` as a line of a log may hold it. `secrets` are taken out wherever they stand."""
    # A secret that lies across the end must be seen whole to be known; what follows it needs no looking at.
    head = text[: 2 * MOST_CHARS]
    # The longest first: one may be a part of another.
    for secret in sorted(secrets, key=len, reverse=True):
        head = head.replace(secret, "***")
    for pattern, instead in _SECRETS:
        head = pattern.sub(instead, head)
    if len(head) > MOST_CHARS or len(text) > 2 * MOST_CHARS:
        head = f"{head[:MOST_CHARS]}… ({len(text):,} characters)"
    return head if head.isprintable() else "".join(map(_visible, head))


def _visible(char: str) -> str:
    # A backslash of the text itself stays: doubled ones would garble every path of Windows.
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def failure_text(failure: BaseException) -> str:
    """What failed and where, on one line, innermost first. Messages are left out: they may quote a prompt or a token.

    Failures of the system are the exception: their words are the system's own, and say what is to be done.
    """
    parts = []
    seen: set[int] = set()
    cause: BaseException | None = failure
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        reason = f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""
        parts.append(f"{type(cause).__name__}{reason}{_frames(cause.__traceback__)}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " | caused by ".join(parts)


def _frames(traceback: TracebackType | None) -> str:
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{_short(code.co_filename)}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    innermost = places[: -_MOST_FRAMES - 1 : -1]
    return f" at {' < '.join(innermost)}" if places else ""


def _short(file: str) -> str:
    path = Path(file)
    return path.relative_to(_ROOT).as_posix() if path.is_relative_to(_ROOT) else path.name


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRates:
    """How much may be written; the rest is counted, and the count is written."""

    repeat_window_s: float = 10.0
    """One line says of a fault that lasts what a thousand would; ten seconds later it may be news again."""
    burst_lines: int = 2000
    """What a start over a folder of broken files, or a load at full detail, writes at once."""
    lines_per_s: float = 100.0
    """Sustained: at 2,000 characters each, far less than any disk takes."""
    known_lines: int = 512
    """Different lines remembered to know a repeat by."""


class LineLimiter:
    """Admits lines, holding back repeats and floods. `now_s` is a clock of the caller's."""

    def __init__(self, rates: LogRates = LogRates()) -> None:
        self._rates = rates
        self._budget = float(rates.burst_lines)
        self._spent_at_s: float | None = None
        self._repeats: dict[str, tuple[float, int]] = {}
        self._held_back = 0

    def admit(self, line: str, now_s: float) -> list[str]:
        """The lines to write now for `line`: itself or not, and what was held back before it."""
        began_s, repeats = self._repeats.get(line, (now_s, -1))
        if repeats >= 0 and now_s - began_s < self._rates.repeat_window_s:
            self._repeats[line] = (began_s, repeats + 1)
            return []
        told = self.due(now_s)
        if len(self._repeats) >= self._rates.known_lines:
            told += self._forget(next(iter(self._repeats)))
        if not self._affordable(now_s):
            self._held_back += 1
            return told
        self._repeats[line] = (now_s, 0)
        if self._held_back:
            told.append(f"warn  {self._held_back:,} lines were left out: there were too many at once")
            self._held_back = 0
        return [*told, line]

    def due(self, now_s: float) -> list[str]:
        """What is to be told of repeats whose time is over."""
        told = []
        # Oldest first, so the first that is still running ends the look.
        for line, (began_s, _) in list(self._repeats.items()):
            if now_s - began_s < self._rates.repeat_window_s:
                break
            told += self._forget(line)
        return told

    def rest(self) -> list[str]:
        """What is still to be told, when no more lines will come."""
        told = [each for line in list(self._repeats) for each in self._forget(line)]
        return [*told, f"warn  {self._held_back:,} lines were left out"] if self._held_back else told

    def _forget(self, line: str) -> list[str]:
        _, repeats = self._repeats.pop(line)
        return [f"{line} (again, {repeats:,} times)"] if repeats else []

    def _affordable(self, now_s: float) -> bool:
        passed_s = 0.0 if self._spent_at_s is None else now_s - self._spent_at_s
        self._spent_at_s = now_s
        self._budget = min(self._rates.burst_lines, self._budget + passed_s * self._rates.lines_per_s)
        if self._budget < 1:
            return False
        self._budget -= 1
        return True
