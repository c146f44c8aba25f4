"""Whose connection it is, as far as limits per address go."""

import ipaddress

from statebacked.api.paths import Scope


def address_of(scope: Scope) -> str | None:
    """The peer to count against, an IPv6 peer by its /64. None for a loopback peer, which no limit counts."""
    client = scope.get("client")
    if not client:
        return None
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return str(client[0])
    if address.is_loopback:
        return None
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
