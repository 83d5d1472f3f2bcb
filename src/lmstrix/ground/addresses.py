"""Which machine an address is on. Of names only `localhost` is this one: any other may be pointed elsewhere."""

from __future__ import annotations

import platform
from ipaddress import ip_address


def host_name() -> str:
    """This machine's own name."""
    return short_host_name(platform.node())


def short_host_name(name: str) -> str:
    """A machine's name without its domain, which changes with the network."""
    return name.partition(".")[0].lower() or "localhost"


def host_of(address: str) -> str:
    """The machine of an `address` (host:port): by its name where it is this one, else as the address says."""
    if is_local(address):
        return host_name()
    # The port tells programs apart, not machines; a server may move to another one.
    return address.rpartition(":")[0].strip("[]").lower()


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
