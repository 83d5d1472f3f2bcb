"""Numbers as people write them, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.ground import units
from lmstrix.ground.errors import UsageError


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("4096", 4096), ("32k", 32768), ("1M", 2**20), ("1.5k", 1536), ("16_384", 16384), ("8,192", 8192)],
)
def test_tokens(text: str, tokens: int) -> None:
    assert units.parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "-5", "1.5", "abc", "1e5", "32g", "٣", "0x10", "nan", "k"])
def test_what_is_no_token_count(text: str) -> None:
    with pytest.raises(UsageError):
        units.parse_tokens(text)


@pytest.mark.parametrize(("text", "value"), [("50%", 0.5), ("100%", 1.0), ("4096", 4096), ("12.5%", 0.125)])
def test_tokens_or_ratio(text: str, value: float) -> None:
    found = units.parse_tokens_or_ratio(text)
    assert found == value
    assert isinstance(found, float) == text.endswith("%")


@pytest.mark.parametrize("text", ["0%", "150%", "-5%", "%", "50 %%"])
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(UsageError):
        units.parse_tokens_or_ratio(text)


@pytest.mark.parametrize(
    ("text", "count"), [("512", 512), ("2GiB", 2**31), ("800 MB", 800_000_000), ("1.5g", 3 * 2**29), ("64kib", 65536)]
)
def test_bytes(text: str, count: int) -> None:
    assert units.parse_bytes(text) == count


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("500ms", 0.5), ("10m", 600), ("2h", 7200), ("1.5", 1.5)])
def test_seconds(text: str, seconds: float) -> None:
    assert units.parse_seconds(text) == seconds


@given(st.integers(0, 2**60))
def test_formatted_bytes_are_near_and_parse_again(count: int) -> None:
    again = units.parse_bytes(units.format_bytes(count))
    assert abs(again - count) <= max(1, count * 0.006)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4242, "0.42 s"), (38.4, "38 s"), (200, "3 m 20 s"), (7500, "2 h 05 m")]
)
def test_formatted_seconds(seconds: float | None, text: str) -> None:
    assert units.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "a few seconds"),
        (12, "about 10 s"),
        (54, "about 50 s"),
        (55, "about 1 min"),
        (190, "about 3 min"),
        (22 * 60, "about 20 min"),
        (57 * 60, "about 55 min"),
        (58 * 60, "about 1 h"),
        (100 * 60, "about 1.5 h"),
        (6.4 * 3600, "about 6 h"),
    ],
)
def test_predicted_seconds_are_told_no_finer_than_they_are_known(seconds: float, text: str) -> None:
    assert units.format_about(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "no models"), (1, "1 model"), (2, "2 models"), (1200, "1,200 models")])
def test_a_counted_noun_has_the_number_of_its_count(count: int, text: str) -> None:
    assert units.counted(count, "model") == text
