"""What a server is given: its own over what all are given, whichever way its address is written."""

from __future__ import annotations

import pytest

from lmstrix.ground.access import ServerAccess, access_to
from lmstrix.ground.settings import ServerSettings, Settings


@pytest.mark.parametrize("name", ["far:1234", "http://far", "https://FAR:1234/", "far"])
def test_a_servers_own_settings_are_found_by_its_address(name: str) -> None:
    settings = Settings(api_token="all", retries=4, headers={"A": "1"}, servers={name: ServerSettings(api_token="own")})
    assert access_to(settings, "far:1234") == ServerAccess(api_token="own", headers={"A": "1"}, retries=4)
    assert access_to(settings, "near:1234").api_token == "all"


def test_no_secret_is_in_the_words_for_it() -> None:
    assert "hidden" not in repr(ServerAccess(api_token="hidden", headers={"X": "hidden"}))
