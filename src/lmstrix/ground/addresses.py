"""Whether an address is this machine's own."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(address: str) -> bool:
    """Whether a host, or host:port with IPv6 in brackets, is this machine talking to itself."""
    for host in (address, address.rpartition(":")[0]):
        name = host.removeprefix("[").removesuffix("]")
        if name == "localhost":
            return True
        try:
            return ip_address(name).is_loopback
        except ValueError:
            continue  # with a port after it, or a name: a name is looked up nowhere, it may change its address
    return False
