"""How a server is reached: the token and headers it is sent, whose certificates count, how often to try."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmstrix.ground.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.ground.settings import Settings

_HEADER_LINE = re.compile(r"[\w!#$%&'*+.^`|~-]+: [\t\x20-\x7e]*", re.ASCII)
"""RFC 9110, 5.1 and 5.5, less the bytes beyond ASCII, which two servers read in two ways."""
_PORTS = (1234, 443)
"""What an address means that names no port: over http, over https."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAccess:
    """None stands for what is usual: no token, the system's certificates, the limits of whoever asks."""

    api_token: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify_tls: bool = True
    ca_file: str | None = None
    connect_s: float | None = None
    retries: int | None = None


ANY_SERVER = ServerAccess()


def access_to(settings: Settings, address: str) -> ServerAccess:
    """What the settings say of the server at `address`: what is given to it alone, over what all are given."""
    own = next((each for name, each in settings.servers.items() if _same(name, address)), None)
    verify_tls = own.verify_tls if own is not None else None
    api_token = own.api_token if own is not None and own.api_token is not None else settings.api_token
    headers = {**settings.headers, **(own.headers if own is not None else {})}
    for name, value in headers.items():
        _check(f"the header {name!r} for {address}", f"{name}: {value}")
    _check(f"the token for {address}", f"Authorization: {api_token or 'x'}")
    return ServerAccess(
        api_token=api_token,
        headers=headers,
        verify_tls=settings.verify_tls if verify_tls is None else verify_tls,
        ca_file=own.ca_file if own is not None and own.ca_file is not None else settings.ca_file,
        connect_s=settings.connect_timeout_s,
        retries=settings.retries,
    )


def _check(what: str, line: str) -> None:
    """Raise SettingsError for a line of a request that no server would read; its value may be a secret."""
    if not _HEADER_LINE.fullmatch(line):
        raise SettingsError(
            f"{what} cannot be sent: the name of a header has letters, digits and dashes, and its value or a token "
            "ASCII characters in one line; change the settings"
        )


def _same(name: str, address: str) -> bool:
    written, wanted = _bare(name), _bare(address)
    return written == wanted or any(
        f"{a}:{port}" == b for port in _PORTS for a, b in ((written, wanted), (wanted, written))
    )


def _bare(address: str) -> str:
    return address.strip().rpartition("://")[2].partition("/")[0].lower()
