"""A running pool over a models directory of tiny models, and what tests read from predictions."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from lmstrix.engine.catalog import Catalog
from lmstrix.engine.pool import InstancePool
from lmstrix.engine.records import (
    ChatPart,
    ChatTurn,
    FragmentEvent,
    LogEvent,
    PredictionDone,
    PredictionEvent,
    PredictionInput,
    PredictionSettings,
    PredictionStats,
)
from lmstrix.engine.run_folder import RunFolder
from tests.engine.children import own_children
from tests.support.tiny_gguf_scripted import scripted_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path

    from lmstrix.engine.llama.prediction import Prediction

SCRIPTED = "scripted"
_T = TypeVar("_T")


def put(models: Path, source: Path, path: str = "acme/scripted-GGUF/scripted-f16.gguf") -> Path:
    """Place a model file into the directory."""
    target = models / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    return target


def scripted_models(directory: Path) -> Path:
    """A models directory with the scripted model in it."""
    put(directory, scripted_model(context_length=65536))
    return directory


@asynccontextmanager
async def running_pool(
    models: Path, *, logs: list[LogEvent] | None = None, **options: int | float | None
) -> AsyncIterator[InstancePool]:
    """A started pool, closed at the end; then no child of this process may be left."""
    log = (lambda event: None) if logs is None else logs.append
    pool = InstancePool(Catalog(models), run_folder=RunFolder(), on_log=log, **options)  # type: ignore[arg-type]
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()
    assert own_children() == []


def noting(values: list[_T]) -> Callable[[_T], Awaitable[None]]:
    """A callback that keeps what it is told."""

    async def note(value: _T) -> None:
        values.append(value)

    return note


def user(text: str) -> ChatTurn:
    """A user's message."""
    return ChatTurn(role="user", parts=(ChatPart(type="text", text=text),))


def asking(text: str, **settings: object) -> PredictionInput:
    """A chat of one message; overflow is an error unless told otherwise."""
    settings.setdefault("overflow_policy", "stopAtLimit")
    return PredictionInput(turns=(user(text),), settings=PredictionSettings(**settings))  # type: ignore[arg-type]


async def collect(prediction: Prediction) -> list[PredictionEvent]:
    """All events."""
    return [event async for event in prediction]


def text_of(events: Iterable[PredictionEvent], kind: str = "none") -> str:
    """The text of one kind."""
    return "".join(e.text for e in events if isinstance(e, FragmentEvent) and e.reasoning_type == kind)


def stats_of(events: list[PredictionEvent]) -> PredictionStats:
    """The figures at the end."""
    assert isinstance(events[-1], PredictionDone)
    return events[-1].stats
