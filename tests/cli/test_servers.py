"""Servers behind TLS, and what each is sent: by the address on the command line and the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder
from tests.support.tls_front import CERTIFICATE, TlsFront

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer


@pytest.fixture
def front(faulty: FaultyServer) -> Iterator[TlsFront]:
    with TlsFront(faulty.address) as listening:
        yield listening


@pytest.fixture
def config(home: Path) -> Path:
    own_folder(home).mkdir(parents=True)
    return own_folder(home) / "config.toml"


def test_an_https_server_answers_with_its_certificate_named(
    cli: Callable[..., Ran], front: TlsFront, config: Path
) -> None:
    config.write_text(f"[server]\nca_file = '{CERTIFICATE}'\nheaders = {{ X-Custom-Auth = 'open sesame' }}\n")
    answer = cli("infer", "hello", "--server", front.address, "--json").ok().json
    assert answer["text"]
    assert all("x-custom-auth: open sesame" in head.lower() for head in front.heads)
    assert any("upgrade: websocket" in head.lower() for head in front.heads)


def test_a_certificate_that_nobody_vouches_for_is_told(cli: Callable[..., Ran], front: TlsFront, config: Path) -> None:
    cli("ps", "--server", front.address).failed(3, "has a certificate that is not trusted", "server.ca_file")
    assert front.heads == []
    config.write_text("[server]\nca_file = 'nowhere.pem'\n")
    cli("ps", "--server", front.address).failed(2, "the certificates in nowhere.pem cannot be read")
    config.write_text("[server]\nverify_tls = false\n")
    cli("ps", "--server", front.address).ok()


def test_a_server_is_given_what_is_its_own(cli: Callable[..., Ran], front: TlsFront, config: Path) -> None:
    config.write_text(
        "[server]\nheaders = { X-All = '1' }\n[servers.'https://elsewhere:1']\nheaders = { X-Other = '1' }\n"
        f"[servers.'{front.address}']\nverify_tls = false\nheaders = {{ X-Own = '1' }}\n"
    )
    cli("ps", "--server", front.address).ok()
    for head in front.heads:
        assert ("x-own: 1" in head.lower(), "x-all: 1" in head.lower(), "x-other" in head.lower()) == (
            True,
            True,
            False,
        )


def test_headers_go_to_plain_servers_too(cli: Callable[..., Ran], faulty: FaultyServer, config: Path) -> None:
    config.write_text("[server]\nheaders = { X-Custom-Auth = 'open sesame' }\n")
    cli("infer", "hello", "--server", faulty.address).ok()
