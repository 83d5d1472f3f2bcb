"""What llama.cpp streams becomes events, whatever a model writes."""

from __future__ import annotations

import pytest

from lmstrix.engine.llama.events import ToolStreamReader
from lmstrix.engine.records import ToolCallEndEvent, ToolCallFailedEvent


def call_of(arguments: str) -> ToolCallEndEvent | ToolCallFailedEvent:
    """How a tool call with these arguments ends."""
    call = {"index": 0, "id": "c1", "function": {"name": "divide", "arguments": arguments}}
    reader = ToolStreamReader(start_tag=None, end_tag=None)
    *_, last = reader.feed([{"choices": [{"delta": {"tool_calls": [call]}}]}]) + reader.flush()
    assert isinstance(last, ToolCallEndEvent | ToolCallFailedEvent)
    return last


def test_arguments_are_read() -> None:
    ended = call_of('{"numerator": 1e3, "text": "\\u00e9"}')
    assert isinstance(ended, ToolCallEndEvent)
    assert ended.arguments == {"numerator": 1000.0, "text": "é"}


@pytest.mark.parametrize(
    "arguments",
    [
        '{"n": 1e999}',
        '{"n": ' + "9" * 400 + ".0}",
        '{"n": ' + "9" * 5000 + "}",
        '{"n": NaN}',
        '{"s": "\\ud800"}',
        "[1]",
        "{",
    ],
    ids=["infinite", "long fraction", "long whole", "no number", "half a character", "no object", "cut short"],
)
def test_arguments_that_cannot_be_passed_on_fail_the_call_alone(arguments: str) -> None:
    failed = call_of(arguments)
    assert isinstance(failed, ToolCallFailedEvent)
    assert failed.raw == arguments
