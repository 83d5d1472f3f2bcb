"""Answers the generators of `HaystackFitter` from a counter at hand, as the prober does from a server's."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from lmstrix.core.recall.haystack import Haystack

T = TypeVar("T")


def counted(fitting: Generator[Haystack, int, T], count: Callable[[Haystack], int]) -> T:
    """What `fitting` returns once every haystack it yields has been counted."""
    try:
        haystack = next(fitting)
        while True:
            haystack = fitting.send(count(haystack))
    except StopIteration as done:
        result: T = done.value
        return result
