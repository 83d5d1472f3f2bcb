"""What is fetched from an address, and what is refused: too much, too slow, led elsewhere, or told too much."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from lmstrix.api import download as downloads
from lmstrix.api.download import DownloadLimits, download
from lmstrix.ground.errors import LMStrixError, UsageError
from tests.support.tls_front import CERTIFICATE, TlsFront
from tests.support.web import Page, Web

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOM = 1000


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        yield server


def _redirect(place: str, status: int = 302) -> Page:
    return Page(status=status, headers={"Location": place})


async def test_what_is_there_comes_without_anything_of_the_user(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTRIX_API_TOKEN", "sk-secret")
    web.pages["/a"] = Page(body=b"x" * ROOM, headers={"Set-Cookie": "a=b"})
    web.pages["/b"] = _redirect("/a?c=d")
    assert await download(f"{web.address}/a?q=1", max_bytes=ROOM) == b"x" * ROOM
    assert await download(f"{web.address}/b", max_bytes=ROOM) == b"x" * ROOM
    assert [path for path, _ in web.asked] == ["/a?q=1", "/b", "/a?c=d"]
    for _, headers in web.asked:
        assert headers["User-Agent"].startswith("lmstrix/")
        assert {"Authorization", "Cookie", "Referer"}.isdisjoint(headers)


@pytest.mark.parametrize("counted", [True, False])
async def test_no_more_than_the_limit_is_taken(web: Web, counted: bool) -> None:
    web.pages["/a"] = Page(body=b"x" * 5_000_000, counted=counted)
    with pytest.raises(LMStrixError, match="/a has more than 1000 B"):
        await download(f"{web.address}/a?key=secret", max_bytes=ROOM)


async def test_nothing_is_unpacked(web: Web) -> None:
    web.pages["/a"] = Page(body=gzip.compress(bytes(5_000_000)), headers={"Content-Encoding": "gzip"})
    with pytest.raises(LMStrixError, match="is sent packed"):
        await download(f"{web.address}/a", max_bytes=10_000_000)


async def test_what_takes_too_long_ends(web: Web) -> None:
    web.pages["/a"] = Page(body=b"x", pause=True)
    with pytest.raises(LMStrixError, match=r"was not there after 0\.2 s"):
        await download(f"{web.address}/a", max_bytes=ROOM, limits=DownloadLimits(total_s=0.2))


async def test_a_redirect_leads_to_no_private_address(web: Web) -> None:
    web.pages["/secret"] = Page(body=b"x")
    # The user wrote 127.0.0.1, so that itself may redirect to itself; localhost is another name.
    for place in (f"http://localhost:{web.port}/secret", f"http://[::ffff:127.0.0.1]:{web.port}/secret"):
        web.pages["/a"] = _redirect(place)
        with pytest.raises(LMStrixError, match="an address of this machine or of a private network"):
            await download(f"{web.address}/a", max_bytes=ROOM)
    assert {path for path, _ in web.asked} == {"/a"}


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "169.254.169.254", "192.168.1.1", "::1", "fe80::1%eth0", "fd00::1", "0.0.0.0", "224.0.0.1"],
)
def test_private_addresses_are_known(address: str) -> None:
    assert not downloads._is_public(address)


async def test_a_redirect_goes_to_the_address_that_was_checked(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.pages["/a"] = _redirect(f"http://localhost:{web.port}/b")
    web.pages["/b"] = Page(body=b"there")

    async def checked(*_: object) -> str:
        return "127.0.0.1"

    monkeypatch.setattr(downloads, "_public_address", checked)
    assert await download(f"{web.address}/a", max_bytes=ROOM) == b"there"
    assert web.asked[-1][1]["Host"] == f"localhost:{web.port}"


async def test_redirects_end(web: Web) -> None:
    web.pages["/a"] = _redirect("/a")
    with pytest.raises(LMStrixError, match="redirects more than 5 times"):
        await download(f"{web.address}/a", max_bytes=ROOM)
    assert len(web.asked) == 6


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://example.org/a", "http://user:key@127.0.0.1/a"])
async def test_a_redirect_leads_to_nothing_but_the_web(web: Web, place: str) -> None:
    web.pages["/a"] = _redirect(place)
    with pytest.raises(UsageError, match="/a redirects to what"):
        await download(f"{web.address}/a", max_bytes=ROOM)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://me:secret@example.org/a", r"^https://example.org/a has a name or password in it"),
        ("http://", "is no http or https address"),
        ("ftp://example.org/a", "is no http or https address"),
        ("http://a\n.org/", "is no web address"),
    ],
)
async def test_what_is_no_address(address: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        await download(address, max_bytes=ROOM)
    assert "secret" not in str(caught.value)


async def test_what_fails_is_told_with_its_reason(web: Web) -> None:
    with pytest.raises(LMStrixError, match=r"/gone answers 404 Not Found; check the address"):
        await download(f"{web.address}/gone", max_bytes=ROOM)
    with pytest.raises(LMStrixError, match="cannot be fetched: nothing listens there"):
        await download("http://127.0.0.1:9/a", max_bytes=ROOM)


async def test_https_and_its_certificates(web: Web) -> None:
    web.pages["/a"] = Page(body=b"x", headers={"Connection": "close"})
    with TlsFront(f"127.0.0.1:{web.port}") as front:
        assert await download(f"{front.address}/a", max_bytes=ROOM, ca_file=str(CERTIFICATE)) == b"x"
        with pytest.raises(LMStrixError, match="its certificate does not hold"):
            await download(f"{front.address}/a", max_bytes=ROOM)


async def test_a_certificate_is_checked_for_the_name_and_not_for_the_address(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def checked(*_: object) -> str:
        return "127.0.0.1"

    monkeypatch.setattr(downloads, "_public_address", checked)
    web.pages["/b"] = Page(body=b"x", headers={"Connection": "close"})
    with TlsFront(f"127.0.0.1:{web.port}") as front:
        # The certificate is for 127.0.0.1, where this connects, and for localhost.
        web.pages["/a"] = _redirect(front.address.replace("127.0.0.1", "elsewhere.example") + "/b")
        with pytest.raises(LMStrixError, match="its certificate does not hold"):
            await download(f"{web.address}/a", max_bytes=ROOM, ca_file=str(CERTIFICATE))
        web.pages["/a"] = _redirect(front.address.replace("127.0.0.1", "localhost") + "/b")
        assert await download(f"{web.address}/a", max_bytes=ROOM, ca_file=str(CERTIFICATE)) == b"x"
    assert [path for path, _ in web.asked] == ["/a", "/a", "/b"]
