"""An answer that is to have a shape is checked, as on the command line; one that has not is an error that has it."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

from lmstrix import AsyncLMStrix, Finished, InvalidAnswerError, LMStrix, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix import EmbeddedEngine, StreamEvent

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


class Mood(Enum):
    """A class that pydantic can describe."""

    DULL = "dull"
    GRIM = "grim"


def test_an_answer_of_the_shape(python_engine: EmbeddedEngine) -> None:
    with LMStrix(server=python_engine.address) as lms:
        assert lms.infer("JSON, please", "scripted", json_schema={"enum": ["cheerful"]}).text == '"cheerful"'
        assert lms.infer("JSON, please", "scripted", json_schema=Mood).text in ('"dull"', '"grim"')


def test_the_shape_as_the_command_line_takes_it(python_engine: EmbeddedEngine) -> None:
    with LMStrix(server=python_engine.address) as lms:
        answer = lms.infer("JSON, please", "scripted", json_schema="dry bool", max_tokens=100).text
        assert list(json.loads(answer)) == ["dry"]
        with pytest.raises(UsageError, match="there are str, int, float, bool"):
            lms.infer("JSON, please", "scripted", json_schema="dry boolean")


def test_a_cut_off_answer_is_refused_and_kept(python_engine: EmbeddedEngine, tmp_path: Path) -> None:
    with LMStrix(server=python_engine.address) as lms:
        with pytest.raises(InvalidAnswerError, match="is no JSON") as caught:
            lms.infer("JSON, please", "scripted", json_schema=PERSON, max_tokens=2)
        assert caught.value.text
        assert caught.value.result is not None
        assert caught.value.result.text == caught.value.text
        assert caught.value.result.stats.completion_tokens == 2
        assert "(`max_tokens`)" in str(caught.value)

        events: list[StreamEvent] = []
        with pytest.raises(InvalidAnswerError):
            events.extend(lms.events("JSON, please", "scripted", json_schema=PERSON, max_tokens=2))
        assert isinstance(events[-1], Finished)

        pieces: list[str] = []
        with pytest.raises(InvalidAnswerError) as again:
            pieces.extend(lms.stream("JSON, please", "scripted", json_schema=PERSON, max_tokens=2))
        assert "".join(pieces) == again.value.text

        chat = lms.chat("scripted", json_schema=PERSON, max_tokens=2)
        with pytest.raises(InvalidAnswerError):
            chat.send("JSON, please")
        assert len(chat.messages) == 2

        with pytest.raises(InvalidAnswerError):
            lms.act("JSON, please", "scripted", tools=[], json_schema=PERSON, max_tokens=2)


def test_a_batch_keeps_what_it_rejects(python_engine: EmbeddedEngine, tmp_path: Path) -> None:
    with LMStrix(server=python_engine.address) as lms:
        for _ in range(2):  # asked again each time: a rejected answer is none
            report = lms.batch({"who": "JSON, please"}, "scripted", tmp_path, json_schema=PERSON, max_tokens=2)
            assert [outcome.outcome for outcome in report.outcomes] == ["InvalidAnswerError"]
        assert (tmp_path / "scripted" / "who.txt.rejected").read_text(encoding="utf-8")
        assert not (tmp_path / "scripted" / "who.txt").exists()
        assert lms.batch({"who": "JSON, please"}, "scripted", tmp_path, json_schema={"enum": [1]}).count("ok") == 1


async def test_the_same_on_a_loop(python_engine: EmbeddedEngine) -> None:
    async with AsyncLMStrix(server=python_engine.address) as lms:
        with pytest.raises(InvalidAnswerError):
            await lms.infer("JSON, please", "scripted", json_schema=PERSON, max_tokens=2)


@pytest.mark.parametrize("wrong", [[], {"type": "nonsense"}, 5])
def test_what_is_no_schema_is_refused_before_anything_runs(wrong: Any) -> None:
    with LMStrix(server="127.0.0.1:1") as lms, pytest.raises(UsageError, match="json_schema"):
        lms.infer("hi", "m", json_schema=wrong)
