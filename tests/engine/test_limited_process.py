"""Work in a limited process: its answer, and what becomes of it beyond its limits."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from lmstrix.engine.limited_process import LimitedProcessError, LimitReachedError, ProcessLimits, run_limited
from tests.engine.children import own_children

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = ProcessLimits(memory_bytes=64 * 2**20, cpu_s=1, wall_s=30)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Does what it is asked: Python as a request."""
    path = tmp_path / "script.py"
    path.write_text("def answer(request):\n    return eval(request)\n")
    return path


async def test_the_answer(script: Path) -> None:
    assert await run_limited(script, b"b'x' * 1000", LIMITS) == b"x" * 1000
    assert await run_limited(script, b"b'x' * 2**24", LIMITS) == b"x" * 2**24


async def test_too_much_memory(script: Path) -> None:
    with pytest.raises(LimitReachedError, match="more than 64 MiB"):
        await run_limited(script, b"b'x' * 2**30", LIMITS)


@pytest.mark.skipif(sys.platform == "win32", reason="a job object limits it there")
async def test_too_much_memory_where_nothing_else_limits_it(script: Path) -> None:
    with pytest.raises(LimitReachedError, match="more than 64 MiB"):
        await run_limited(script, b"[b'x' * 2**30, __import__('time').sleep(60)]", LIMITS, guard="watched")
    assert await run_limited(script, b"b'x' * 2**24", LIMITS, guard="watched") == b"x" * 2**24
    assert own_children() == []


@pytest.mark.slow
async def test_too_much_of_the_processor(script: Path) -> None:
    with pytest.raises(LimitReachedError, match="more than 1 s of the processor"):
        await run_limited(script, b"any(iter(int, 1))", LIMITS)


async def test_too_much_time(script: Path) -> None:
    limits = ProcessLimits(memory_bytes=LIMITS.memory_bytes, cpu_s=30, wall_s=0.5)
    with pytest.raises(LimitReachedError, match=r"more than 0\.5 s"):
        await run_limited(script, b"__import__('time').sleep(60)", limits)
    assert own_children() == []


async def test_a_mistake_of_the_script_is_no_limit(script: Path) -> None:
    with pytest.raises(LimitedProcessError):
        await run_limited(script, b"1 / 0", LIMITS)


async def test_cancelled_it_leaves_no_process_behind(script: Path) -> None:
    task = asyncio.create_task(run_limited(script, b"__import__('time').sleep(60)", LIMITS))
    async with asyncio.timeout(30):
        while not own_children():
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task], timeout=30)
    assert task.cancelled()
    assert own_children() == []
