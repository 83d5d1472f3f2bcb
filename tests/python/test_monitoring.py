"""`monitor` from Python: looks that come while they are asked for, and end when they are left."""

from __future__ import annotations

import threading
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from lmstrix import AsyncLMStrix, BackendUnavailableError, LMStrix, MonitorSnapshot, UsageError
from tests.support.faulty_server import closed_port

if TYPE_CHECKING:
    from lmstrix import EmbeddedEngine


def test_looks_show_what_the_server_holds_and_does(python_engine: EmbeddedEngine) -> None:
    with LMStrix(server=python_engine.address) as lms:
        lms.scan()
        threads = threading.active_count()
        looks = lms.monitor(interval_s=0.2)
        first = next(looks)
        assert isinstance(first, MonitorSnapshot)
        assert first.server == f"the embedded engine at {python_engine.address}"
        assert first.problem is None
        assert first.reading is not None
        assert first.machine is not None
        loaded = lms.load("scripted", 512)
        # What happens between two looks is in the next one: none is made before it is asked for.
        found = next(looks).reading
        assert found is not None
        assert (loaded.instance_id, 512) in [(model.instance_id, model.context_length) for model in found.models]
        lms.infer("2+3=", "scripted")
        found = next(looks).reading
        assert found is not None
        (model,) = [model for model in found.models if model.instance_id == loaded.instance_id]
        assert model.decode_tokens_per_second is not None
        lms.unload(loaded.instance_id)
        looks.close()
        assert list(looks) == []
        assert threading.active_count() <= threads + 1


async def test_looks_on_an_event_loop(python_engine: EmbeddedEngine) -> None:
    async with AsyncLMStrix(server=python_engine.address) as lms, aclosing(lms.monitor(0.2)) as looks:
        seen = []
        async for look in looks:
            seen.append(look)
            if len(seen) == 2:
                break
        assert seen[0].at < seen[1].at
        assert all(look.problem is None for look in seen)


def test_what_cannot_be_watched_is_said() -> None:
    with LMStrix(server=f"127.0.0.1:{closed_port()}") as lms:
        with pytest.raises(BackendUnavailableError, match="no server answers"):
            next(lms.monitor())
        with pytest.raises(UsageError, match="interval_s"):
            next(lms.monitor(0.0))
