"""What a server is given: its own over what all are given, whichever way its address is written."""

from __future__ import annotations

import pytest

from lmstrix.ground.access import ServerAccess, access_to
from lmstrix.ground.errors import SettingsError
from lmstrix.ground.settings import ServerSettings, Settings


@pytest.mark.parametrize("name", ["far:1234", "http://far", "https://FAR:1234/", "far"])
def test_a_servers_own_settings_are_found_by_its_address(name: str) -> None:
    settings = Settings(api_token="all", retries=4, headers={"A": "1"}, servers={name: ServerSettings(api_token="own")})
    assert access_to(settings, "far:1234") == ServerAccess(api_token="own", headers={"A": "1"}, retries=4)
    assert access_to(settings, "near:1234").api_token == "all"


def test_no_secret_is_in_the_words_for_it() -> None:
    assert "hidden" not in repr(ServerAccess(api_token="hidden", headers={"X": "hidden"}))


@pytest.mark.parametrize("headers", [{"X-A": "a\nb"}, {"X B": "a"}, {"X:": "a"}, {"": "a"}, {"X": "hid\u017e"}])
def test_a_header_that_cannot_be_sent_is_named_and_its_value_is_not(headers: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"the header '.*' for far:1 cannot be sent") as caught:
        access_to(Settings(headers=headers), "far:1")
    assert "hid" not in str(caught.value)


def test_a_token_of_two_lines_is_refused() -> None:
    with pytest.raises(SettingsError, match="the token for far:1 cannot be sent") as caught:
        access_to(Settings(api_token="sk-lm-1\nX-Evil: 1"), "far:1")
    assert "sk-lm" not in str(caught.value)
    assert access_to(Settings(api_token="sk-lm-12345678:abc", headers={"X-Custom-Auth": "Basic a=="}), "far:1").headers
