"""What stands at a web address that the user wrote: one GET, bounded in size and time.

Nothing that belongs to the user goes along: no token, no cookie, no password. The address may be of this machine or of
a private network, because the user wrote it; a redirect may lead to public addresses only, or stay where it was. Such a
redirect is followed to the address that was checked, so that a name server cannot change its mind in between.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from lmstrix.api.http_client import certificate_fault, is_refused, open_http
from lmstrix.ground.access import ServerAccess
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.units import format_bytes
from lmstrix.ground.version import __version__

if TYPE_CHECKING:
    import httpx

_REDIRECTS = frozenset((301, 302, 303, 307, 308))


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadLimits:
    """How long and how far to go for one address."""

    connect_s: float = 10.0  # what the web's servers answer within, many times over
    total_s: float = 60.0  # 20 MiB, the most that an image may have, at 3 Mbit/s
    redirects: int = 5  # http to https, the bare name to www, a short link: three are usual


LIMITS = DownloadLimits()


async def download(
    address: str, *, max_bytes: int, ca_file: str | None = None, limits: DownloadLimits = LIMITS
) -> bytes:
    """The bytes at an http or https address. Raises UsageError for what is no such address, LMStrixError otherwise."""
    import httpx

    url = written = _url(address)
    shown = _shown(written)
    try:
        async with asyncio.timeout(limits.total_s):
            for _ in range(limits.redirects + 1):
                pinned = None if _origin(url) == _origin(written) else await _public_address(url, shown)
                found = await _get(url, pinned, shown, max_bytes, ca_file, limits)
                if isinstance(found, bytes):
                    return found
                url = found
    except TimeoutError as exc:
        raise LMStrixError(f"{shown} was not there after {limits.total_s:g} s; download it and give the file") from exc
    except httpx.HTTPError as exc:
        raise LMStrixError(f"{shown} cannot be fetched: {_reason(exc)}; check the address") from exc
    raise LMStrixError(f"{shown} redirects more than {limits.redirects} times; download it and give the file")


async def _get(
    url: httpx.URL, pinned: str | None, shown: str, max_bytes: int, ca_file: str | None, limits: DownloadLimits
) -> bytes | httpx.URL:
    """What is there, or where it redirects to."""
    headers = {"User-Agent": f"lmstrix/{__version__}", "Accept-Encoding": "identity"}
    target, extensions = url, {}
    if pinned is not None:
        headers["Host"] = url.netloc.decode("ascii")
        target, extensions = url.copy_with(host=pinned), {"sni_hostname": url.host}
    access = ServerAccess(ca_file=ca_file)
    async with (
        open_http(str(target), access=access, connect_s=limits.connect_s, proxies=True) as client,
        client.stream("GET", target, headers=headers, extensions=extensions) as response,
    ):
        if response.status_code in _REDIRECTS and "location" in response.headers:
            return _url(str(url.join(response.headers["location"])), via=shown)
        if response.status_code != 200:
            phrase = f"{response.status_code} {response.reason_phrase}".strip()
            raise LMStrixError(f"{shown} answers {phrase}; check the address")
        # A small body may unpack to gigabytes, so none is unpacked; servers send what was asked for.
        if response.headers.get("content-encoding", "identity") != "identity":
            raise LMStrixError(f"{shown} is sent packed though it was not asked to be; download it and give the file")
        return await _body(response, shown, max_bytes)


async def _body(response: httpx.Response, shown: str, max_bytes: int) -> bytes:
    declared = response.headers.get("content-length", "")
    data = bytearray()
    too_long = declared.isdecimal() and int(declared) > max_bytes
    if not too_long:
        # Counted, whatever was declared: a server may say nothing, or what is not true.
        async for chunk in response.aiter_raw():
            data += chunk
            too_long = len(data) > max_bytes
            if too_long:
                break
    if too_long:
        raise LMStrixError(f"{shown} has more than {format_bytes(max_bytes)}, which is the most that is fetched")
    return bytes(data)


def _url(address: str, via: str | None = None) -> httpx.URL:
    import httpx

    what = address if via is None else f"{via} redirects to what"
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, UnicodeError) as exc:
        raise UsageError(f"{what} is no web address ({exc})") from exc
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(f"{what} is no http or https address")
    if url.userinfo:
        if via is None:
            what = _shown(url)
        raise UsageError(f"{what} has a name or password in it, which is not sent; download it and give the file")
    return url


async def _public_address(url: httpx.URL, shown: str) -> str:
    """An address of the host. Raises LMStrixError when one of them is this machine's or of a private network."""
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise LMStrixError(f"{shown} redirects to {url.host}, which has no address") from exc
    addresses = [str(each[4][0]) for each in found]
    for address in addresses:
        if not _is_public(address):
            raise LMStrixError(
                f"{shown} redirects to {url.host}, which is {address}, an address of this machine or of a private "
                "network; give that address itself if you trust it"
            )
    return addresses[0]


def _is_public(address: str) -> bool:
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _shown(url: httpx.URL) -> str:
    """The address as messages name it: what follows the ? is often a key."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def _reason(failure: httpx.HTTPError) -> str:
    fault = certificate_fault(failure)
    if fault is not None:
        return f"its certificate does not hold ({fault})"
    return "nothing listens there" if is_refused(failure) else str(failure) or type(failure).__name__
