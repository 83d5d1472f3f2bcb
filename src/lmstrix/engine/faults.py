"""Failures as clients are shown them, and those that more than one place raises. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmstrix.ground.types import MemoryShortage

FaultKind: TypeAlias = Literal[
    "not_found",
    "refused",
    "load_failed",
    "crashed",
    "overflow",
    "unloaded",
    "cancelled",
    "invalid",
    "timeout",
    "unsupported",
    "not_implemented",
    "internal",
]
SAMPLE_SIZE: Final = 5
"""How many names a "not found" lists: enough to see a typing error, short enough for one line."""


class EngineFault(Exception):  # noqa: N818 - a failure to be shown, not one of our error classes
    """A failure in the shape LM Studio shows it; the websocket and REST turn it into their own error bodies.

    `kind` is ours: REST chooses the status code by it. `title` alone makes the message, `cause` is llama.cpp's text.
    `shortage` is there where the system ended a model for lack of memory.
    """

    def __init__(
        self,
        title: str,
        *,
        kind: FaultKind,
        cause: str | None = None,
        suggestion: str | None = None,
        error_data: Mapping[str, Any] | None = None,
        display_data: Mapping[str, Any] | None = None,
        shortage: MemoryShortage | None = None,
    ) -> None:
        super().__init__(title)
        self.title = title
        self.kind: FaultKind = kind
        self.cause = cause
        self.suggestion = suggestion
        self.error_data = error_data
        self.display_data = display_data
        self.shortage = shortage


def unloaded_fault() -> EngineFault:
    """The instance that was meant has been unloaded."""
    return EngineFault("Model is unloaded.", kind="unloaded", display_data={"code": "generic.specificModelUnloaded"})


def nothing_loaded_fault(
    title: str, *, query: Mapping[str, Any], loaded: Sequence[str], suggestion: str
) -> EngineFault:
    """None of the `loaded` instances answers to `query`."""
    return EngineFault(
        title,
        kind="not_found",
        suggestion=suggestion,
        display_data={
            # The official Python SDK raises its "model not found" by this code, and only if no field is missing.
            "code": "generic.noModelMatchingQuery",
            "query": query,
            "loadedModelsSample": list(loaded[:SAMPLE_SIZE]),
            "totalLoadedModels": len(loaded),
        },
    )
