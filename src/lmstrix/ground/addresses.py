"""Which addresses are this machine talking to itself. No name but localhost is looked up: it may change its address."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_local(address: str) -> bool:
    """Whether `address` (host:port) is on this machine."""
    return local_port(address) is not None


def local_port(address: str) -> int | None:
    """The port of an `address` (host:port) on this machine; None for another machine's."""
    host, _, port = address.rpartition(":")
    return int(port) if is_loopback(host.strip("[]")) and port.isdigit() else None
