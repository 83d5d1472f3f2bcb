"""The one place that makes HTTP clients (headers, token, proxies, certificates), and reads of a page with retries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.api.retry import with_retries
from lmstrix.ground.addresses import is_loopback

if TYPE_CHECKING:
    import httpx

_KEPT_CONNECTIONS = 16
_COME_BACK = frozenset((502, 503, 504))  # the server says that it is not ready yet


def open_http(
    base_url: str, *, token: str | None = None, connect_s: float | None = None, proxies: bool = False
) -> httpx.AsyncClient:
    """A client for one server; close it. Once connected, its requests have no time limit: callers set their own.

    With `proxies`, requests go through the proxies that the environment names, except to this machine. Each request to
    this machine has a connection of its own, because servers close idle ones on their side; to other machines they are
    kept, which spares a handshake.
    """
    import ssl

    import httpx

    url = httpx.URL(base_url)
    near = is_loopback(url.host)
    proxies = proxies and not near
    # Reading the system's certificates takes 30 ms, and plain http needs none: this context trusts nobody.
    plain = url.scheme == "http"
    certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else httpx.create_ssl_context(trust_env=proxies)
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=httpx.Timeout(None, connect=connect_s),
        limits=httpx.Limits(max_keepalive_connections=0 if near else _KEPT_CONNECTIONS),
        verify=certificates,
        trust_env=proxies,
    )


async def read(client: httpx.AsyncClient, path: str, *, limit_s: float | None) -> httpx.Response:
    """The answer to a GET, whatever it is. A connection that breaks and a server that is not ready are asked again.

    Raises httpx.TransportError, httpx.HTTPStatusError for a server that never got ready, TimeoutError after `limit_s`.
    """

    async def get() -> httpx.Response:
        response = await client.get(path)
        if response.status_code in _COME_BACK:
            response.raise_for_status()
        return response

    return await with_retries(get, passes=is_passing, limit_s=limit_s)


def is_passing(failure: BaseException) -> bool:
    """Whether another attempt may work. A connect error stays: a port that refused has no listener a moment later."""
    import httpx

    lost = isinstance(failure, httpx.TransportError) and not isinstance(failure, httpx.ConnectError)
    return lost or isinstance(failure, httpx.HTTPStatusError)


def is_refused(failure: BaseException | None) -> bool:
    """Whether the port refused the connection; a connect error carries the reason some causes further down."""
    while failure is not None:
        if isinstance(failure, ConnectionRefusedError):
            return True
        if isinstance(failure, BaseExceptionGroup):  # a name with several addresses
            return all(map(is_refused, failure.exceptions))
        failure = failure.__cause__ or failure.__context__
    return False
