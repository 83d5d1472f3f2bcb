"""A session is named by when it began."""

from __future__ import annotations

import re

from lmstrix.core.benchmark.session_names import new_session, own_letters
from lmstrix.core.benchmark.visit import instance_prefix


def test_a_session_is_named_by_its_date_and_is_told_apart_by_its_end() -> None:
    names = [new_session() for _ in range(20)]
    assert all(re.fullmatch(r"20\d{6}-\d{4}-[0-9a-f]{6}", name) for name in names)
    assert len({own_letters(name) for name in names}) == 20
    # Instances of two benchmarks at one server begin otherwise, also of one minute.
    assert len({instance_prefix(name) for name in names}) == 20
