"""Who may talk to the engine: API tokens, and which web pages. Pure.

On loopback everybody on the machine may, as with LM Studio; what must be kept out there is web pages, whose scripts can
reach 127.0.0.1 too. A page from elsewhere shows by its Origin header; one that had its own name resolved to this
address (DNS rebinding) shows by a Host header that is a foreign name.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import re
import secrets
import string
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_TOKEN: Final = re.compile(r"sk-lm-(?P<identifier>[A-Za-z0-9]{8}):(?P<passkey>[A-Za-z0-9]{20})")
_ALPHABET: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIdentity:
    """What a websocket client says it is: the same for all its connections, and the two halves of a token if any."""

    identifier: str
    passkey: str


def new_token() -> str:
    """A fresh API token."""
    identifier, passkey = ("".join(secrets.choice(_ALPHABET) for _ in range(length)) for length in (8, 20))
    return f"sk-lm-{identifier}:{passkey}"


def is_token(text: str) -> bool:
    """Whether `text` has the form of an API token."""
    return _TOKEN.fullmatch(text) is not None


def frame_refusal(token: str | None, client: ClientIdentity) -> str | None:
    """Why a websocket client is refused, or None. Clients send the two halves of a token as identity and passkey."""
    if token is None:
        return None
    offered = f"sk-lm-{client.identifier}:{client.passkey}"
    return None if _same(offered, token) else "This engine asks for an API token, and this is not it"


def header_refusal(token: str | None, authorization: str | None, api_key: str | None) -> str | None:
    """Why an HTTP request is refused, or None."""
    if token is None:
        return None
    scheme, _, value = (authorization or "").partition(" ")
    offered = value.strip() if scheme.lower() == "bearer" else api_key or ""
    return None if _same(offered, token) else "This engine asks for an API token: send Authorization: Bearer sk-lm-…"


def _same(left: str, right: str) -> bool:
    # In constant time: how long a wrong token takes must not tell how much of it was right.
    # A header may hold bytes that are no text; they are wrong too, not an error.
    return hmac.compare_digest(left.encode(errors="surrogatepass"), right.encode())


def page_refusal(host: str | None, origin: str | None, *, own_name: str, cors: bool, guarded: bool) -> str | None:
    """Why a request looks like the work of a foreign web page, or None. `guarded`: a token protects the engine."""
    if not guarded and not _is_own_name(host or "", own_name):
        return f"Host {host!r} is not a name of this engine; use its address"
    if origin is None or cors:
        return None
    # A page that this very address served is not foreign, whatever the address is called.
    with contextlib.suppress(ValueError):  # brackets that do not close
        if host is not None and urlsplit(origin).netloc == host:
            return None
    return "Requests from other web pages are refused; start the engine with CORS allowed to accept them"


def _is_own_name(host: str, own_name: str) -> bool:
    # A literal address cannot be rebound, so only names other than our own are suspicious.
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that do not close
        return False
    # Browsers resolve every name under .localhost to this machine; nobody can register one.
    if name in ("localhost", own_name) or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
