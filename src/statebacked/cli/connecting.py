"""Why a server could not be reached, in words that say what to do."""

import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx

__all__ = ["why_not_connected"]


def why_not_connected(failure: "httpx.TransportError", url: str, *, timeout_s: float) -> str:
    """One sentence about `failure`, which came before anything was sent."""
    host = urlsplit(url).hostname
    for cause in _causes(failure):
        match cause:
            case socket.gaierror():
                return f"the name {host} does not resolve ({cause.strerror}): check the address {url}"
            case ssl.SSLCertVerificationError():
                return (
                    f"the certificate of {url} is not trusted ({cause.verify_message}): SSL_CERT_FILE names "
                    "a file of certificates to trust"
                )
            case ssl.SSLError():
                return f"{url} does not speak TLS ({cause}): is it http:// there?"
            case ConnectionRefusedError():
                return f"nothing listens at {url}: is the server running? `statebacked dev` starts one"
            case TimeoutError():
                return (
                    f"no connection to {url} in {timeout_s:.0f} seconds: "
                    "is the address right, and does a firewall let it through?"
                )
            case OSError():
                return f"cannot connect to {url}: {cause.strerror or cause}"
            case _:
                pass
    return f"cannot connect to {url}: {failure}"


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """What it was raised from, the first reason first."""
    chain: list[BaseException] = []
    at: BaseException | None = failure
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    return reversed(chain)
