"""Which addresses are on this machine."""

from __future__ import annotations

import pytest

from lmstrix.ground.addresses import is_local, is_loopback, local_port


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:41343", True),
        ("localhost:80", True),
        ("[::1]:80", True),
        ("192.0.2.7:41343", False),
        ("example.org:80", False),
        ("127.0.0.1", False),
    ],
)
def test_which_addresses_are_here(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_hosts_and_ports() -> None:
    assert (local_port("[::1]:80"), local_port("127.0.0.1:"), local_port("192.0.2.7:80")) == (80, None, None)
    assert [is_loopback(host) for host in ("127.8.0.1", "::1", "localhost", "0.0.0.0", "studio")] == [True] * 3 + [
        False
    ] * 2
