"""Which addresses the server may connect to for others: those of the public internet. Pure.

Python's own `is_global` also says yes to NAT64, 6to4 and multicast, and changes with its version; the tables
here are IANA's special-purpose registries, read as narrowly as they can be.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

_V4_SPECIAL: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' shared space
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, and clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast
    )
)
_V6_GLOBAL: Final = IPv6Network("2000::/3")
_V6_SPECIAL: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address
        "3fff::/20",  # documentation
    )
)
_V4_PRIVATE: Final = tuple(
    IPv4Network(network)
    for network in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
_V6_PRIVATE: Final = (IPv6Network("::1/128"), IPv6Network("fc00::/7"))


def parse_address(text: str) -> Address:
    """An address as the resolver or a URL gives it; mapped IPv4 is unwrapped. Raises ValueError, also for a
    zone id: it names an interface of this machine."""
    if "%" in text:
        raise ValueError("an address with a zone id")
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_public(address: Address) -> bool:
    """An address of the public internet, for one host."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _V4_SPECIAL)
    return address in _V6_GLOBAL and not any(address in network for network in _V6_SPECIAL)


def is_private(address: Address) -> bool:
    """An address of this machine or of a network of its owner. Link-local ones are neither: there clouds hand
    out their credentials."""
    networks = _V4_PRIVATE if isinstance(address, IPv4Address) else _V6_PRIVATE
    return any(address in network for network in networks)
