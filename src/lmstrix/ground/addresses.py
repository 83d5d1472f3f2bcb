"""Which addresses are on this machine. Of names only `localhost` counts: any other may be pointed elsewhere."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # A name is not resolved: that could wait for a name server, and the answer could change between two calls.
        return host == "localhost"


def is_local(address: str) -> bool:
    """Whether `address` (host:port) is on this machine."""
    return local_port(address) is not None


def local_port(address: str) -> int | None:
    """The port of an `address` (host:port) on this machine; None for another machine's."""
    host, _, port = address.rpartition(":")
    # An IPv6 host stands in brackets, because its own colons would be taken for the port's.
    return int(port) if is_loopback(host.strip("[]")) and port.isdigit() else None
