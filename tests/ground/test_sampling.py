"""One list of how tokens are drawn: each field of it can be asked for everywhere, and reaches llama.cpp unchanged."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import pytest

from lmstrix.api.convert import prediction_parameters
from lmstrix.cli.options import ContextOptions, SamplingOptions, TimeoutOptions, answer_request
from lmstrix.cli.signatures import options_of
from lmstrix.engine.llama.request import sampling_fields
from lmstrix.engine.protocol.prediction_config import prediction_request
from lmstrix.ground.ranges import RANGES
from lmstrix.ground.sampling import SAMPLING_FIELDS, Sampling, sampling_of
from lmstrix.python.options import SamplingKeywords
from lmstrix.service.answering import generation_request

VALUES = {name: RANGES[name].most if RANGES[name].whole else 0.5 for name in SAMPLING_FIELDS}


def test_each_field_is_a_number_that_may_be_left_out() -> None:
    assert set(get_type_hints(Sampling).values()) == {int | None, float | None}
    assert all(each.default is None for each in fields(Sampling))


def test_the_fields_of_sampling_are_taken_from_a_record_that_has_more() -> None:
    assert sampling_of(SamplingOptions(temperature=0.5, stop=["x"])) == dict.fromkeys(SAMPLING_FIELDS) | {
        "temperature": 0.5
    }


@pytest.mark.parametrize("name", SAMPLING_FIELDS)
def test_each_field_is_an_option_with_help_and_range_and_a_keyword(name: str) -> None:
    option = next(each for each in options_of(SamplingOptions) if each.name == name)
    assert option.help
    assert option.range is RANGES[name]
    assert name in SamplingKeywords.__optional_keys__


def test_what_is_asked_for_reaches_llama_cpp_as_it_was_asked() -> None:
    options = SamplingOptions(**VALUES)  # type: ignore[arg-type]  # int or float, as each range says
    request = generation_request(answer_request(ContextOptions(), options, TimeoutOptions()))
    read = prediction_request(prediction_parameters({}, request, {})["predictionConfigStack"])
    assert not read.ignored_keys
    assert sampling_of(read.settings) == VALUES
    assert sampling_fields(read.settings) == VALUES
