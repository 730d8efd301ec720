"""Where network addresses lead: into the internet, or to this machine and the networks around it.

Whoever connects on somebody else's word resolves the name here first and then connects to the very address that was
checked, so that a name cannot lead elsewhere a moment later. This module opens no connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a name. Raises `OSError`."""


async def resolved(name: str, port: int) -> list[str]:
    """The addresses of a name as this machine knows them."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def is_public(address: str) -> bool:
    """Whether an address is one of the internet's: not this machine, its networks, or a way round into them.

    Raises `ValueError` for what is no address.
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if found in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if found.is_site_local:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host.strip("[]").rstrip(".").lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
