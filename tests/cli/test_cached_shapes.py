"""An answer that is not of the shape that was asked for is not taken from the cache, and not put there."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from pydantic import BaseModel, field_validator

from lmstrix import LMStrix
from lmstrix.ground.errors import InvalidAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

MODEL = "acme/tiny"
ASK = ("infer", "hi", "-m", MODEL, "--cache", "--quiet", "--schema", "age int")


def answering(faulty: FaultyServer, text: str) -> None:
    fragment = {"content": text, "tokensCount": 1, "containsDrafted": False, "reasoningType": "none"}
    faulty.script = [{"type": "fragment", "fragment": fragment | {"isStructural": False}}]


def test_a_wrong_answer_is_asked_again(cli: Callable[..., Ran], faulty: FaultyServer) -> None:
    answering(faulty, '{"age": "old"}')
    for _ in range(2):
        assert cli(*ASK).code == 1
    assert sum(frame.get("endpoint") == "predict" for _, frame in faulty.seen) == 2
    answering(faulty, '{"age": 7}')
    assert cli(*ASK).ok().out == '{"age": 7}\n'
    answering(faulty, '{"age": 8}')
    assert cli(*ASK).ok().out == '{"age": 7}\n'


class Person(BaseModel):
    most: ClassVar[int] = 99
    age: int

    @field_validator("age")
    @classmethod
    def check_age(cls, age: int) -> int:
        if age > cls.most:
            raise ValueError("too old")
        return age


def test_what_was_cached_and_is_refused_now_is_asked_again(
    home: Path, faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(faulty, '{"age": 70}')
    with LMStrix(server=faulty.address) as lms:
        lms.infer("hi", MODEL, cache=True, json_schema=Person)
        monkeypatch.setattr(Person, "most", 50)
        answering(faulty, '{"age": 80}')
        with pytest.raises(InvalidAnswerError, match="too old"):
            lms.infer("hi", MODEL, cache=True, json_schema=Person)
        answering(faulty, '{"age": 40}')
        assert lms.infer("hi", MODEL, cache=True, json_schema=Person).text == '{"age": 40}'
