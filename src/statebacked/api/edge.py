"""What is judged before any route: how much header a request brings, and the Host that it was sent to."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final
from urllib.parse import urlsplit

from statebacked.model.errors import BadRequest, HeadersTooLarge, Misdirected
from statebacked.model.limits import HEADERS_BYTES_MAX

_REMEMBERED_MAX: Final = 1_000
# RFC 9110, 7.2: a name or an address, and a port; nothing that stands before an @.
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9!$%&'()*+,;=._~-]*)(?::[0-9]{0,5})?")
_PORT_MAX: Final = 65_535
# Where two of them are sent, two readers on the way may each believe another.
_ONCE: Final = frozenset(
    {
        b"host",
        b"authorization",
        b"content-length",
        b"idempotency-key",
        b"x-statebacked-org-id",
        b"x-statebacked-act",
    }
)


class Edge:
    """Bound to loopback, a server takes requests for loopback and for its public URL only.

    Otherwise any web page could rebind its own name to 127.0.0.1 and talk to a developer's server.
    """

    def __init__(self, *, bound_to_loopback: bool, public_url: str | None) -> None:
        self._judges_hosts = bound_to_loopback
        self._public_host = urlsplit(public_url).hostname if public_url else None
        self._admitted: set[bytes] = set()

    def check(
        self, sent: Sequence[tuple[bytes, bytes]], headers: Mapping[bytes, bytes], http_version: str
    ) -> None:
        """The headers, as they were sent and by name. Raises BadRequest, Misdirected, HeadersTooLarge."""
        if sum(map(len, chain.from_iterable(sent))) > HEADERS_BYTES_MAX:
            raise HeadersTooLarge(f"the headers are larger than {HEADERS_BYTES_MAX:,} bytes")
        if len(headers) != len(sent):
            _check_repeated(sent)
        host = headers.get(b"host")
        if host is None:
            if http_version != "1.0":
                raise BadRequest("a request names its host: send a Host header")
        elif host not in self._admitted:
            self._judge(host)

    def _judge(self, host: bytes) -> None:
        port = host.rpartition(b":")[2]
        if not _HOST.fullmatch(host) or (port.isdigit() and b":" in host and int(port) > _PORT_MAX):
            raise BadRequest("the Host header is not a host's name and perhaps a port")
        if self._judges_hosts:
            try:
                name = urlsplit("//" + host.decode("ascii")).hostname or ""
            except ValueError:  # brackets around no address
                name = ""
            if name not in {"localhost", self._public_host} and not _is_loopback(name):
                raise Misdirected(
                    "this server is bound to loopback and takes requests for localhost only: "
                    "start it with --public-url to reach it by another name"
                )
        if len(self._admitted) < _REMEMBERED_MAX:
            self._admitted.add(host)


def _check_repeated(sent: Sequence[tuple[bytes, bytes]]) -> None:
    seen: set[bytes] = set()
    for name, _ in sent:
        if name in seen and name in _ONCE:
            raise BadRequest(f"the request has more than one {name.decode()} header")
        seen.add(name)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
