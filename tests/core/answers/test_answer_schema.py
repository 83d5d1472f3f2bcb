"""What is no JSON, however it fails to be read, is an answer that does not fit, not a fault of ours."""

from __future__ import annotations

import pytest

from lmstrix.core.answers.answer_schema import schema_of_mapping
from lmstrix.ground.errors import InvalidAnswerError


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000])
def test_an_answer_that_cannot_be_read_is_told_with_its_text(text: str) -> None:
    with pytest.raises(InvalidAnswerError, match="the answer is no JSON, which mine asks for") as caught:
        schema_of_mapping({"type": "object"}, name="mine").read(text)
    assert caught.value.text == text
