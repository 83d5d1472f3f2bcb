"""What a benchmark's session is called: its date and time, as its report's folder is, and letters of its own.

    20261122-0845-3f9a1c

Sessions of earlier versions are 32 hexadecimal digits; both begin and end as no other does.
"""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

_OWN = 6  # hexadecimal digits: two of ten sessions in one minute share them once in 370,000 times


def new_session() -> str:
    """A name that sorts by time, and that no other session has."""
    return f"{datetime.now().astimezone():%Y%m%d-%H%M}-{uuid4().hex[:_OWN]}"


def own_letters(session: str) -> str:
    """What tells it apart from the others of its minute."""
    return session[-_OWN:]
