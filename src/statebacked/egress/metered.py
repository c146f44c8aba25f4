"""A connection whose answers are metered, and read in pieces between which others have their turn."""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, Final

import httpcore

from statebacked.egress.addresses import Address
from statebacked.egress.meter import AnswerMeter

_READ_BYTES: Final = 16_384  # a TLS record; what a parser may find in it is done in one turn of the loop


class PinnedBackend(httpcore.AnyIOBackend):
    """Connects to the address that was checked, whatever the name leads to by now."""

    def __init__(self, address: Address) -> None:
        self._address = str(address)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await super().connect_tcp(self._address, port, timeout, local_address, socket_options)
        return MeteredStream(stream, host)


class MeteredStream(httpcore.AsyncNetworkStream):
    """`name` is the server's, for texts."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, name: str) -> None:
        self._stream = stream
        self._name = name
        self._meter = AnswerMeter(name)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - as above
        """Raises EgressFailed besides what httpcore raises."""
        data = await self._stream.read(min(max_bytes, _READ_BYTES), timeout)
        self._meter.feed(data)
        await asyncio.sleep(0)  # what is there already must not be read in one go
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        if not self._meter.is_untouched:
            self._meter = AnswerMeter(self._name)  # the next request: what is written first is its head
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return MeteredStream(stream, self._name)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's signature
        """A kept connection that is readable is not used again: nor one on which more came than was asked."""
        if info == "is_readable" and self._meter.has_surplus:
            return True
        return self._stream.get_extra_info(info)
