"""The one place that makes HTTP clients (headers, token, proxies, certificates), and reads of a page with retries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.api.retry import with_retries
from lmstrix.ground.access import ANY_SERVER, ServerAccess
from lmstrix.ground.addresses import is_loopback
from lmstrix.ground.errors import SettingsError

if TYPE_CHECKING:
    import ssl

    import httpx

_KEPT_CONNECTIONS = 16
_COME_BACK = frozenset((502, 503, 504))  # the server says that it is not ready yet


def open_http(
    base_url: str, *, access: ServerAccess = ANY_SERVER, connect_s: float | None = None, proxies: bool = False
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
    certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else _certificates(access, trust_env=proxies)
    return httpx.AsyncClient(
        base_url=url,
        headers={**access.headers, **({"Authorization": f"Bearer {access.api_token}"} if access.api_token else {})},
        timeout=httpx.Timeout(None, connect=connect_s if connect_s is not None else access.connect_s),
        limits=httpx.Limits(max_keepalive_connections=0 if near else _KEPT_CONNECTIONS),
        verify=certificates,
        trust_env=proxies,
    )


def _certificates(access: ServerAccess, *, trust_env: bool) -> ssl.SSLContext:
    import ssl

    import httpx

    if not access.verify_tls:
        return httpx.create_ssl_context(verify=False, trust_env=trust_env)
    if access.ca_file is None:
        return httpx.create_ssl_context(trust_env=trust_env)
    file = Path(access.ca_file).expanduser()
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as exc:  # SSLError, of a file that holds none, is one
        raise SettingsError(f"the certificates in {file} cannot be read ({exc.strerror or exc})") from exc


async def read(
    client: httpx.AsyncClient, path: str, *, limit_s: float | None, retries: int | None = None
) -> httpx.Response:
    """The answer to a GET, whatever it is. A connection that breaks and a server that is not ready are asked again.

    Raises httpx.TransportError, httpx.HTTPStatusError for a server that never got ready, TimeoutError after `limit_s`.
    """

    async def get() -> httpx.Response:
        response = await client.get(path)
        if response.status_code in _COME_BACK:
            response.raise_for_status()
        return response

    return await with_retries(get, passes=is_passing, limit_s=limit_s, retries=retries)


def is_passing(failure: BaseException) -> bool:
    """Whether another attempt may work. A connect error stays: a port that refused has no listener a moment later."""
    import httpx

    lost = isinstance(failure, httpx.TransportError) and not isinstance(failure, httpx.ConnectError)
    return lost or isinstance(failure, httpx.HTTPStatusError)


def certificate_fault(failure: BaseException | None) -> str | None:
    """What is wrong with the server's certificate, where that is why there is no connection."""
    import ssl

    while failure is not None:
        if isinstance(failure, ssl.SSLCertVerificationError):
            return failure.verify_message
        failure = failure.__cause__ or failure.__context__
    return None


def is_refused(failure: BaseException | None) -> bool:
    """Whether the port refused the connection; a connect error carries the reason some causes further down."""
    while failure is not None:
        if isinstance(failure, ConnectionRefusedError):
            return True
        if isinstance(failure, BaseExceptionGroup):  # a name with several addresses
            return all(map(is_refused, failure.exceptions))
        failure = failure.__cause__ or failure.__context__
    return False
