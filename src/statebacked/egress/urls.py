"""Where a request goes. Pure.

One strict reading of a URL: what it does not match is refused, so that no two readers can disagree about the
host. `normal` makes such a URL of what people and redirects write.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from statebacked.egress.addresses import Address, parse_address
from statebacked.ports.egress import EgressRefused

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PORT_MIN: Final = (
    1_024  # below it only the two default ones: the others belong to services that are not HTTP
)
_PORT_MAX: Final = 65_535
_STRICT: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!->@-~]*)?(?P<query>\?[!-~]*)?"
)
_KEPT: Final = "!$%&'()*+,/:;=?@[]~"  # of what a path or a query may hold, besides letters, digits and "-._"
_HOST_CHARACTERS_MAX: Final = 253
_NUMERIC_LABEL: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")


@dataclass(frozen=True, slots=True)
class Target:
    """`name` is the host as the certificate must name it; `address` it, when the URL gives it itself."""

    scheme: str
    name: str
    port: int
    path: str
    address: Address | None

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.name, self.port

    @property
    def authority(self) -> str:
        """What the header `host` says."""
        host = f"[{self.name}]" if ":" in self.name else self.name
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_url(url: str) -> Target:
    """Read a URL as the WHATWG parser writes it; a fragment is dropped. Raises EgressRefused."""
    if not url.startswith(("http://", "https://")):
        raise EgressRefused("only http: and https: URLs can be fetched")
    found = _STRICT.fullmatch(url.partition("#")[0])
    if found is None:
        if "@" in url.split("/")[2]:
            raise EgressRefused("a URL with a user name or a password cannot be fetched")
        raise EgressRefused("the URL cannot be read")
    scheme, host, path, query = found["scheme"], found["host"], found["path"] or "", found["query"] or ""
    port = int(found["port"] or _DEFAULT_PORTS[scheme])
    if not (port in _DEFAULT_PORTS.values() or _PORT_MIN <= port <= _PORT_MAX):
        raise EgressRefused(f"port {port} is not open: 80, 443 and those from {_PORT_MIN} on are")
    return Target(scheme, host.strip("[]"), port, (path or "/") + query, _address_of(host))


def _address_of(host: str) -> Address | None:
    """The address that a host is; other spellings of one than the usual are refused."""
    last = host.removesuffix(".").rpartition(".")[2]
    if not host.startswith("[") and not _NUMERIC_LABEL.fullmatch(last):
        return None
    try:
        return parse_address(host.strip("[]"))
    except ValueError:
        raise EgressRefused(f"{host} is neither a name nor an address") from None


def normal(url: str, base: str = "") -> str:
    """What `parse_url` reads, of a URL as written, relative to `base` if given. Raises EgressRefused.

    Whatever it makes of an odd one, `parse_url` has the last word.
    """
    try:
        parts = urlsplit(urljoin(base, url.strip()))
        host = parts.hostname or ""
        if len(host) > _HOST_CHARACTERS_MAX:
            raise ValueError("no name is that long")
        host = host.encode("idna").decode()
        port = "" if parts.port is None else f":{parts.port}"
    except (ValueError, UnicodeError):
        raise EgressRefused("the URL cannot be read") from None
    user = f"{parts.username or ''}@" if "@" in parts.netloc else ""
    authority = user + (f"[{host}]" if ":" in host else host) + port
    path, query = quote(parts.path, safe=_KEPT), quote(parts.query, safe=_KEPT)
    return urlunsplit((parts.scheme, authority, path, query, ""))
