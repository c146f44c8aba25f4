"""What is judged before any route: the Host that a request was sent to, and how much header it brings."""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from statebacked.model.errors import HeadersTooLarge, Misdirected
from statebacked.model.limits import HEADERS_BYTES_MAX

_REMEMBERED_MAX: Final = 1_000


class Edge:
    """Bound to loopback, a server takes requests for loopback and for its public URL only.

    Otherwise any web page could rebind its own name to 127.0.0.1 and talk to a developer's server.
    """

    def __init__(self, *, bound_to_loopback: bool, public_url: str | None) -> None:
        self._judges_hosts = bound_to_loopback
        self._public_host = urlsplit(public_url).hostname if public_url else None
        self._admitted: set[bytes] = set()

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises Misdirected, HeadersTooLarge."""
        if sum(map(len, headers.values())) > HEADERS_BYTES_MAX:
            raise HeadersTooLarge(f"the headers are larger than {HEADERS_BYTES_MAX:,} bytes")
        if self._judges_hosts:
            host = headers.get(b"host")
            if host is not None and host not in self._admitted:
                self._judge(host)

    def _judge(self, host: bytes) -> None:
        try:
            name = urlsplit("//" + host.decode("ascii")).hostname or ""
        except ValueError:
            name = ""
        if name not in {"localhost", self._public_host} and not _is_loopback(name):
            raise Misdirected(
                "this server is bound to loopback and takes requests for localhost only: "
                "start it with --public-url to reach it by another name"
            )
        if len(self._admitted) < _REMEMBERED_MAX:
            self._admitted.add(host)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
